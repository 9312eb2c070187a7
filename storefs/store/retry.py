"""Decide whether a failed request is tried again, and when. Pure: the store sleeps, not we.

Full jitter (each delay is random between nothing and the exponential bound) because many mounts
that fail together must not come back together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs.errors import StoreError, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`first_seconds` doubles up to `most_seconds`; a throttled request waits at least a second."""

    first_seconds: float = 0.1
    most_seconds: float = 5.0
    throttled_seconds: float = 1.0

    def delay_seconds(
        self, attempt: int, error: StoreError, random: Callable[[], float]
    ) -> float | None:
        """Seconds before attempt number `attempt + 2`, or None where trying again is no use.

        `random` gives numbers from 0 to 1.
        """
        if not error.retryable:
            return None
        bound = min(self.most_seconds, self.first_seconds * 2.0 ** min(attempt, 16))
        if isinstance(error, Throttled):
            return self.throttled_seconds + bound * random()
        return bound * random()
