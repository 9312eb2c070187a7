"""The disk as the cache sees it: look, read, and write behind.

Used by `cache.cache` and `cache.fetches`. Everything that blocks goes to threads from here, so
that a chunk on disk never waits for one being written. Without a directory nothing is ever found
or kept. What waits to be written is a queue of keys, not of bytes: the bytes are those in memory,
and a chunk that memory evicts first is simply not written, so a slow disk costs hits and neither
memory nor a reader's time. The danger is to make a reader wait: only `wait_for_room` waits for
writing, and only writers call it.
"""

from __future__ import annotations

import logging
from itertools import groupby
from typing import TYPE_CHECKING

import trio

from storefs import threads
from storefs.cache.presence import PAGE_CHUNKS, Page, Presence, is_set

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from storefs.cache.chunks import ObjectVersion
    from storefs.cache.disk import ChunkDisk
    from storefs.cache.memory import ChunkKey

log = logging.getLogger(__name__)

READ_THREADS = 8
"""Chunks read from disk at a time; a guess: an SSD likes a few, two cores check no more."""
BATCH_CHUNKS = 256
"""Written in one crossing at most, so that small chunks do not hold the thread for long."""
GATHER_SECONDS = 0.2
"""A change of the index for each small file would cost more than its bytes."""
UPKEEP_SECONDS = 60.0
HANGING_SECONDS = 2.0
DRAIN_SECONDS = 5.0
"""How long closing may take to write what is still queued; it is only a cache."""


