"""Cutting objects into parts: always legal, and no more moved than must be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storefs.drivers.models import Capabilities
from storefs.errors import ObjectTooLarge
from storefs.handle.parts import Action, Limits, Plan, cell, cell_number, cells_in, plan
from storefs.handle.ranges import Content
from storefs.units import GIB, KIB, MIB, TIB, ByteRange

S3 = Limits.of(Capabilities(), 8 * MIB)
SMALL = Limits(
    part_bytes=8,
    min_part_bytes=5,
    max_part_bytes=64,
    max_parts=40,
    single_bytes=16,
    copy_bytes=32,
    max_object_bytes=1000,
)


def sent_bytes(made: Plan) -> int:
    return sum(len(part.span) for part in made.parts if part.action is Action.UPLOAD)


def check_is_legal(made: Plan, content: Content, limits: Limits) -> None:
    numbers = [part.number for part in made.parts]
    assert numbers == sorted(set(numbers))
    assert numbers[0] >= 1 and numbers[-1] <= limits.max_parts
    assert len(numbers) <= limits.max_parts
    at = 0
    for part in made.parts:
        assert part.span.start == at
        at = part.span.stop
        assert len(part.span) <= limits.max_part_bytes
        if part is not made.parts[-1]:
            assert len(part.span) >= limits.min_part_bytes
        if part.action is Action.COPY:
            assert content.base_runs(part.span) == [part.span]
    assert at == content.size


@st.composite
def contents(draw: st.DrawFn, most: int = 900) -> Content:
    content = Content.stored(draw(st.integers(0, most)))
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            start = draw(st.integers(0, most - 1))
            content.write(ByteRange(start, draw(st.integers(start + 1, most))))
        else:
            content.truncate(draw(st.integers(0, most)))
    return content


@given(contents())
@settings(max_examples=300, deadline=None)
def test_planned_parts_tile_the_object_within_the_limits(content: Content) -> None:
    made = plan(content, SMALL)
    if made.is_single:
        assert content.size <= SMALL.single_bytes
    else:
        check_is_legal(made, content, SMALL)


@given(contents(), st.data())
@settings(max_examples=300, deadline=None)
def test_cells_that_were_sent_keep_their_number_and_their_bytes(
    content: Content, data: st.DataObject
) -> None:
    whole = list(cells_in(SMALL, ByteRange(0, content.size)))
    sent = data.draw(st.sets(st.sampled_from(whole))) if whole else set()
    made = plan(content, SMALL, sent)
    if made.is_single:
        assert not sent
        return
    check_is_legal(made, content, SMALL)
    if made.keeps_sent:
        at = {part.number: part.span for part in made.parts}
        assert all(at[number] == cell(SMALL, number) for number in sent)


@given(contents())
@settings(max_examples=200, deadline=None)
def test_what_is_sent_is_what_changed_and_at_most_two_paddings_a_change(content: Content) -> None:
    limits = Limits(8, 5, 64, 10_000, 16, 32, 1000)
    made = plan(content, limits)
    runs = content.base_runs(ByteRange(0, content.size))
    changed = content.size - sum(len(run) for run in runs)
    if not made.is_single:
        assert sent_bytes(made) <= changed + 2 * 5 * (len(runs) + 1)


@given(st.integers(0, 9 * TIB))
def test_every_byte_lies_in_the_cell_that_its_number_names(offset: int) -> None:
    number = cell_number(S3, offset)
    assert offset in range(cell(S3, number).start, cell(S3, number).stop)


def test_the_largest_object_is_reachable_by_cells_that_grow_in_steps() -> None:
    assert cell(S3, 1) == ByteRange(0, 8 * MIB)
    assert cell(S3, S3.max_parts).stop >= S3.max_object_bytes
    assert len(cell(S3, S3.max_parts)) <= S3.max_part_bytes


def test_a_small_new_file_is_one_put() -> None:
    content = Content()
    content.write(ByteRange(0, 16 * MIB))
    assert plan(content, S3).is_single


def test_a_line_appended_to_a_large_object_is_one_copy_and_one_short_part() -> None:
    content = Content.stored(512 * MIB)
    content.write(ByteRange(512 * MIB, 512 * MIB + 60))
    made = plan(content, S3)
    assert [(part.action, len(part.span)) for part in made.parts] == [
        (Action.COPY, 512 * MIB),
        (Action.UPLOAD, 60),
    ]


def test_four_kilobytes_changed_in_ten_gigabytes_send_one_part() -> None:
    content = Content.stored(10 * GIB)
    content.write(ByteRange(5 * GIB, 5 * GIB + 4 * KIB))
    made = plan(content, S3)
    assert sent_bytes(made) == S3.min_part_bytes
    assert len(made.parts) <= 14


def test_a_change_in_the_first_byte_is_padded_from_behind() -> None:
    content = Content.stored(100 * MIB)
    content.write(ByteRange(0, 1))
    made = plan(content, S3)
    assert made.parts[0].span == ByteRange(0, 5 * MIB)
    assert made.parts[1].action is Action.COPY


def test_a_medium_object_with_a_line_appended_is_copied_not_fetched() -> None:
    content = Content.stored(12 * MIB)
    content.write(ByteRange(12 * MIB, 12 * MIB + 10))
    assert [part.action for part in plan(content, S3).parts] == [Action.COPY, Action.UPLOAD]


def test_a_tiny_object_with_a_line_appended_is_one_put_even_if_parts_may_be_tiny() -> None:
    limits = Limits.of(Capabilities(min_part_bytes=1), 8 * MIB)
    content = Content.stored(100)
    content.write(ByteRange(100, 110))
    assert plan(content, limits).is_single


def test_the_most_scattered_changes_still_fit_into_the_parts_there_are() -> None:
    content = Content.stored(200 * GIB)
    for offset in range(0, 200 * GIB, 12 * MIB):
        content.write(ByteRange(offset, offset + 1))
    made = plan(content, S3)
    check_is_legal(made, content, S3)


def test_an_object_beyond_the_largest_is_refused() -> None:
    content = Content()
    content.truncate(6 * TIB)
    with pytest.raises(ObjectTooLarge):
        plan(content, S3)
