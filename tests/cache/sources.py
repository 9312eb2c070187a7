"""A source of ranges for tests: objects in a dict, every request noted, faults on demand."""

from __future__ import annotations

import random
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from storefs.cache import Cache, ObjectVersion
from storefs.config import CacheConfig
from storefs.errors import ObjectChanged, ObjectNotFound
from storefs.units import KIB, ByteRange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CHUNK = 4 * KIB


@dataclass
class Source:
    """`delay_seconds` for each request; `failures` are raised first, one a request."""

    delay_seconds: float = 1.0
    failures: list[Exception] = field(default_factory=list)
    short_by: int = 0
    silent: bool = False
    objects: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    requests: list[tuple[str, ByteRange]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def put(self, key: str, size: int, etag: str = "e1") -> tuple[ObjectVersion, bytes]:
        data = random.Random(f"{key} {etag}").randbytes(size)
        self.objects[key] = (etag, data)
        return ObjectVersion(key, etag, size), data

    async def get_range(self, key: str, offset: int, length: int, *, if_match: str | None) -> bytes:
        self.requests.append((key, ByteRange(offset, offset + length)))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.silent:
                await trio.sleep_forever()
            await trio.sleep(self.delay_seconds)
        finally:
            self.at_once -= 1
        if self.failures:
            raise self.failures.pop(0)
        if key not in self.objects:
            raise ObjectNotFound(key=key)
        etag, data = self.objects[key]
        if if_match not in (None, etag):
            raise ObjectChanged(key=key)
        return data[offset : offset + length - self.short_by]

    @property
    def fetched_bytes(self) -> int:
        return sum(len(span) for _, span in self.requests)

    def twice(self) -> set[tuple[str, int]]:
        """Chunks of which bytes were asked for more than once."""
        counts: dict[tuple[str, int], int] = defaultdict(int)
        for key, span in self.requests:
            for index in range(span.start // CHUNK, -(-span.stop // CHUNK)):
                counts[key, index] += 1
        return {chunk for chunk, count in counts.items() if count > 1}


def config(
    directory: Path | None = None, *, chunks: int = 64, disk_chunks: int = 1000
) -> CacheConfig:
    """A cache of `chunks` small chunks in memory."""
    return CacheConfig(
        directory,
        size_bytes=disk_chunks * CHUNK,
        min_free_bytes=0,
        # Half of it is for hot chunks, each of which counts with what its entry costs.
        memory_bytes=chunks * (CHUNK + KIB),
        chunk_bytes=CHUNK,
    )


@asynccontextmanager
async def started(
    source: Source, settings: CacheConfig, identity: str = "test"
) -> AsyncIterator[Cache]:
    """A cache that lives for the block, and ends tidily."""
    async with trio.open_nursery() as nursery:
        cache = Cache(source, settings, identity=identity)
        await cache.start(nursery)
        try:
            yield cache
            cache.check_invariants()
        finally:
            await cache.aclose()


def whole(version: ObjectVersion) -> ByteRange:
    return ByteRange(0, version.size)


async def expect(cache: Cache, version: ObjectVersion, span: ByteRange, data: bytes) -> None:
    assert await cache.read(version, span) == data
