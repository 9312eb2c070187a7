"""After a commit: the bytes just stored go into the cache, so that reading them back is free.

Used by `attempts`. Owns the staging file from then on and removes it. Bounded, because a copy of
100 GB must not push everything else out.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from storefs.cache.chunks import chunk_count, chunk_span
from storefs.handle.ranges import Source
from storefs.units import MIB, ByteRange

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from storefs.cache.chunks import ObjectVersion
    from storefs.handle.ports import ChunkCache
    from storefs.handle.ranges import Content
    from storefs.handle.staging import Staging
    from storefs.handle.stock import Stock

log = logging.getLogger(__name__)

AT_ONCE_BYTES = 8 * MIB
"""Up to this size it is done before `close` returns: a few milliseconds."""

MOST_BYTES = 64 * MIB
"""So much of the beginning of a file is admitted: half of the default memory for chunks."""


def local_chunks(content: Content, chunk_bytes: int) -> Iterator[ByteRange]:
    """Chunks of which no byte comes from an older version, in order; pure."""
    for index in range(chunk_count(min(content.size, MOST_BYTES), chunk_bytes)):
        span = chunk_span(content.size, chunk_bytes, index)
        if all(piece.source is not Source.BASE for piece in content.pieces(span)):
            yield span


async def admit(
    cache: ChunkCache,
    version: ObjectVersion,
    content: Content,
    staging: Staging,
    stock: Stock,
    spawn: Callable[[Callable[[], Awaitable[None]]], None],
) -> None:
    """Put what was written into the cache under its new version; give the staging file back."""

    async def work() -> None:
        try:
            for span in local_chunks(content, cache.chunk_bytes):
                await cache.admit(version, span.start, await staging.read(span))
        except Exception as exc:  # the bytes are in the store: the cache may do without them
            log.warning("what was written to %s is not in the cache: %s", version.key, exc)
        finally:
            await stock.give(staging)

    if content.size <= AT_ONCE_BYTES:
        await work()
    else:
        staging.stored()
        spawn(work)
