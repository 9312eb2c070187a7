"""Staging files kept ready: a small file then costs no file to be made and removed on local disk.

Used by the writer, which takes, and by all who are done with one. Making and removing the two files
took 1 ms here on an overlay file system, more than all else that a small file needs. The danger is
a file that others still see: one that is linked into lost+found, or mapped, is never used again.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from storefs import threads
from storefs.handle.staging import Staging
from storefs.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from storefs.handle.record import Header

MOST_IDLE = 32

INLINE_BYTES = 8 * MIB
"""Freeing the pages of larger files takes long enough for a thread."""


class Stock:
    """Staging files of one instance directory."""

    def __init__(self, directory: Path, limiter: trio.CapacityLimiter) -> None:
        self._directory = directory
        self._limiter = limiter
        self._names = count(1)
        self._idle: list[Staging] = []

    def __repr__(self) -> str:
        return f"<Stock of {len(self._idle)} in {self._directory}>"

    def take(self, header: Header) -> Staging:
        """An empty staging file for what the header names."""
        if self._idle:
            staging = self._idle.pop()
            staging.restart(header)
            return staging
        return Staging(self._directory, str(next(self._names)), header, self._limiter)

    async def give(self, staging: Staging) -> None:
        """The bytes are in the store, or nobody's any more."""
        if staging.size_on_disk > INLINE_BYTES:
            await threads.run(self._limiter, staging.remove)
        elif len(self._idle) < MOST_IDLE and staging.empty():
            self._idle.append(staging)
        else:
            staging.remove()

    def close(self) -> None:
        """Remove what is ready; may be repeated."""
        for staging in self._idle:
            staging.remove()
        self._idle.clear()
