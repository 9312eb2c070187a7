"""Bytes in memory that all uploads of a mount share.

Used by the commit path for bodies that are held while they are sent. The danger would be a holder
that waits for a second share: nobody does, one body is one share.
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Budget:
    """First come, first served, so that a large body is not starved by small ones."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.free_bytes = total_bytes  # INVARIANT: >= 0
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    def __repr__(self) -> str:
        return f"<Budget {self.free_bytes} of {self.total_bytes}, {len(self._waiting)} waiting>"

    @asynccontextmanager
    async def share(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes (what is above the total counts as the total)."""
        size = min(size, self.total_bytes)
        await self._take(size)
        try:
            yield
        finally:
            self._give(size)

    async def _take(self, size: int) -> None:
        if not self._waiting and size <= self.free_bytes:
            self.free_bytes -= size
            return
        turn = (size, trio.Event())
        self._waiting.append(turn)
        try:
            await turn[1].wait()
        except trio.Cancelled:
            if turn in self._waiting:
                self._waiting.remove(turn)
                self._give(0)
            else:
                self._give(size)
            raise

    def _give(self, size: int) -> None:
        self.free_bytes += size
        while self._waiting and self._waiting[0][0] <= self.free_bytes:
            wanted, event = self._waiting.popleft()
            self.free_bytes -= wanted
            event.set()
