"""Chunks in memory, bounded in bytes: the hot ones, and those fetched ahead of a reader.

Used by `cache.cache` alone, from the trio thread, so nothing here waits for a lock. A chunk lives
in one of two places:

- *ahead*: fetched before anybody asked. It is never evicted, because a byte that goes before it is
  read is fetched twice; instead it keeps its share of the budget of bytes being fetched.
- *hot*: read at least once, or written here. Least recently used out first.

The first read moves a chunk from ahead to hot. The danger is a reader that goes away and leaves
its chunks ahead, which would starve the others: it says so (`demote`), and what lies there for
long is demoted for other read-ahead (`demote_older`), or at once for a reader who waits for his
bytes (`demote_for`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio
from cachetools import Cache, LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storefs.cache.chunks import ObjectVersion

    ChunkKey = tuple[ObjectVersion, int]

OVERHEAD_BYTES = 512
"""What an entry costs beside its bytes: key, version, table. Measured: 460, with a key of 25."""


class ByteBudget:
    """So many bytes at a time; who asks for more waits, first come first served."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        # INVARIANT: 0 <= used_bytes <= limit_bytes
        self.used_bytes = 0
        self._waiting: deque[_Waiter] = deque()

    def __repr__(self) -> str:
        return f"<ByteBudget {self.used_bytes}/{self.limit_bytes}, {len(self._waiting)} waiting>"

    @property
    def is_contended(self) -> bool:
        """Does anybody wait?"""
        return bool(self._waiting)

    def take_nowait(self, amount: int, *, leave_bytes: int = 0) -> bool:
        """Take `amount` if it is free now, nobody waits, and `leave_bytes` stay free."""
        if self._waiting or self.used_bytes + amount + leave_bytes > self.limit_bytes:
            return False
        self.used_bytes += amount
        return True

    async def take(self, amount: int) -> None:
        """Wait for `amount`, which must not exceed the limit; cancelled, nothing is taken.

        Raises what `refuse_waiting` was given while this waited.
        """
        if amount > self.limit_bytes:
            raise ValueError(f"{amount} bytes never fit in {self.limit_bytes}")
        if self.take_nowait(amount):
            return
        waiter = _Waiter(amount)
        self._waiting.append(waiter)
        try:
            await waiter.ready.wait()
        except trio.Cancelled:
            if waiter.granted:
                self.give(amount)
            else:
                self._waiting.remove(waiter)
                self._grant()
            raise
        if waiter.error is not None:
            raise waiter.error

    def give(self, amount: int) -> None:
        """Give back what was taken."""
        self.used_bytes -= amount
        self._grant()

    def refuse_waiting(self, error: Exception) -> None:
        """Answer everybody who waits now with `error`."""
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            waiter.error = error
            waiter.ready.set()

    def _grant(self) -> None:
        while self._waiting:
            waiter = self._waiting[0]
            if self.used_bytes + waiter.amount > self.limit_bytes:
                return
            self._waiting.popleft()
            self.used_bytes += waiter.amount
            waiter.granted = True
            waiter.ready.set()


class _Waiter:
    __slots__ = ("amount", "error", "granted", "ready")

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.granted = False
        self.error: Exception | None = None
        self.ready = trio.Event()


class _Hot(LRUCache["ChunkKey", bytes]):
    """cachetools' LRU that says what it evicts."""

    def __init__(self, limit_bytes: int, evicted: Callable[[ChunkKey], None]) -> None:
        super().__init__(limit_bytes, getsizeof=lambda data: len(data) + OVERHEAD_BYTES)
        self._evicted = evicted

    def popitem(self) -> tuple[ChunkKey, bytes]:
        key, data = super().popitem()
        self._evicted(key)
        return key, data

    def peek(self, key: ChunkKey) -> bytes | None:
        """The chunk, without making it the most recently used (`get` would)."""
        return Cache.__getitem__(self, key) if key in self else None


