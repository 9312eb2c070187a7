"""Work that nobody waits for, except the end of the mount.

Used by the commit path for aborts, removals and admissions. The danger it takes away: an exception
in a background task would cancel the nursery, and with it the mount.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


class Background:
    """A count of tasks, and when there are none."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running = 0
        self._quiet = trio.Event()

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Start it; what it raises is logged."""
        if not self._running:
            self._quiet = trio.Event()
        self._running += 1
        self._nursery.start_soon(self._run, work)

    def loop(self, work: Callable[[], Awaitable[None]]) -> None:
        """As `spawn`, for what goes on until the mount ends: `wait_quiet` does not wait for it."""
        self._nursery.start_soon(self._guarded, work)

    async def wait_quiet(self) -> None:
        """Until nothing runs."""
        while self._running:
            await self._quiet.wait()

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._guarded(work)
        finally:
            self._running -= 1
            if not self._running:
                self._quiet.set()

    @staticmethod
    async def _guarded(work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:
            log.exception("a task in the background failed")
