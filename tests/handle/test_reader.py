"""One open file's reading, over the real cache and a source in memory."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from storefs.errors import CacheError, ObjectChanged
from storefs.handle.reader import Reader, assert_whole
from storefs.units import KIB, ByteRange
from tests.cache.sources import CHUNK, Source, config, started

if TYPE_CHECKING:
    from trio.testing import MockClock

PIECE = 512


async def read_all(reader: Reader, piece: int = PIECE) -> bytes:
    found = []
    offset = 0
    while data := await reader.read(offset, piece):
        found.append(data)
        offset += len(data)
    return b"".join(found)


async def test_a_read_is_exactly_as_long_as_asked_but_at_the_end(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", 3 * CHUNK + 7)
    async with started(source, config()) as cache:
        reader = Reader(cache, version)
        assert await reader.read(5, 2 * CHUNK) == data[5 : 5 + 2 * CHUNK]
        assert await reader.read(3 * CHUNK, 100) == data[-7:]
        assert await reader.read(version.size, 100) == b""
        assert await reader.read(version.size + 100, 100) == b""
        assert await reader.read(0, 0) == b""


def test_a_short_answer_is_never_given() -> None:
    assert assert_whole(b"abc", ByteRange(4, 7)) == b"abc"
    with pytest.raises(CacheError, match="2 bytes instead of 3"):
        assert_whole(b"ab", ByteRange(4, 7))


async def test_reading_in_sequence_fetches_no_byte_twice(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", 200 * CHUNK + 99)
    async with started(source, config()) as cache:
        assert await read_all(Reader(cache, version)) == data
    assert source.twice() == set()
    assert source.fetched_bytes == version.size


async def test_reading_in_sequence_hides_the_latency(autojump_clock: MockClock) -> None:
    source = Source(delay_seconds=1)
    version, _ = source.put("k", 256 * CHUNK)
    async with started(source, config(chunks=256)) as cache:
        began = trio.current_time()
        await read_all(Reader(cache, version))
        assert trio.current_time() - began < 12  # one after another it would be 256
    assert source.most_at_once > 4


async def test_parallel_reads_a_little_out_of_order_fetch_no_byte_twice(
    autojump_clock: MockClock,
) -> None:
    """The kernel's own read-ahead: several requests at once, in any order."""
    source = Source()
    version, data = source.put("k", 128 * CHUNK)
    shuffle = random.Random(5)
    found: dict[int, bytes] = {}

    async def read(reader: Reader, offset: int) -> None:
        found[offset] = await reader.read(offset, PIECE)

    async with started(source, config()) as cache:
        reader = Reader(cache, version)
        for group in range(0, version.size, 8 * PIECE):
            offsets = [group + number * PIECE for number in range(8)]
            shuffle.shuffle(offsets)
            async with trio.open_nursery() as nursery:
                for offset in offsets:
                    nursery.start_soon(read, reader, offset)
    assert b"".join(found[offset] for offset in sorted(found)) == data
    assert source.fetched_bytes < 1.05 * version.size


async def test_two_streams_of_one_file_fetch_no_byte_twice(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", 400 * CHUNK)
    async with started(source, config()) as cache:
        reader = Reader(cache, version)
        for offset in range(0, 100 * CHUNK, PIECE):
            for start in (0, 200 * CHUNK):
                at = start + offset
                assert await reader.read(at, PIECE) == data[at : at + PIECE]
        reader.close()
    # The second stream's first read took only what it asked for.
    assert source.twice() <= {("k", 200)}


async def test_random_reads_fetch_what_was_asked_for(autojump_clock: MockClock) -> None:
    source = Source()
    version, data = source.put("k", 2000 * CHUNK)
    choose = random.Random(3)
    async with started(source, config()) as cache:
        reader = Reader(cache, version)
        for _ in range(100):
            at = choose.randrange(1, version.size - 100)
            assert await reader.read(at, 100) == data[at : at + 100]
    assert len(source.requests) <= 120
    assert source.fetched_bytes < 2 * 100 * 100 + 4 * CHUNK


async def test_closing_cancels_the_read_ahead_that_is_pending(autojump_clock: MockClock) -> None:
    source = Source(delay_seconds=0)
    version, _ = source.put("k", 100 * CHUNK)
    async with started(source, config()) as cache:
        reader = Reader(cache, version)
        await reader.read(0, PIECE)
        source.silent = True
        await reader.read(PIECE, PIECE)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert source.at_once == 1
        reader.close()
        reader.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert source.at_once == 0
        assert cache.stats.in_flight_bytes == 0


async def test_an_error_reaches_the_reader_and_the_next_read_tries_again(
    autojump_clock: MockClock,
) -> None:
    source = Source(failures=[ObjectChanged()])
    version, data = source.put("k", CHUNK)
    async with started(source, config()) as cache:
        reader = Reader(cache, version)
        with pytest.raises(ObjectChanged):
            await reader.read(0, 10)
        assert await reader.read(0, 10) == data[:10]


async def test_after_our_own_commit_the_reader_follows_to_the_new_version(
    autojump_clock: MockClock,
) -> None:
    source = Source()
    old, _ = source.put("k", 4 * CHUNK)
    async with started(source, config()) as cache:
        reader = Reader(cache, old)
        await reader.read(0, KIB)
        await reader.read(KIB, KIB)
        new, data = source.put("k", 6 * CHUNK, "e2")
        reader.version = new
        assert reader.version == new
        assert await read_all(reader) == data
