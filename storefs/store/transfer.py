"""Keep a transfer going while bytes move, and end it when none do.

A thread that is inside an SDK cannot be asked how it is; it reports its bytes through a `Progress`,
and a watchdog beside it cuts the wait once nothing has moved for the time-out. What was handed to
the kernel may still be on its way on a slow link, so an upload is allowed
`SLOWEST_BYTES_PER_SECOND` for the bytes it has sent. The thread itself is left behind (see
`threads`) and keeps its place under the limiter until its socket gives up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from storefs import threads
from storefs.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SLOWEST_BYTES_PER_SECOND = 128 * 1024


class Activity:
    """Bytes moved by all transfers of a store; a transfer that waits for a place watches this."""

    __slots__ = ("moved",)

    def __init__(self) -> None:
        self.moved = 0


class Progress:
    """Bytes moved by one transfer; written by the worker thread, read by the watchdog."""

    __slots__ = ("activity", "moved", "started")

    def __init__(self, activity: Activity) -> None:
        self.activity = activity
        self.moved = 0
        self.started = False

    def __call__(self, moved: int, total: int | None = None) -> None:
        self.activity.moved += 1
        self.moved = moved

    def mark(self) -> int:
        """A number that changes whenever there is reason to go on waiting."""
        return self.moved if self.started else self.activity.moved


async def run(
    limit: trio.CapacityLimiter,
    fn: Callable[[], T],
    progress: Progress,
    *,
    timeout_seconds: float,
    upload: bool,
) -> T:
    """The result of `fn`, run in a thread; DeadlineExceeded after a time-out without progress."""

    def started() -> T:
        progress.started = True
        return fn()

    box: list[T] = []
    failed: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, nursery.cancel_scope, progress, timeout_seconds, upload)
        try:
            box.append(await threads.run_abandonable(limit, started))
        except Exception as exc:  # raised again below, outside the nursery and its group
            failed = exc
        nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed
    if box:
        return box[0]
    raise DeadlineExceeded(f"no byte moved for {timeout_seconds:g} s")


async def _watch(
    scope: trio.CancelScope, progress: Progress, timeout_seconds: float, upload: bool
) -> None:
    seen = progress.mark()
    allowed = timeout_seconds
    since = trio.current_time()
    while True:
        await trio.sleep(min(1.0, timeout_seconds / 8))
        if progress.mark() != seen:
            seen, since = progress.mark(), trio.current_time()
            sent = progress.moved if upload else 0
            allowed = timeout_seconds + sent / SLOWEST_BYTES_PER_SECOND
        elif trio.current_time() - since >= allowed:
            scope.cancel()
            return
