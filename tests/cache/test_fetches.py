"""Fetches in flight: read-ahead, the budget, and a store that is silent. No real time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from storefs.errors import (
    DeadlineExceeded,
    StoreUnavailable,
)
from storefs.units import ByteRange
from tests.cache.sources import CHUNK, Source, config, expect, started, whole

if TYPE_CHECKING:
    from trio.testing import MockClock

    from storefs.cache import Cache, ObjectVersion


async def test_read_ahead_is_shared_by_who_reads_then(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", 4 * CHUNK)
    async with started(source, config()) as cache:
        assert cache.prefetch_nowait(version, whole(version)) == version.size
        assert await cache.read(version, whole(version)) == data
        assert len(source.requests) == 1


async def test_read_ahead_comes_in_parallel_requests(autojump_clock: MockClock) -> None:
    source = Source()
    version, _ = source.put("k", 8 * CHUNK)
    async with started(source, config()) as cache:
        cache.prefetch_nowait(version, whole(version), request_bytes=2 * CHUNK)
        await cache.read(version, whole(version))
        assert source.most_at_once == 4
        assert source.twice() == set()


async def test_read_ahead_that_fails_is_dropped_and_the_reader_asks_again(
    autojump_clock: MockClock,
) -> None:
    source = Source(failures=[StoreUnavailable()])
    version, data = source.put("k", CHUNK)
    async with started(source, config()) as cache:
        cache.prefetch_nowait(version, whole(version))
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(5)
        assert await cache.read(version, whole(version)) == data


async def test_read_ahead_stays_within_its_budget_and_leaves_room_for_readers(
    autojump_clock: MockClock,
) -> None:
    source = Source(silent=True)
    version, _ = source.put("large", 1000 * CHUNK)
    async with started(source, config(chunks=16)) as cache:
        reached = cache.prefetch_nowait(version, whole(version), request_bytes=CHUNK)
        assert 0 < reached <= cache.read_ahead_bytes
        await trio.testing.wait_all_tasks_blocked()
        source.silent = False
        other, data = source.put("other", CHUNK)
        assert await cache.read(other, whole(other)) == data


async def test_the_read_ahead_of_an_idle_reader_keeps_nobody_waiting(
    autojump_clock: MockClock,
) -> None:
    source = Source()
    idle, _ = source.put("idle", 1000 * CHUNK)
    async with started(source, config(chunks=16)) as cache:
        assert cache.prefetch_nowait(idle, whole(idle), request_bytes=CHUNK) > 0
        await trio.sleep(5)
        busy, data = source.put("busy", 5 * CHUNK)
        with trio.fail_after(1.5):
            assert await cache.read(busy, whole(busy)) == data


async def test_read_ahead_is_not_evicted_before_it_is_read(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("ahead", 3 * CHUNK)
    async with started(source, config(chunks=16)) as cache:
        cache.prefetch_nowait(version, whole(version))
        await trio.sleep(5)
        busy, _ = source.put("busy", 100 * CHUNK)
        await cache.read(busy, whole(busy))
        source.requests.clear()
        assert await cache.read(version, whole(version)) == data
        assert source.requests == []


async def test_abandoned_read_ahead_is_cancelled_unless_somebody_waits_for_it(
    autojump_clock: MockClock,
) -> None:
    source = Source(delay_seconds=10)
    version, data = source.put("k", 8 * CHUNK)
    async with started(source, config()) as cache, trio.open_nursery() as nursery:
        cache.prefetch_nowait(version, whole(version), request_bytes=4 * CHUNK)
        nursery.start_soon(expect, cache, version, ByteRange(0, CHUNK), data[:CHUNK])
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert source.at_once == 2
        cache.abandon(version, whole(version))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert source.at_once == 1
        # and who comes after that gets a fetch of his own
        assert (
            await cache.read(version, ByteRange(5 * CHUNK, 6 * CHUNK))
            == data[5 * CHUNK : 6 * CHUNK]
        )


async def test_bytes_in_flight_stay_within_the_budget_with_any_number_of_readers(
    autojump_clock: MockClock,
) -> None:
    source = Source()
    settings = config(chunks=16)
    async with started(source, settings) as cache, trio.open_nursery() as nursery:
        for number in range(100):
            version, data = source.put(f"k{number}", CHUNK)
            nursery.start_soon(expect, cache, version, whole(version), data)
    assert source.most_at_once * CHUNK <= settings.memory_bytes // 2


async def test_a_silent_store_fails_those_who_wait_for_memory_within_the_same_time(
    autojump_clock: MockClock,
) -> None:
    source = Source(delay_seconds=60, failures=[DeadlineExceeded("silent") for _ in range(100)])

    async def read(cache: Cache, version: ObjectVersion) -> None:
        with pytest.raises(DeadlineExceeded):
            await cache.read(version, whole(version))

    async with started(source, config(chunks=16)) as cache:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(read, cache, source.put(f"k{number}", CHUNK)[0])
        assert trio.current_time() - began == pytest.approx(60)


async def test_stuck_reads_do_not_delay_a_cached_one(autojump_clock: MockClock) -> None:
    source = Source()
    cached, data = source.put("cached", CHUNK)
    async with started(source, config(chunks=16)) as cache, trio.open_nursery() as nursery:
        await cache.read(cached, whole(cached))
        source.silent = True
        for number in range(200):
            version, _ = source.put(f"k{number}", CHUNK)
            nursery.start_soon(cache.read, version, whole(version))
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.fail_after(1):
            assert await cache.read(cached, whole(cached)) == data
        nursery.cancel_scope.cancel()
