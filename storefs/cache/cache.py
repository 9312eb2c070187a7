"""The chunk cache: bytes of an object's version, from memory, from disk, or from the store.

Used by readers and by those who have just written. It knows versions and bytes, neither inodes nor
handles, and nothing dirty: what it loses is fetched again. One trio task at a time touches it, so
between two awaits nothing moves. The danger is a wrong byte, which can only come from a version
that does not name its bytes: key, ETag and size together do, and every fetch carries the ETag.

`README.md` beside this file tells a chunk's states and who may touch what.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from storefs.cache import chunks
from storefs.cache.disk import ChunkDisk
from storefs.cache.fetches import Fetches, RangeSource, Run
from storefs.cache.memory import ByteBudget, MemoryChunks
from storefs.cache.shelf import Shelf
from storefs.errors import CacheError
from storefs.units import KIB, MIB, ByteRange, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storefs.cache.chunks import ObjectVersion
    from storefs.config import CacheConfig

__all__ = ["Cache", "CacheStats", "RangeSource"]

REQUEST_BYTES = 8 * MIB
"""One ranged GET at most: at 90 MiB/s a connection it takes five round trips of 20 ms, so the
latency of a request is a fifth of it, and what a reset throws away is small."""
SMALL_BYTES = 256 * KIB
"""An object up to here is always fetched whole: 3 ms more at 90 MiB/s, against a round trip for
each of its pages."""
AHEAD_STALE_SECONDS = 5.0
"""Read-ahead that lies unread for longer gives way when others need the room."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """For `status`, in chunks: read from memory, brought from disk, brought from the store."""

    hits: int
    disk_hits: int
    misses: int
    fetched_bytes: int
    memory_bytes: int
    in_flight_bytes: int
    disk_bytes: int


class Cache:
    """Chunks of objects. On disk, `identity` keeps apart the keys of each store, bucket, prefix."""

    def __init__(self, source: RangeSource, config: CacheConfig, *, identity: str) -> None:
        self._chunk_bytes = config.chunk_bytes
        # Half of the memory for bytes on their way, read-ahead that waits included; half for hot.
        fetching_bytes = max(config.memory_bytes // 2, config.chunk_bytes)
        self._budget = ByteBudget(fetching_bytes)
        # Read-ahead leaves a quarter to those who wait for their bytes.
        self._reserve_bytes = fetching_bytes // 4
        self._run_chunks = max(1, min(REQUEST_BYTES, fetching_bytes // 2) // config.chunk_bytes)
        hot_bytes = max(config.memory_bytes - fetching_bytes, 0)
        self._memory = MemoryChunks(hot_bytes, self._budget, self._evicted)
        disk = None
        if config.directory is not None and config.size_bytes > 0:
            disk = ChunkDisk(
                config.directory,
                identity,
                chunk_bytes=config.chunk_bytes,
                size_bytes=config.size_bytes,
                min_free_bytes=config.min_free_bytes,
            )
        self._shelf = Shelf(
            disk,
            self._memory.peek,
            chunk_bytes=config.chunk_bytes,
            queue_bytes=hot_bytes // 2,
        )
        self._fetches = Fetches(source, self._memory, self._budget, self._shelf, config.chunk_bytes)
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._ended: trio.Event | None = None
        self._hits = 0

    def __repr__(self) -> str:
        return f"<Cache {self._memory!r}, {format_size(self._shelf.size_bytes)} on disk>"

    @property
    def chunk_bytes(self) -> int:
        """Size of a chunk, but for the last of an object."""
        return self._chunk_bytes

    @property
    def read_ahead_bytes(self) -> int:
        """How much may be fetched before it is read, of all readers together."""
        return self._budget.limit_bytes - self._reserve_bytes

    @property
    def stats(self) -> CacheStats:
        """Counters since the start, sizes as of now."""
        return CacheStats(
            hits=self._hits,
            disk_hits=self._fetches.disk_hits,
            misses=self._fetches.misses,
            fetched_bytes=self._fetches.fetched_bytes,
            memory_bytes=self._memory.size_bytes,
            in_flight_bytes=self._budget.used_bytes - self._memory.ahead_bytes,
            disk_bytes=self._shelf.size_bytes,
        )

    async def start(self, nursery: trio.Nursery) -> None:
        """Open the directory and begin to live in `nursery`, into which no exception ever leaves.

        Raises ConfigError for a directory that cannot be used.
        """
        await self._shelf.open()
        await nursery.start(self._live)

    async def aclose(self) -> None:
        """Stop fetching, write behind what can be written in seconds; harmless when repeated."""
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            if self._ended is not None:
                await self._ended.wait()
            await self._shelf.aclose()

    async def read(
        self, version: ObjectVersion, span: ByteRange, *, whole_chunks: bool = True
    ) -> bytes:
        """Exactly the bytes of `span`, which must lie within the object.

        What is missing is fetched: by the chunk, for everybody, or with `whole_chunks` False just
        the bytes asked for. Raises what the store raised; the chunks that are here stay readable.
        Cancelled, the fetch goes on for the others.
        """
        # One chunk, in memory: a look-up and a slice. No await, so nothing may come between.
        index, low = divmod(span.start, self._chunk_bytes)
        high = low + span.stop - span.start
        if high <= self._chunk_bytes:
            data = self._memory.get((version, index))
            if data is not None and high <= len(data):
                self._hits += 1
                return data[low:high]
        if span.stop > version.size:
            raise ValueError(f"{span} is not within the {version.size} bytes of {version.key!r}")
        step = self._run_chunks * self._chunk_bytes
        if len(span) <= 2 * step:
            return await self._read(version, span, whole_chunks)
        # More than the memory may hold: a piece after the other.
        starts = range(span.start, span.stop, step)
        cut = [ByteRange(start, min(start + step, span.stop)) for start in starts]
        return b"".join([await self._read(version, piece, whole_chunks) for piece in cut])

    def prefetch_nowait(
        self, version: ObjectVersion, span: ByteRange, *, request_bytes: int = REQUEST_BYTES
    ) -> int:
        """Start to fetch what is missing of `span`, in requests of about `request_bytes`.

        Returns the offset up to which everything is here or on its way: less than the end of
        `span` when there is no room. Errors are dropped; who then reads asks again.
        """
        if self._nursery is None:
            return span.start
        span = ByteRange(min(span.start, version.size), min(span.stop, version.size))
        longest = max(1, min(request_bytes // self._chunk_bytes, self._run_chunks))
        lacking = [
            index
            for index in chunks.chunks_of(span, self._chunk_bytes)
            if self._is_lacking((version, index))
        ]
        for indexes in chunks.runs(lacking, longest):
            size = len(self._span(version, indexes))
            if not self._take_ahead(size):
                return max(span.start, indexes.start * self._chunk_bytes)
            run = Run(version, indexes, ahead=True)
            run.held_bytes = size
            self._fetches.start(self._nursery, run)
        return span.stop

    def abandon(self, version: ObjectVersion, span: ByteRange) -> None:
        """Nobody is going to read `span` soon: cancel its read-ahead, and let go what has come."""
        for index in chunks.chunks_of(span, self._chunk_bytes):
            run = self._fetches.get((version, index))
            if run is not None:
                self._fetches.abandon(run)
            self._memory.demote((version, index))

    async def admit(self, version: ObjectVersion, offset: int, data: bytes) -> None:
        """Keep bytes that are now stored as part of `version`, so that reading them is free.

        `offset` is a chunk's border, `data` whole chunks or the object's tail. Waits for the disk,
        lest it be outrun; raises nothing but ValueError for bytes that are no chunks.
        """
        stop = offset + len(data)
        if offset % self._chunk_bytes or (stop % self._chunk_bytes and stop != version.size):
            raise ValueError(f"{offset}..{stop} are no chunks of {version.size} bytes")
        if stop > version.size:
            raise ValueError(f"{offset}..{stop} is not within {version.size} bytes")
        first = offset // self._chunk_bytes
        for index, chunk in enumerate(chunks.split(data, self._chunk_bytes), first):
            key = (version, index)
            self._memory.put(key, chunk)
            if key in self._memory:
                self._shelf.put_nowait(key, len(chunk))
            await self._shelf.wait_for_room()

    def rename(self, old: ObjectVersion, new: ObjectVersion) -> None:
        """The same bytes under another key or ETag: what is cached counts for `new`."""
        if old == new or old.size != new.size:
            return
        count = chunks.chunk_count(old.size, self._chunk_bytes)
        for key in self._memory.keys_of(old, count):
            queued = self._shelf.unqueue(key)
            data = self._memory.remove(key)
            renamed = (new, key[1])
            if data is None:
                continue
            self._memory.put(renamed, data)
            if queued and renamed in self._memory:
                self._shelf.put_nowait(renamed, len(data))
        self._shelf.rename(old, new)

    def drop(self, version: ObjectVersion) -> None:
        """Forget a version that nobody will read again."""
        count = chunks.chunk_count(version.size, self._chunk_bytes)
        for key in self._memory.keys_of(version, count):
            self._shelf.unqueue(key)
            self._memory.remove(key)
        self._shelf.drop(version)

    def check_invariants(self) -> None:
        """For tests."""
        self._memory.check_invariants()
        self._fetches.check_invariants()

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        self._ended = trio.Event()
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._shelf.run)
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            self._nursery = None
            self._ended.set()

    async def _read(self, version: ObjectVersion, span: ByteRange, whole_chunks: bool) -> bytes:
        if not span:
            return b""
        indexes = chunks.chunks_of(span, self._chunk_bytes)
        whole_chunks = whole_chunks or version.size <= SMALL_BYTES
        on_disk: set[int] = set()
        if not whole_chunks:
            # Looking at the disk may take an await; all that follows is decided after it.
            lacking = [index for index in indexes if self._is_lacking((version, index))]
            on_disk.update(await self._shelf.look(version, lacking))
        lacking = []
        found: dict[int, bytes] = {}
        coming: dict[int, Run] = {}
        parts: list[ByteRange] = []
        for index in indexes:
            key = (version, index)
            data = self._memory.get(key)
            if data is not None:
                self._hits += 1
                found[index] = data
                continue
            run = self._fetches.get(key)
            if run is not None:
                run.wanted.add(index)
                coming[index] = run
                continue
            chunk = self._span(version, range(index, index + 1))
            part = span.intersect(chunk)
            if whole_chunks or part is None or part == chunk or index in on_disk:
                lacking.append(index)
            else:
                parts.append(part)
        coming |= self._start(version, lacking)
        fetched = [(part, await self._fetches.get_part(version, part)) for part in _joined(parts)]
        for index, run in coming.items():
            found[index] = await run.chunk(index)
        return _assemble(span, self._chunk_bytes, found, fetched)

    def _start(self, version: ObjectVersion, lacking: Sequence[int]) -> dict[int, Run]:
        if lacking and self._nursery is None:
            raise CacheError("the cache is closed")
        coming: dict[int, Run] = {}
        for indexes in chunks.runs(lacking, self._run_chunks):
            assert self._nursery is not None
            run = Run(version, indexes, ahead=False)
            self._fetches.start(self._nursery, run)
            coming |= dict.fromkeys(indexes, run)
        return coming

    def _is_lacking(self, key: tuple[ObjectVersion, int]) -> bool:
        return key not in self._memory and self._fetches.get(key) is None

    def _take_ahead(self, size: int) -> bool:
        if self._budget.take_nowait(size, leave_bytes=self._reserve_bytes):
            return True
        self._memory.demote_older(trio.current_time() - AHEAD_STALE_SECONDS)
        return self._budget.take_nowait(size, leave_bytes=self._reserve_bytes)

    def _evicted(self, key: tuple[ObjectVersion, int]) -> None:
        self._shelf.unqueue(key)

    def _span(self, version: ObjectVersion, indexes: range) -> ByteRange:
        return chunks.run_bytes(version.size, self._chunk_bytes, indexes)


def _joined(parts: Sequence[ByteRange]) -> list[ByteRange]:
    """Ascending ranges, those that touch made one."""
    joined: list[ByteRange] = []
    for part in parts:
        if joined and joined[-1].stop == part.start:
            joined[-1] = ByteRange(joined[-1].start, part.stop)
        else:
            joined.append(part)
    return joined


def _assemble(
    span: ByteRange,
    chunk_bytes: int,
    found: dict[int, bytes],
    fetched: Sequence[tuple[ByteRange, bytes]],
) -> bytes:
    """`span` from whole chunks and from parts fetched by themselves; one copy at most."""
    laid: list[tuple[int, bytes | memoryview]] = [(part.start, data) for part, data in fetched]
    cut = [piece for piece in chunks.pieces(span, chunk_bytes) if piece[0] in found]
    if len(cut) == 1 and not laid:
        index, low, high = cut[0]
        return found[index][low:high]
    if len(laid) == 1 and not cut:
        return fetched[0][1]
    for index, low, high in cut:
        laid.append((index * chunk_bytes + low, memoryview(found[index])[low:high]))
    laid.sort(key=lambda entry: entry[0])
    return b"".join([data for _, data in laid])
