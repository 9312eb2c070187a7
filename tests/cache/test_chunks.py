"""Chunk arithmetic: by table and by property."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storefs.cache import chunks
from storefs.units import ByteRange

sizes = st.integers(1, 10_000)
chunk_sizes = st.integers(1, 700)


@st.composite
def spans(draw: st.DrawFn) -> tuple[ByteRange, int, int]:
    size = draw(sizes)
    start = draw(st.integers(0, size))
    return ByteRange(start, draw(st.integers(start, size))), size, draw(chunk_sizes)


@pytest.mark.parametrize(
    ("size", "index", "expected"),
    [(10, 0, (0, 4)), (10, 2, (8, 10)), (8, 1, (4, 8)), (1, 0, (0, 1))],
)
def test_a_chunk_ends_with_the_object(size: int, index: int, expected: tuple[int, int]) -> None:
    assert chunks.chunk_span(size, 4, index) == ByteRange(*expected)


@pytest.mark.parametrize(("size", "index"), [(0, 0), (8, 2), (8, -1)])
def test_an_object_has_no_chunk_behind_its_end(size: int, index: int) -> None:
    with pytest.raises(ValueError, match="no chunk"):
        chunks.chunk_span(size, 4, index)


@given(sizes, chunk_sizes)
def test_the_chunks_of_an_object_lie_end_to_end(size: int, chunk_bytes: int) -> None:
    cut = [
        chunks.chunk_span(size, chunk_bytes, index)
        for index in range(chunks.chunk_count(size, chunk_bytes))
    ]
    assert cut[0].start == 0
    assert cut[-1].stop == size
    assert all(one.stop == two.start for one, two in pairwise(cut))


@given(spans())
def test_pieces_of_a_span_put_together_are_the_span(case: tuple[ByteRange, int, int]) -> None:
    span, size, chunk_bytes = case
    data = bytes(index % 251 for index in range(size))
    stored = list(chunks.split(data, chunk_bytes))
    found = b"".join(
        stored[index][low:high] for index, low, high in chunks.pieces(span, chunk_bytes)
    )
    assert found == data[span.start : span.stop]


@given(st.sets(st.integers(0, 60)), st.integers(1, 9))
def test_runs_hold_each_index_once_and_are_never_too_long(found: set[int], longest: int) -> None:
    cut = list(chunks.runs(sorted(found), longest))
    assert [index for run in cut for index in run] == sorted(found)
    assert all(1 <= len(run) <= longest for run in cut)


def test_adjacent_chunks_make_as_few_runs_as_possible() -> None:
    assert list(chunks.runs([0, 1, 2, 3, 4, 7, 8, 20], 3)) == [
        range(0, 3),
        range(3, 5),
        range(7, 9),
        range(20, 21),
    ]


def test_a_lone_chunk_is_not_copied() -> None:
    data = b"x" * 100
    assert next(chunks.split(data, 100)) is data
