"""The cache over a source in memory: what is fetched, when, and for whom. No disk, no real time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from storefs.errors import (
    CacheError,
    ObjectChanged,
    ObjectNotFound,
    StoreUnavailable,
)
from storefs.units import KIB, MIB, ByteRange
from tests.cache.sources import CHUNK, Source, config, expect, started, whole

if TYPE_CHECKING:
    from trio.testing import MockClock

    from storefs.cache import Cache


async def test_a_read_answers_exactly_the_bytes_asked_for(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", 5 * CHUNK + 123)
    async with started(source, config()) as cache:
        for start, stop in [(0, 1), (100, CHUNK + 5), (0, version.size), (5 * CHUNK, version.size)]:
            assert await cache.read(version, ByteRange(start, stop)) == data[start:stop]


async def test_what_was_read_is_not_fetched_again(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", 3 * CHUNK)
    async with started(source, config()) as cache:
        await cache.read(version, whole(version))
        source.requests.clear()
        assert await cache.read(version, ByteRange(10, 2 * CHUNK)) == data[10 : 2 * CHUNK]
        assert source.requests == []
        assert cache.stats.hits == 2
        assert cache.stats.misses == 3


async def test_adjacent_chunks_that_are_missing_come_with_one_request(
    autojump_clock: MockClock,
) -> None:
    source = Source()
    version, _ = source.put("k", 4 * CHUNK)
    async with started(source, config()) as cache:
        await cache.read(version, whole(version))
        assert source.requests == [("k", whole(version))]


async def test_many_readers_of_a_chunk_cost_one_fetch(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", CHUNK)
    async with started(source, config()) as cache, trio.open_nursery() as nursery:
        for start in range(50):
            nursery.start_soon(expect, cache, version, ByteRange(start, CHUNK), data[start:])
    assert len(source.requests) == 1


async def test_a_reader_that_is_cancelled_takes_nothing_from_the_others(
    autojump_clock: MockClock,
) -> None:
    source = Source(delay_seconds=10)
    version, data = source.put("k", CHUNK)
    async with started(source, config()) as cache, trio.open_nursery() as nursery:
        with trio.move_on_after(5):
            nursery.start_soon(expect, cache, version, whole(version), data)
            await cache.read(version, whole(version))
    assert len(source.requests) == 1


async def test_a_failed_fetch_is_told_to_every_reader_and_then_forgotten(
    autojump_clock: MockClock,
) -> None:
    source = Source(failures=[StoreUnavailable("no answer")])
    version, data = source.put("k", CHUNK)
    failed: list[str] = []

    async def read(cache: Cache) -> None:
        with pytest.raises(StoreUnavailable) as caught:
            await cache.read(version, whole(version))
        failed.append(str(caught.value))

    async with started(source, config()) as cache:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(read, cache)
        assert failed == ["no answer"] * 3
        assert await cache.read(version, whole(version)) == data


@pytest.mark.parametrize("error", [ObjectChanged("changed"), ObjectNotFound("gone")])
async def test_cached_chunks_of_a_replaced_version_stay_readable(
    error: Exception, autojump_clock: MockClock
) -> None:
    source = Source()
    version, data = source.put("k", 2 * CHUNK)
    async with started(source, config()) as cache:
        await cache.read(version, ByteRange(0, CHUNK))
        source.failures = [error]
        with pytest.raises(type(error)):
            await cache.read(version, ByteRange(0, 2 * CHUNK))
        assert await cache.read(version, ByteRange(0, CHUNK)) == data[:CHUNK]


async def test_an_outside_change_is_never_mixed_into_a_version(autojump_clock: MockClock) -> None:
    source = Source()
    old, data = source.put("k", 2 * CHUNK, "old")
    async with started(source, config()) as cache:
        await cache.read(old, ByteRange(0, CHUNK))
        new, other = source.put("k", 2 * CHUNK, "new")
        with pytest.raises(ObjectChanged):
            await cache.read(old, ByteRange(CHUNK, 2 * CHUNK))
        assert await cache.read(new, whole(new)) == other
        assert await cache.read(old, ByteRange(0, CHUNK)) == data[:CHUNK]


async def test_a_short_body_is_an_error_and_not_a_short_answer(autojump_clock: MockClock) -> None:
    source = Source(short_by=1)
    version, _ = source.put("k", CHUNK)
    async with started(source, config()) as cache:
        with pytest.raises(StoreUnavailable):
            await cache.read(version, whole(version))


async def test_an_unexpected_exception_of_the_store_reaches_the_reader_and_not_the_mount(
    autojump_clock: MockClock,
) -> None:
    source = Source(failures=[RuntimeError("bug")])
    version, data = source.put("k", CHUNK)
    async with started(source, config()) as cache:
        with pytest.raises(RuntimeError, match="bug"):
            await cache.read(version, whole(version))
        assert await cache.read(version, whole(version)) == data


async def test_a_random_read_fetches_what_was_asked_for(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", MIB)
    span = ByteRange(10 * CHUNK + 100, 11 * CHUNK + 50)
    async with started(source, config()) as cache:
        assert await cache.read(version, span, whole_chunks=False) == data[span.start : span.stop]
        assert source.requests == [("k", span)]


async def test_a_random_read_takes_from_memory_what_is_there(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", MIB)
    async with started(source, config()) as cache:
        await cache.read(version, ByteRange(CHUNK, 2 * CHUNK))
        source.requests.clear()
        span = ByteRange(CHUNK - 10, 2 * CHUNK + 10)
        assert await cache.read(version, span, whole_chunks=False) == data[span.start : span.stop]
        assert [request for _, request in source.requests] == [
            ByteRange(CHUNK - 10, CHUNK),
            ByteRange(2 * CHUNK, 2 * CHUNK + 10),
        ]


async def test_a_small_object_is_fetched_whole_by_its_first_read(autojump_clock: MockClock) -> None:
    source = Source()
    version, _ = source.put("k", CHUNK - 1)
    async with started(source, config()) as cache:
        await cache.read(version, ByteRange(5, 6), whole_chunks=False)
        await cache.read(version, ByteRange(500, 600), whole_chunks=False)
        assert source.requests == [("k", whole(version))]


async def test_what_was_written_here_costs_no_request(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", 2 * CHUNK + 100)
    async with started(source, config()) as cache:
        await cache.admit(version, 0, data[:CHUNK])
        await cache.admit(version, CHUNK, data[CHUNK:])
        assert await cache.read(version, whole(version)) == data
        assert source.requests == []


@pytest.mark.parametrize(("offset", "length"), [(1, CHUNK), (0, 100), (CHUNK, 2 * CHUNK)])
async def test_only_whole_chunks_are_admitted(
    offset: int, length: int, autojump_clock: MockClock
) -> None:
    source = Source()
    version, data = source.put("k", 2 * CHUNK)
    async with started(source, config()) as cache:
        with pytest.raises(ValueError, match=r"\.\."):
            await cache.admit(version, offset, data[:length])


async def test_a_renamed_object_stays_cached(autojump_clock: MockClock) -> None:
    source = Source()
    old, data = source.put("old", 2 * CHUNK)
    new, _ = source.put("new", 2 * CHUNK, "e2")
    async with started(source, config()) as cache:
        await cache.read(old, whole(old))
        source.requests.clear()
        cache.rename(old, new)
        assert await cache.read(new, whole(new)) == data
        assert source.requests == []


async def test_a_dropped_version_is_fetched_again(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", 2 * CHUNK)
    async with started(source, config()) as cache:
        await cache.read(version, whole(version))
        cache.drop(version)
        assert await cache.read(version, whole(version)) == data
        assert len(source.requests) == 2


async def test_a_read_longer_than_the_memory_is_answered(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", 300 * CHUNK + 17)
    async with started(source, config(chunks=8)) as cache:
        assert await cache.read(version, whole(version)) == data
        assert cache.stats.memory_bytes <= config(chunks=8).memory_bytes


async def test_with_memory_for_a_single_chunk_everything_still_works(
    autojump_clock: MockClock,
) -> None:
    source = Source()
    version, data = source.put("k", 100 * CHUNK)
    async with started(source, config(chunks=1)) as cache:
        assert await cache.read(version, whole(version)) == data
        span = ByteRange(5, MIB // 4)
        assert await cache.read(version, span, whole_chunks=False) == data[5 : MIB // 4]


async def test_an_empty_object_costs_nothing(autojump_clock: MockClock) -> None:
    source = Source()
    version, _ = source.put("k", 0)
    async with started(source, config()) as cache:
        assert await cache.read(version, ByteRange(0, 0)) == b""
        assert source.requests == []


async def test_a_span_outside_the_object_is_refused(autojump_clock: MockClock) -> None:
    source = Source()
    version, _ = source.put("k", CHUNK + 10)
    async with started(source, config()) as cache:
        await cache.read(version, whole(version))
        with pytest.raises(ValueError, match="not within"):
            await cache.read(version, ByteRange(CHUNK, CHUNK + 11))


async def test_closing_answers_those_who_wait_and_may_be_repeated(
    autojump_clock: MockClock,
) -> None:
    source = Source(silent=True)
    version, _ = source.put("k", CHUNK)

    async def read(cache: Cache) -> None:
        with pytest.raises(CacheError, match="closed"):
            await cache.read(version, whole(version))

    async with started(source, config()) as cache, trio.open_nursery() as nursery:
        nursery.start_soon(read, cache)
        await trio.testing.wait_all_tasks_blocked()
        await cache.aclose()
        await cache.aclose()
        with pytest.raises(CacheError, match="closed"):
            await cache.read(version, whole(version))
        assert cache.prefetch_nowait(version, whole(version)) == 0


async def test_a_hit_copies_no_more_than_was_asked_for(autojump_clock: MockClock) -> None:
    source = Source()
    version, _ = source.put("k", CHUNK)
    async with started(source, config()) as cache:
        first = await cache.read(version, whole(version))
        assert await cache.read(version, whole(version)) is first
        assert len(await cache.read(version, ByteRange(0, KIB))) == KIB