class Shelf:
    """The disk, or none. `peek` gives the bytes of a chunk that is in memory."""

    def __init__(
        self,
        disk: ChunkDisk | None,
        peek: Callable[[ChunkKey], bytes | None],
        *,
        chunk_bytes: int,
        queue_bytes: int,
    ) -> None:
        self._disk = disk
        self._peek = peek
        self._chunk_bytes = chunk_bytes
        self._queue_limit_bytes = queue_bytes
        self._read_limit = threads.limiter(READ_THREADS)
        self._write_limit = threads.limiter(1)
        self._presence = Presence(chunk_bytes)
        # Keys and lengths of what waits, oldest first. INVARIANT: queued_bytes is their sum.
        self._queue: dict[ChunkKey, int] = {}
        self.queued_bytes = 0
        self._filled = trio.Event()  # something is queued
        self._enough = trio.Event()  # so much that it should be written now
        self._shrunk = trio.lowlevel.ParkingLot()
        self._hangs = False  # nothing was written since somebody has waited in vain

    @property
    def size_bytes(self) -> int:
        """Bytes of chunks on disk, of all mounts that share the directory, as last seen."""
        return 0 if self._disk is None else self._disk.size_bytes

    async def open(self) -> None:
        """Open the directory. Raises ConfigError for what its owner must put right."""
        if self._disk is not None:
            await threads.run(self._write_limit, self._disk.open)

    async def run(self) -> None:
        """Write behind and keep order, until cancelled; raises nothing else."""
        if self._disk is None:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._upkeep, self._disk)
            while True:
                await self._filled.wait()
                with trio.move_on_after(GATHER_SECONDS):
                    await self._enough.wait()
                await self._write_batch(self._disk)

    async def aclose(self) -> None:
        """Write what is queued, within a few seconds, and close; harmless when repeated."""
        disk, self._disk = self._disk, None
        if disk is None:
            return
        with trio.CancelScope(shield=True):
            with trio.move_on_after(DRAIN_SECONDS):
                while self._queue:
                    await self._write_batch(disk)
            await threads.run(self._write_limit, disk.close)
        self._queue.clear()
        self.queued_bytes = 0
        self._shrunk.unpark_all()

    def known(self, version: ObjectVersion, indexes: Sequence[int]) -> list[int] | None:
        """Those of `indexes` on disk, if that is known without asking."""
        if self._disk is None:
            return []
        now = trio.current_time()
        found = []
        for index in indexes:
            page = self._presence.page(version, index // PAGE_CHUNKS, now)
            if page is None:
                return None
            if is_set(page, index):
                found.append(index)
        return found

    async def look(self, version: ObjectVersion, indexes: Sequence[int]) -> list[int]:
        """Those of `indexes` that should be on disk; a thread is asked only if it must be."""
        found = self.known(version, indexes)
        if found is not None:
            return found
        pages = {number: await self._page(version, number) for number in _pages_of(indexes)}
        return [index for index in indexes if is_set(pages[index // PAGE_CHUNKS], index)]

    async def read(
        self, version: ObjectVersion, wanted: Sequence[tuple[int, int]]
    ) -> dict[int, bytes]:
        """Chunks by index, for ascending `wanted` indexes and lengths; the rest is not on disk."""
        disk = self._disk
        if disk is None or not wanted:
            return {}
        found: dict[int, bytes] = {}
        for number, group in groupby(wanted, key=lambda chunk: chunk[0] // PAGE_CHUNKS):
            found |= await self._read_page(disk, version, number, list(group))
        return found

    def put_nowait(self, key: ChunkKey, length: int) -> None:
        """Write this chunk, which is in memory, when there is time."""
        if self._disk is None or key in self._queue:
            return
        self._queue[key] = length
        self.queued_bytes += length
        self._filled.set()
        if self._is_enough(self._disk):
            self._enough.set()

    def unqueue(self, key: ChunkKey) -> bool:
        """The chunk leaves memory: it is not written. True if it was going to be."""
        length = self._queue.pop(key, None)
        if length is None:
            return False
        self.queued_bytes -= length
        self._shrunk.unpark_all()
        return True

    async def wait_for_room(self) -> None:
        """Wait until the queue is short enough to take more without losing any.

        A disk that hangs is waited for once, not by every `close` again.
        """
        if self._hangs:
            return
        with trio.move_on_after(HANGING_SECONDS) as scope:
            while self._disk is not None and self.queued_bytes > self._queue_limit_bytes:
                await self._shrunk.park()
        self._hangs = scope.cancelled_caught

    def rename(self, old: ObjectVersion, new: ObjectVersion) -> None:
        """What is on disk under `old` is found under `new` too."""
        if self._disk is not None:
            self._disk.rename_nowait(old, new)
            self._presence.forget(new)

    def drop(self, version: ObjectVersion) -> None:
        """Remove a version from disk, soon."""
        if self._disk is not None:
            self._disk.drop_nowait(version)
            self._presence.forget(version)

    async def _read_page(
        self,
        disk: ChunkDisk,
        version: ObjectVersion,
        number: int,
        wanted: Sequence[tuple[int, int]],
    ) -> dict[int, bytes]:
        page = self._presence.page(version, number, trio.current_time())
        if page is None:
            token, numbers, found = await threads.run(
                self._read_limit,
                disk.find_and_read,
                version,
                number * PAGE_CHUNKS,
                PAGE_CHUNKS,
                wanted,
            )
            page = self._presence.learn(version, number, token, numbers, trio.current_time())
        else:
            there = [chunk for chunk in wanted if is_set(page, chunk[0])]
            if not there:
                return {}
            found = await threads.run(self._read_limit, disk.read, page.token, there)
        for index, _ in wanted:
            if index not in found:
                self._presence.unmark(version, index)
        return found

    def _is_enough(self, disk: ChunkDisk) -> bool:
        """Is so much queued that writing should not wait for more?"""
        return self.queued_bytes >= min(disk.batch_bytes, self._queue_limit_bytes)

    async def _page(self, version: ObjectVersion, number: int) -> Page:
        page = self._presence.page(version, number, trio.current_time())
        if page is not None:
            return page
        if self._disk is None:
            return Page(b"", 0, 0.0)
        token, found = await threads.run(
            self._read_limit, self._disk.find, version, number * PAGE_CHUNKS, PAGE_CHUNKS
        )
        return self._presence.learn(version, number, token, found, trio.current_time())

    async def _write_batch(self, disk: ChunkDisk) -> None:
        batch: list[tuple[ChunkKey, bytes | None]] = []
        size = 0
        for key, length in self._queue.items():
            if batch and (size + length > disk.batch_bytes or len(batch) == BATCH_CHUNKS):
                break
            data = self._peek(key)
            if data is not None:
                size += length
            batch.append((key, data))
        written: list[tuple[ObjectVersion, int, bytes]] = []
        try:
            if batch:
                written = await threads.run(
                    self._write_limit,
                    disk.write,
                    [(*key, data) for key, data in batch if data is not None],
                )
        except Exception:
            log.exception("writing %d chunks to the cache failed; they are not kept", len(batch))
        self._hangs = False
        # Only now: cancelled while it waits for the thread, a batch is still in the queue for
        # closing to write, and one renamed meanwhile is written under its new name.
        for key, _ in batch:
            self.unqueue(key)
        if not self._queue:
            self._filled = trio.Event()
        if not self._is_enough(disk):
            self._enough = trio.Event()
        for version, index, token in written:
            self._presence.mark(version, index, token)

    async def _upkeep(self, disk: ChunkDisk) -> None:
        while True:
            try:
                await threads.run(self._write_limit, disk.maintain)
            except Exception:
                log.exception("upkeep of the cache directory failed")
            await trio.sleep(UPKEEP_SECONDS)


def _pages_of(indexes: Sequence[int]) -> list[int]:
    return sorted({index // PAGE_CHUNKS for index in indexes})
