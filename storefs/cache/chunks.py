"""Byte ranges as chunks of an object, and back: plain arithmetic.

Used by the cache and by those who ask it. Knows neither memory, disk nor store. The one danger is
the last chunk, which is as short as the object's tail: every length here comes from `chunk_span`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs.units import ByteRange, ChunkIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """What bytes are meant: the key below the mounted prefix, the ETag, the size in bytes."""

    key: str
    etag: str
    size: int


def chunk_count(size: int, chunk_bytes: int) -> int:
    """How many chunks an object of `size` bytes has; none if it is empty."""
    return -(-size // chunk_bytes)


def chunk_span(size: int, chunk_bytes: int, index: int) -> ByteRange:
    """The bytes of chunk `index` of an object of `size` bytes.

    Raises ValueError where the object has no such chunk.
    """
    start = index * chunk_bytes
    if not 0 <= start < size:
        raise ValueError(f"an object of {size} bytes has no chunk {index}")
    return ByteRange(start, min(start + chunk_bytes, size))


def chunks_of(span: ByteRange, chunk_bytes: int) -> range:
    """Indexes of the chunks that hold bytes of `span`."""
    if not span:
        return range(0)
    return range(span.start // chunk_bytes, (span.stop - 1) // chunk_bytes + 1)


def run_bytes(size: int, chunk_bytes: int, run: range) -> ByteRange:
    """The bytes of adjacent chunks `run`, which is not empty."""
    first = chunk_span(size, chunk_bytes, run[0])
    return ByteRange(first.start, chunk_span(size, chunk_bytes, run[-1]).stop)


def runs(indexes: Iterable[int], longest: int) -> Iterator[range]:
    """Ascending `indexes` as stretches of adjacent ones, each of at most `longest` chunks."""
    start: int | None = None
    previous = -1
    for index in indexes:
        if start is None:
            start = index
        elif index != previous + 1 or index - start >= longest:
            yield range(start, previous + 1)
            start = index
        previous = index
    if start is not None:
        yield range(start, previous + 1)


def pieces(span: ByteRange, chunk_bytes: int) -> Iterator[tuple[ChunkIndex, int, int]]:
    """`span` cut at the chunks' borders: (chunk, first byte in it, byte behind the last in it)."""
    for index in chunks_of(span, chunk_bytes):
        low = index * chunk_bytes
        yield (
            ChunkIndex(index),
            max(span.start - low, 0),
            min(span.stop - low, chunk_bytes),
        )


def split(data: bytes, chunk_bytes: int) -> Iterator[bytes]:
    """`data`, which begins at a chunk's border, as chunks.

    A lone chunk is the object given, not a copy.
    """
    for start in range(0, len(data), chunk_bytes):
        yield data[start : start + chunk_bytes]
