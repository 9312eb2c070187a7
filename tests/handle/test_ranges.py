"""Which bytes are local: checked against plain sets of positions."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from storefs.handle.ranges import Content, RangeSet, Source
from storefs.units import ByteRange

MOST = 60
spans = st.tuples(st.integers(0, MOST), st.integers(0, MOST)).map(
    lambda pair: ByteRange(min(pair), max(pair))
)
steps = st.lists(st.one_of(spans, st.integers(0, MOST)), max_size=12)


@given(steps, spans)
@settings(max_examples=300, deadline=None)
def test_a_range_set_holds_the_positions_that_were_added_and_not_cut(
    todo: list[ByteRange | int], window: ByteRange
) -> None:
    held, model = RangeSet(), set[int]()
    for step in todo:
        if isinstance(step, int):
            held.cut(step)
            model = {position for position in model if position < step}
        else:
            held.add(step)
            model |= set(range(step.start, step.stop))
        held.check_invariants()
    inside = {p for span in held.within(window) for p in range(span.start, span.stop)}
    outside = {p for span in held.gaps(window) for p in range(span.start, span.stop)}
    everything = set(range(window.start, window.stop))
    assert inside == model & everything
    assert outside == everything - model
    assert held.covers(window) == (everything <= model)
    assert held.total_bytes == len(model)


@given(st.integers(0, MOST), steps)
@settings(max_examples=300, deadline=None)
def test_pieces_tell_the_source_of_every_byte(stored: int, todo: list[ByteRange | int]) -> None:
    content, model = Content.stored(stored), [Source.BASE] * stored
    for step in todo:
        if isinstance(step, int):
            content.truncate(step)
            model = (model + [Source.ZERO] * MOST)[:step]
        elif step:
            content.write(step)
            model += [Source.ZERO] * (step.stop - len(model))
            model[step.start : step.stop] = [Source.STAGED] * len(step)
        content.check_invariants()
    told = [s.source for s in content.pieces(ByteRange(0, MOST)) for _ in range(len(s.span))]
    assert told == model
