"""Chunks in memory, and the budget of bytes on their way."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from storefs.cache.chunks import ObjectVersion
from storefs.cache.memory import OVERHEAD_BYTES, ByteBudget, MemoryChunks

VERSION = ObjectVersion("k", "e", 1000)
LENGTH = 100


def build(hot: int, ahead: int = 10) -> tuple[MemoryChunks, ByteBudget, list[int]]:
    evicted: list[int] = []
    budget = ByteBudget(ahead * LENGTH)
    limit = hot * (LENGTH + OVERHEAD_BYTES)
    return MemoryChunks(limit, budget, lambda key: evicted.append(key[1])), budget, evicted


def chunk(index: int) -> bytes:
    return bytes([index]) * LENGTH


async def test_the_least_recently_used_chunk_goes_first() -> None:
    memory, _, evicted = build(hot=2)
    memory.put((VERSION, 0), chunk(0))
    memory.put((VERSION, 1), chunk(1))
    memory.get((VERSION, 0))
    memory.put((VERSION, 2), chunk(2))
    assert evicted == [1]
    assert memory.get((VERSION, 0)) == chunk(0)
    memory.check_invariants()


async def test_peeking_does_not_count_as_use() -> None:
    memory, _, evicted = build(hot=2)
    memory.put((VERSION, 0), chunk(0))
    memory.put((VERSION, 1), chunk(1))
    assert memory.peek((VERSION, 0)) == chunk(0)
    memory.put((VERSION, 2), chunk(2))
    assert evicted == [0]


async def test_a_chunk_ahead_stays_until_it_is_read_and_holds_its_share_until_then() -> None:
    memory, budget, evicted = build(hot=1)
    assert budget.take_nowait(LENGTH)
    memory.put_ahead((VERSION, 9), chunk(9))
    for index in range(5):
        memory.put((VERSION, index), chunk(index))
    assert evicted == [0, 1, 2, 3]
    assert budget.used_bytes == LENGTH
    assert memory.get((VERSION, 9)) == chunk(9)
    assert budget.used_bytes == 0
    memory.check_invariants()


async def test_what_nobody_reads_for_long_gives_its_share_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    memory, budget, _ = build(hot=5)
    for index in range(2):
        assert budget.take_nowait(LENGTH)
        memory.put_ahead((VERSION, index), chunk(index))
        await trio.sleep(10)
    memory.demote_older(trio.current_time() - 15)
    assert budget.used_bytes == LENGTH
    assert (VERSION, 0) in memory


async def test_a_chunk_larger_than_the_memory_is_not_kept() -> None:
    memory, _, evicted = build(hot=1)
    memory.put((VERSION, 3), b"x" * 10_000)
    assert (VERSION, 3) not in memory
    assert evicted == [3]


async def test_who_asks_for_more_than_is_free_waits_his_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    budget = ByteBudget(10)
    order: list[str] = []

    async def use(name: str, amount: int) -> None:
        await budget.take(amount)
        order.append(name)
        await trio.sleep(1)
        budget.give(amount)

    async with trio.open_nursery() as nursery:
        await budget.take(8)
        nursery.start_soon(use, "large", 10)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(use, "small", 1)  # would fit, but came later
        await trio.testing.wait_all_tasks_blocked()
        assert order == []
        assert not budget.take_nowait(1)
        budget.give(8)
    assert order == ["large", "small"]
    assert budget.used_bytes == 0


async def test_who_is_cancelled_while_waiting_takes_nothing_and_lets_the_next_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    budget = ByteBudget(10)
    await budget.take(5)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            nursery.start_soon(budget.take, 5)
            await budget.take(10)
    await trio.testing.wait_all_tasks_blocked()
    assert budget.used_bytes == 10


async def test_who_waits_can_be_refused(autojump_clock: trio.testing.MockClock) -> None:
    budget = ByteBudget(10)
    await budget.take(10)

    async def wait() -> None:
        with pytest.raises(OSError, match="silent"):
            await budget.take(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        budget.refuse_waiting(OSError("silent"))
    assert budget.used_bytes == 10
