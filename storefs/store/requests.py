"""Sending requests: one bucket and prefix of one driver; bounded, retried, with deadlines.

The base of `store.Store`, which has the verbs. Here are the two ways of sending: a call, whose
deadline bounds it as a whole, and a transfer, which goes on while bytes move. The danger it carries
for all above: a request whose answer is lost may have been done (see `outcomes`).
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import trio

from storefs import threads
from storefs.errors import DeadlineExceeded, StoreError, Throttled
from storefs.store import transfer
from storefs.store.outcomes import Outcomes
from storefs.store.rate import AdaptiveLimit
from storefs.store.retry import RetryPolicy
from storefs.store.transfer import Activity, Progress
from storefs.units import KIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.config import StoreConfig
    from storefs.drivers.base import Connection, StorageDriver
    from storefs.drivers.models import Capabilities

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_PIECE_BYTES = 256 * KIB


class Requests:
    """See the module. `requests` counts what was sent, by verb: the most honest number we have."""

    def __init__(
        self,
        driver: StorageDriver,
        connection: Connection,
        container: str,
        config: StoreConfig,
        *,
        policy: RetryPolicy | None = None,
    ) -> None:
        self.driver = driver
        self.connection = connection
        self.container = container
        self.prefix = config.url.prefix
        self.timeout_seconds = config.timeout_seconds
        self.capabilities: Capabilities = driver.capabilities(connection, container)
        self.requests: Counter[str] = Counter()
        self.outcomes = Outcomes()
        self._policy = policy or RetryPolicy()
        self._calls = AdaptiveLimit(threads.limiter(config.calls))
        self._bodies = AdaptiveLimit(threads.limiter(max(4, config.calls // 2)))
        self._activity = Activity()
        # A piece that arrives is progress; even a link of 8 KiB/s brings one within the time-out.
        self._piece_bytes = min(MOST_PIECE_BYTES, max(KIB, int(config.timeout_seconds * 8) * KIB))

    async def call(
        self,
        verb: str,
        key: str,
        fn: Callable[[], T],
        *,
        timeout_seconds: float | None = None,
        failed: Callable[[StoreError], None] | None = None,
    ) -> T:
        """A request without a body: tried again until its deadline, which bounds it as a whole.

        `failed` is told every error before the next attempt, and the deadline itself.
        """
        seconds = timeout_seconds or self.timeout_seconds
        last: StoreError | None = None
        attempt = 0
        with trio.move_on_after(seconds):
            while True:
                self.requests[verb] += 1
                try:
                    answer = await threads.run_abandonable(self._calls.limiter, fn)
                except StoreError as exc:
                    if failed is not None:
                        failed(exc)
                    delay = self._after(exc, attempt, self._calls)
                    if delay is None:
                        raise
                    last = exc
                else:
                    self._calls.succeeded()
                    return answer
                attempt += 1
                log.debug("%s of %s: %s; again in %.1f s", verb, key, last, delay)
                await trio.sleep(delay)
        why = f": {last.message}" if last else ""
        expired = DeadlineExceeded(f"no answer within {seconds:g} s{why}", key=key, operation=verb)
        if failed is not None:
            failed(expired)
        raise expired from last

    async def transfer(
        self,
        verb: str,
        key: str,
        fn: Callable[[Progress], T],
        *,
        upload: bool,
        moved: Callable[[], int] | None = None,
        failed: Callable[[StoreError], None] | None = None,
    ) -> T:
        """A request that moves bytes: tried again until a time-out has passed without progress.

        `moved` tells how many bytes are safe across attempts; `failed` is told every error.
        """
        limit = self._bodies if upload else self._calls
        attempt = 0
        failing_since: float | None = None
        safe = 0
        while True:
            progress = Progress(self._activity)
            self.requests[verb] += 1
            try:
                answer = await transfer.run(
                    limit.limiter,
                    lambda progress=progress: fn(progress),  # type: ignore[misc]
                    progress,
                    timeout_seconds=self.timeout_seconds,
                    upload=upload,
                )
            except StoreError as exc:
                if failed is not None:
                    failed(exc)
                delay = self._after(exc, attempt, limit)
                now = trio.current_time()
                if moved is not None and moved() > safe:
                    safe, failing_since, attempt = moved(), None, 0
                failing_since = now if failing_since is None else failing_since
                if delay is None or now + delay - failing_since > self.timeout_seconds:
                    raise
                log.debug("%s of %s: %s; again in %.1f s", verb, key, exc, delay)
            else:
                limit.succeeded()
                return answer
            attempt += 1
            await trio.sleep(delay)

    def _after(self, error: StoreError, attempt: int, limit: AdaptiveLimit) -> float | None:
        if isinstance(error, Throttled):
            limit.throttled()
        return self._policy.delay_seconds(attempt, error, random.random)
