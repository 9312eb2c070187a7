"""How far ahead to fetch: by table and by property."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storefs.handle.window import (
    MAX_REQUEST_BYTES,
    MAX_STREAMS,
    MAX_WINDOW_BYTES,
    RECENT_READS,
    Advice,
    Window,
    request_bytes,
    window_bytes,
)
from storefs.units import GIB, KIB, MIB, ByteRange

PAGE = 128 * KIB
SIZE = 4 * GIB


def read(window: Window, start: int, length: int = PAGE, size: int = SIZE) -> Advice:
    """One read; everything that is advised is fetched."""
    advice = window.observe(ByteRange(start, min(start + length, size)), size)
    if advice.ahead is not None:
        advice.stream.reached = advice.ahead.stop
    return advice


def stream(window: Window, start: int, count: int, length: int = PAGE) -> list[Advice]:
    return [read(window, start + index * length, length) for index in range(count)]


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0, MIB),
        (256 * KIB, MIB),
        (MIB, 2 * MIB),
        (2 * MIB, 4 * MIB),
        (31 * MIB, 62 * MIB),
        (GIB, MAX_WINDOW_BYTES),
    ],
)
def test_the_window_is_twice_what_was_read(progress: int, expected: int) -> None:
    assert window_bytes(progress, MIB, GIB) == expected


@given(st.integers(0, GIB), st.integers(0, GIB), st.sampled_from([64 * KIB, MIB, 4 * MIB]))
def test_the_window_never_exceeds_its_limit_by_more_than_a_chunk(
    progress: int, limit: int, chunk: int
) -> None:
    assert chunk <= window_bytes(progress, chunk, limit) <= max(chunk, limit)
    request = request_bytes(window_bytes(progress, chunk, limit), chunk)
    assert request % chunk == 0
    assert request <= max(chunk, MAX_REQUEST_BYTES)


def test_the_first_read_of_a_file_takes_the_chunk_and_nothing_ahead() -> None:
    advice = read(Window(MIB), 0)
    assert advice.whole_chunks
    assert advice.ahead is None


def test_the_second_read_in_sequence_fetches_ahead() -> None:
    window = Window(MIB)
    advice = stream(window, 0, 2)[-1]
    assert advice.ahead == ByteRange(MIB, 2 * MIB)


def test_a_read_elsewhere_takes_what_was_asked_for() -> None:
    assert not read(Window(MIB), 100 * MIB).whole_chunks


def test_a_stream_that_begins_in_the_middle_shows_with_its_second_read() -> None:
    first, second = stream(Window(MIB), 100 * MIB, 2)
    assert not first.whole_chunks
    assert second.whole_chunks
    assert second.ahead == ByteRange(101 * MIB, 102 * MIB)


def test_requests_grow_with_the_window() -> None:
    advised = [advice for advice in stream(Window(MIB), 0, 2000) if advice.ahead is not None]
    assert advised[0].request_bytes == MIB
    assert advised[-1].request_bytes == MAX_REQUEST_BYTES
    assert advised[-1].ahead is not None
    assert len(advised[-1].ahead) >= MAX_REQUEST_BYTES


def test_the_whole_object_is_fetched_and_nothing_behind_it() -> None:
    window = Window(MIB)
    size = 10 * MIB + 5
    fetched = [
        advice.ahead
        for start in range(0, size, PAGE)
        if (advice := read(window, start, size=size)).ahead is not None
    ]
    assert fetched[-1].stop == size
    assert all(one.stop == two.start for one, two in pairwise(fetched))


@given(st.integers(0, 2**32))
def test_reads_that_arrive_a_little_out_of_order_are_one_stream(seed: int) -> None:
    """The kernel sends its read-ahead in parallel: 1 MiB requests, a few changed places."""
    shuffle = random.Random(seed)
    order = [index * MIB for index in range(64)]
    for low in range(2, len(order), 4):
        part = order[low : low + 4]
        shuffle.shuffle(part)
        order[low : low + 4] = part
    window = Window(MIB)
    for start in order:
        read(window, start, MIB)
    assert len(window.streams) == 1
    assert window.streams[0].progress == 64 * MIB


def test_several_streams_of_one_file_each_have_their_window() -> None:
    window = Window(MIB)
    starts = [0, GIB, 2 * GIB]
    for step in range(100):
        for start in starts:
            read(window, start + step * PAGE)
    assert sorted(found.start for found in window.streams) == starts
    assert {found.progress for found in window.streams} == {100 * PAGE}
    assert all(found.reached - found.front >= 20 * MIB for found in window.streams)


def test_after_a_seek_the_window_is_small_again() -> None:
    window = Window(MIB)
    stream(window, 0, 1000)
    assert stream(window, GIB, 2)[-1].ahead == ByteRange(GIB + MIB, GIB + 2 * MIB)


def test_random_reads_do_not_push_out_a_stream_that_is_read() -> None:
    window = Window(MIB)
    stream(window, 0, 50)
    for number in range(1, RECENT_READS):
        read(window, GIB + number * 17 * MIB, 4 * KIB)
    assert read(window, 50 * PAGE).whole_chunks
    assert len(window.streams) <= MAX_STREAMS


def test_a_stream_that_gives_way_says_what_was_fetched_for_it() -> None:
    window = Window(MIB)
    stream(window, 0, 2)
    dropped = [
        advice.dropped
        for number in range(1, 200)
        if (advice := read(window, GIB + number * 9 * MIB, 4 * KIB)).dropped is not None
    ]
    assert dropped == [ByteRange(2 * PAGE, 2 * MIB)]


def test_a_hundred_random_reads_cost_less_than_twice_what_they_ask_for() -> None:
    choose = random.Random(1)
    window = Window(MIB)
    fetched = 0
    for _ in range(100):
        start = choose.randrange(0, 512 * MIB // (64 * KIB)) * 64 * KIB
        advice = read(window, start, 64 * KIB, 512 * MIB)
        fetched += MIB if advice.whole_chunks else 64 * KIB
        fetched += len(advice.ahead) if advice.ahead is not None else 0
    assert fetched < 2 * 100 * 64 * KIB


def test_reading_the_same_place_again_is_no_stream() -> None:
    window = Window(MIB)
    for _ in range(3):
        assert read(window, GIB, 4 * KIB).ahead is None


def test_a_chunk_asked_for_in_many_pieces_is_fetched_whole() -> None:
    """A file read backwards: no stream, but soon whole chunks."""
    window = Window(MIB)
    starts = [GIB + MIB - (number + 1) * 64 * KIB for number in range(16)]
    advised = [window.observe(ByteRange(start, start + 4 * KIB), SIZE) for start in starts]
    assert not advised[0].whole_chunks
    window = Window(MIB)
    backwards = [read(window, start, 64 * KIB) for start in starts]
    assert not backwards[0].whole_chunks
    assert backwards[-1].whole_chunks


def test_another_version_forgets_what_was_fetched() -> None:
    window = Window(MIB)
    stream(window, 0, 2)
    assert window.rebase() == [ByteRange(2 * PAGE, 2 * MIB)]
    assert window.unread() == []
    assert read(window, 2 * PAGE).ahead == ByteRange(MIB, 2 * MIB)


@given(
    st.lists(
        st.tuples(st.integers(0, 64 * MIB - 1), st.integers(1, 2 * MIB)), min_size=1, max_size=60
    ),
    st.integers(1, 64 * MIB),
)
def test_advice_stays_within_the_object_and_repeats_nothing(
    reads: list[tuple[int, int]], size: int
) -> None:
    window = Window(MIB)
    for start, length in reads:
        span = ByteRange(min(start, size - 1), min(start + length, size))
        before = {id(found): found.reached for found in window.streams}
        advice = window.observe(span, size)
        assert len(window.streams) <= MAX_STREAMS
        if advice.ahead is not None:
            assert advice.ahead.stop <= size
            assert advice.ahead.start >= before.get(id(advice.stream), 0)
            assert advice.ahead.start >= span.stop
            advice.stream.reached = advice.ahead.stop
        for unread in window.unread():
            assert unread.stop <= size
