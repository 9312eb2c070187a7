"""Fetches in flight: each chunk is fetched once, no matter how many ask for it.

Used by `cache.cache` alone. A fetch (a `Run` of adjacent chunks) is a task of the cache, not of
who asked first, so that a reader that is cancelled takes nothing from the others. It takes what it
can from disk and the rest from the store, puts every chunk into memory as it lands, and ends in a
state, never in an exception. The danger is an error remembered: a failed run is forgotten before
its waiters hear of it, so the next read asks the store again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import trio

from storefs.cache import chunks
from storefs.errors import CacheError, DeadlineExceeded, StorefsError, StoreUnavailable

if TYPE_CHECKING:
    from types import TracebackType

    from storefs.cache.chunks import ObjectVersion
    from storefs.cache.memory import ByteBudget, ChunkKey, MemoryChunks
    from storefs.cache.shelf import Shelf
    from storefs.units import ByteRange

log = logging.getLogger(__name__)


class RangeSource(Protocol):
    """Where bytes come from; the store is one."""

    async def get_range(self, key: str, offset: int, length: int, *, if_match: str | None) -> bytes:
        """Exactly `length` bytes from `offset`, of the version `if_match`."""
        ...


class Run:
    """Adjacent chunks of one version on their way into memory.

    `ahead`: nobody had asked for them when the fetch began. `wanted`: those that a reader has asked
    for by now. When `done` is set, each chunk is in `found`, or `error` says why not.
    """

    __slots__ = (
        "_traceback",
        "ahead",
        "done",
        "error",
        "found",
        "held_bytes",
        "indexes",
        "scope",
        "version",
        "wanted",
    )

    def __init__(self, version: ObjectVersion, indexes: range, *, ahead: bool) -> None:
        self.version = version
        self.indexes = indexes
        self.ahead = ahead
        self.wanted: set[int] = set() if ahead else set(indexes)
        self.found: dict[int, bytes] = {}
        self.error: Exception | None = None
        self._traceback: TracebackType | None = None
        self.done = trio.Event()
        self.scope = trio.CancelScope()
        self.held_bytes = 0  # of the budget, for chunks that have not landed

    def __repr__(self) -> str:
        state = "done" if self.done.is_set() else "in flight"
        return f"<Run {self.version.key!r} {self.indexes} {state} error={self.error!r}>"

    def fail(self, error: Exception) -> None:
        """Keep the first error."""
        if self.error is None:
            self.error = error
            self._traceback = error.__traceback__

    async def chunk(self, index: int) -> bytes:
        """Wait for one chunk; raises the run's error if it did not come."""
        await self.done.wait()
        data = self.found.get(index)
        if data is not None:
            return data
        assert self.error is not None
        # One exception for many waiters: each begins at the traceback of the fetch, else every
        # raise would add its frames to those before.
        raise self.error.with_traceback(self._traceback)


