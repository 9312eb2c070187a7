"""How many requests may be in flight: fewer when the store says SlowDown, slowly more again.

Additive increase, multiplicative decrease, on a trio limiter; used by the store alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio

FEWEST = 4
SUCCESSES_PER_STEP = 32


class AdaptiveLimit:
    """Holds `limiter.total_tokens` between FEWEST and what it was given."""

    def __init__(self, limiter: trio.CapacityLimiter) -> None:
        self.limiter = limiter
        self._most = int(limiter.total_tokens)
        self._successes = 0

    def throttled(self) -> None:
        """The store asked for less: halve."""
        self._successes = 0
        self.limiter.total_tokens = max(FEWEST, int(self.limiter.total_tokens) // 2)

    def succeeded(self) -> None:
        """An answer: one more place after every SUCCESSES_PER_STEP of them."""
        if self.limiter.total_tokens >= self._most:
            return
        self._successes += 1
        if self._successes >= SUCCESSES_PER_STEP:
            self._successes = 0
            self.limiter.total_tokens = int(self.limiter.total_tokens) + 1
