"""Reading one open file: the bytes asked for from the cache, and the next ones fetched ahead.

Used by the table of open files, one `Reader` a handle. Knows a version and offsets, neither inode
nor dirty bytes. The danger is a short answer: the kernel pads it with zeroes, which is silent
corruption, so `assert_whole` stands between the cache and every answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from storefs.errors import CacheError
from storefs.handle.window import MAX_WINDOW_BYTES, Window
from storefs.units import ByteRange

if TYPE_CHECKING:
    from storefs.cache.cache import Cache
    from storefs.cache.chunks import ObjectVersion


class Reader:
    """One open handle's reading. Reads may run side by side."""

    def __init__(self, cache: Cache, version: ObjectVersion) -> None:
        self._cache = cache
        self._version = version
        self._window = Window(
            cache.chunk_bytes,
            max(cache.chunk_bytes, min(MAX_WINDOW_BYTES, cache.read_ahead_bytes)),
        )
        self._closed = False

    def __repr__(self) -> str:
        return f"<Reader of {self._version!r}, {len(self._window.streams)} streams>"

    @property
    def version(self) -> ObjectVersion:
        """What is read."""
        return self._version

    @version.setter
    def version(self, version: ObjectVersion) -> None:
        """Our own commit made another version of the file; reads that wait finish on the old."""
        if version != self._version:
            self._abandon(self._window.rebase())
            self._version = version

    async def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset`, fewer only at the end of the object.

        Raises what the store raised, ObjectChanged if this version is gone and not cached. Fetches
        ahead once the reads show where they are going.
        """
        version = self._version
        stop = min(offset + size, version.size)
        if offset >= stop:
            return b""
        span = ByteRange(offset, stop)
        advice = self._window.observe(span, version.size)
        if advice.dropped is not None:
            self._abandon([advice.dropped])
        if advice.ahead is not None and not self._closed:
            advice.stream.reached = self._cache.prefetch_nowait(
                version, advice.ahead, request_bytes=advice.request_bytes
            )
        data = await self._cache.read(version, span, whole_chunks=advice.whole_chunks)
        return assert_whole(data, span)

    def close(self) -> None:
        """Cancel the read-ahead that nobody has waited for; harmless when repeated."""
        self._closed = True
        self._abandon(self._window.rebase())

    def _abandon(self, spans: list[ByteRange]) -> None:
        for span in spans:
            self._cache.abandon(self._version, span)


def assert_whole(data: bytes, span: ByteRange) -> bytes:
    """Let exactly the bytes of `span` pass. Raises CacheError: the kernel pads with zeroes."""
    if len(data) != len(span):
        raise CacheError(f"{len(data)} bytes instead of {len(span)} for {span}: not answered")
    return data