class Fetches:
    """The runs in flight, within the budget of bytes."""

    def __init__(
        self,
        source: RangeSource,
        memory: MemoryChunks,
        budget: ByteBudget,
        shelf: Shelf,
        chunk_bytes: int,
    ) -> None:
        self._source = source
        self._memory = memory
        self._budget = budget
        self._shelf = shelf
        self._chunk_bytes = chunk_bytes
        self._in_flight: dict[ChunkKey, Run] = {}
        self._answered = -1.0  # when the store last answered anything (trio's clock)
        self.fetched_bytes = 0
        self.disk_hits = 0
        self.misses = 0

    def get(self, key: ChunkKey) -> Run | None:
        """The run that brings this chunk, if one is in flight."""
        return self._in_flight.get(key)

    def start(self, nursery: trio.Nursery, run: Run) -> None:
        """Begin a run; one ahead has its share of the budget already (`held_bytes`)."""
        for index in run.indexes:
            self._in_flight[run.version, index] = run
        nursery.start_soon(self._carry, run)

    def abandon(self, run: Run) -> None:
        """Cancel a run that was started ahead, unless a reader has come to want it."""
        if run.ahead and not run.wanted and not run.done.is_set():
            self._forget(run)
            run.scope.cancel()

    async def get_part(self, version: ObjectVersion, span: ByteRange) -> bytes:
        """Bytes of less than a chunk, straight from the store, kept by nobody."""
        self.misses += 1
        share = min(len(span), self._budget.limit_bytes)
        await self._take(share)
        try:
            return await self._get_range(version, span)
        finally:
            self._budget.give(share)

    def check_invariants(self) -> None:
        """For tests."""
        for (version, index), run in self._in_flight.items():
            assert run.version == version
            assert index in run.indexes
            assert not run.done.is_set()

    async def _carry(self, run: Run) -> None:
        try:
            with run.scope:
                await self._bring(run)
        except Exception as exc:
            run.fail(exc)
        finally:
            run.fail(CacheError("the cache is closed"))  # counts only if nothing else was said
            self._forget(run)
            self._budget.give(run.held_bytes)
            run.held_bytes = 0
            run.done.set()
        if not run.wanted and len(run.found) < len(run.indexes):
            unexpected = not isinstance(run.error, StorefsError)
            log.debug("%r: read-ahead dropped", run, exc_info=run.error if unexpected else None)

    async def _bring(self, run: Run) -> None:
        if not run.ahead:
            size = len(self._span(run.version, run.indexes))
            await self._take(size)
            run.held_bytes = size
        missing = await self._from_disk(run)
        gaps = list(chunks.runs(missing, len(run.indexes)))
        if len(gaps) == 1:
            await self._from_store(run, gaps[0])
        elif gaps:
            async with trio.open_nursery() as nursery:
                for gap in gaps:
                    nursery.start_soon(self._from_store, run, gap)

    async def _take(self, amount: int) -> None:
        """A share of the budget for what a reader waits for; it goes before read-ahead."""
        if not self._budget.take_nowait(amount):
            self._memory.demote_for(amount)
            await self._budget.take(amount)

    async def _from_disk(self, run: Run) -> list[int]:
        """Land what is on disk; the indexes of the rest."""
        wanted = [
            (index, len(self._span(run.version, range(index, index + 1)))) for index in run.indexes
        ]
        for index, data in (await self._shelf.read(run.version, wanted)).items():
            self.disk_hits += 1
            self._land(run, index, data)
        return [index for index in run.indexes if index not in run.found]

    async def _from_store(self, run: Run, indexes: range) -> None:
        """Land adjacent chunks by one request; a failure is the run's, not raised."""
        try:
            data = await self._get_range(run.version, self._span(run.version, indexes))
        except Exception as exc:
            run.fail(exc)
            return
        for index, chunk in zip(indexes, chunks.split(data, self._chunk_bytes), strict=True):
            self.misses += 1
            self._land(run, index, chunk)
            self._shelf.put_nowait((run.version, index), len(chunk))

    async def _get_range(self, version: ObjectVersion, span: ByteRange) -> bytes:
        began = trio.current_time()
        try:
            data = await self._source.get_range(
                version.key, span.start, len(span), if_match=version.etag or None
            )
        except DeadlineExceeded as exc:
            # The store was silent for all of the time allowed. Who waits for memory behind this
            # fetch has waited as long, and would else wait that long again.
            if self._answered < began:
                self._budget.refuse_waiting(exc)
            raise
        self._answered = trio.current_time()
        self.fetched_bytes += len(data)
        if len(data) != len(span):
            raise StoreUnavailable(
                f"{len(data)} bytes came instead of {len(span)}",
                key=version.key,
                operation="get_range",
            )
        return data

    def _land(self, run: Run, index: int, data: bytes) -> None:
        key = (run.version, index)
        run.found[index] = data
        run.held_bytes -= len(data)
        if run.ahead and index not in run.wanted:
            self._memory.put_ahead(key, data)
        else:
            self._budget.give(len(data))
            self._memory.put(key, data)

    def _forget(self, run: Run) -> None:
        for index in run.indexes:
            if self._in_flight.get((run.version, index)) is run:
                del self._in_flight[run.version, index]

    def _span(self, version: ObjectVersion, indexes: range) -> ByteRange:
        return chunks.run_bytes(version.size, self._chunk_bytes, indexes)
