"""The only place that hands a synchronous call to a worker thread, under a named limiter.

What goes into a thread is bytes, paths and file descriptors; never an inode, a handle or the cache
map. The danger: a thread cannot be cancelled. `run` with `abandon=True` leaves it behind and gives
its place in the limiter back only when the call really ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


def limiter(places: int) -> trio.CapacityLimiter:
    """At most `places` calls at a time."""
    return trio.CapacityLimiter(places)


async def run(
    limit: trio.CapacityLimiter, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run `fn` in a thread and wait for it, also when cancelled: the call is known to be over."""
    return await trio.to_thread.run_sync(lambda: fn(*args, **kwargs), limiter=limit)


async def run_abandonable(
    limit: trio.CapacityLimiter, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run `fn` in a thread; a cancelled caller goes on at once and the thread ends by itself."""
    return await trio.to_thread.run_sync(
        lambda: fn(*args, **kwargs), limiter=limit, abandon_on_cancel=True
    )