class MemoryChunks:
    """The chunks in memory. `budget` is shared with the fetches; `evicted` hears what goes."""

    def __init__(
        self, limit_bytes: int, budget: ByteBudget, evicted: Callable[[ChunkKey], None]
    ) -> None:
        self._budget = budget
        self._evicted = evicted
        self._hot = _Hot(limit_bytes, evicted)
        # Each holds len(data) of the budget. Oldest first; values are (data, time it landed).
        self._ahead: dict[ChunkKey, tuple[bytes, float]] = {}
        # INVARIANT: ahead_bytes == sum of the lengths in _ahead
        self.ahead_bytes = 0

    def __contains__(self, key: ChunkKey) -> bool:
        return key in self._hot or key in self._ahead

    def __repr__(self) -> str:
        return f"<MemoryChunks {len(self._hot)} hot, {len(self._ahead)} ahead>"

    @property
    def size_bytes(self) -> int:
        """Bytes held, hot and ahead, with their overhead."""
        return int(self._hot.currsize) + self.ahead_bytes

    def get(self, key: ChunkKey) -> bytes | None:
        """The chunk, for a reader: it becomes the most recently used."""
        try:
            return self._hot[key]
        except KeyError:
            pass
        if key not in self._ahead:
            return None
        return self._to_hot(key)

    def peek(self, key: ChunkKey) -> bytes | None:
        """The chunk, for the writer to disk: nothing moves."""
        if key in self._ahead:
            return self._ahead[key][0]
        return self._hot.peek(key)

    def put(self, key: ChunkKey, data: bytes) -> None:
        """Keep a chunk as hot; one that is larger than all of the memory is not kept."""
        if key in self._ahead:
            self._remove_ahead(key)
        if len(data) + OVERHEAD_BYTES <= self._hot.maxsize:
            self._hot[key] = data
        else:
            self._evicted(key)

    def put_ahead(self, key: ChunkKey, data: bytes) -> None:
        """Keep a chunk that nobody has read, with the share of the budget it was fetched under.

        If somebody waits for the budget, it is hot instead, and may be evicted.
        """
        if key in self:
            self._budget.give(len(data))
            return
        if self._budget.is_contended:
            self._budget.give(len(data))
            self.put(key, data)
            return
        self._ahead[key] = (data, trio.current_time())
        self.ahead_bytes += len(data)

    def demote(self, key: ChunkKey) -> None:
        """Nobody is going to read it soon: no longer ahead, hot as long as there is room."""
        if key in self._ahead:
            self._to_hot(key)

    def demote_older(self, than: float) -> None:
        """Demote what has been lying ahead since before `than` (trio's clock)."""
        old = []
        for key, (_, landed) in self._ahead.items():
            if landed >= than:
                break
            old.append(key)
        for key in old:
            self._to_hot(key)

    def demote_for(self, amount: int) -> None:
        """Demote, oldest first, until the budget has room for somebody who waits for his bytes.

        Else an idle reader's read-ahead would keep him waiting for ever.
        """
        while self._ahead and self._budget.used_bytes + amount > self._budget.limit_bytes:
            self._to_hot(next(iter(self._ahead)))

    def keys_of(self, version: ObjectVersion, count: int) -> list[ChunkKey]:
        """What is here of a version with `count` chunks."""
        if count <= len(self._hot) + len(self._ahead):
            return [key for index in range(count) if (key := (version, index)) in self]
        return [key for key in self._all() if key[0] == version]

    def remove(self, key: ChunkKey) -> bytes | None:
        """Take a chunk out; None if it is not here."""
        if key in self._ahead:
            return self._remove_ahead(key)
        data: bytes | None = self._hot.pop(key, None)
        return data

    def check_invariants(self) -> None:
        """For tests."""
        assert self.ahead_bytes == sum(len(data) for data, _ in self._ahead.values())
        assert self.ahead_bytes <= self._budget.used_bytes <= self._budget.limit_bytes
        assert self._hot.currsize <= self._hot.maxsize
        assert not set(self._ahead) & set(self._hot)

    def _all(self) -> Iterator[ChunkKey]:
        yield from self._hot
        yield from self._ahead

    def _to_hot(self, key: ChunkKey) -> bytes:
        data = self._remove_ahead(key)
        self.put(key, data)
        return data

    def _remove_ahead(self, key: ChunkKey) -> bytes:
        data, _ = self._ahead.pop(key)
        self.ahead_bytes -= len(data)
        self._budget.give(len(data))
        return data
