"""How to cut an object into legal parts: those that are sent, and those copied inside the store.

Pure; used by the uploader. Two ways of cutting: the *grid*, for an object whose length is not known
yet (cells grow in steps, so that the largest object is reachable with 10,000 of them), and the
*plan* of a commit, when every byte is known. The danger: all parts but the last have a least size,
so a small change in the middle must be padded with unchanged bytes, never sent short.

Multipart limits: S3 user guide, "Amazon S3 multipart upload limits"; they reach this module through
`Capabilities` alone.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from storefs.errors import ObjectTooLarge
from storefs.units import GIB, ByteRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from storefs.drivers.models import Capabilities
    from storefs.handle.ranges import Content

GRID_STEPS = 10
"""Cells double in size after every tenth of the parts: 8 MiB at first, 8 TiB reached in all."""

COPY_BYTES = 1 * GIB
"""Copies of one part are this long at most: they run side by side. A guess, not measured."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a part may be, in bytes; `single_bytes` is the most that is sent in one PUT."""

    part_bytes: int
    min_part_bytes: int
    max_part_bytes: int
    max_parts: int
    single_bytes: int
    copy_bytes: int
    max_object_bytes: int

    @classmethod
    def of(cls, capabilities: Capabilities, part_bytes: int) -> Limits:
        """`part_bytes` as wished, bent to what the store takes."""
        least, most = max(1, capabilities.min_part_bytes), capabilities.max_part_bytes
        part_bytes = min(max(part_bytes, least), most)
        return cls(
            part_bytes=part_bytes,
            min_part_bytes=least,
            max_part_bytes=most,
            max_parts=capabilities.max_parts,
            single_bytes=min(2 * part_bytes, capabilities.max_put_bytes),
            copy_bytes=min(max(COPY_BYTES, part_bytes), most),
            max_object_bytes=capabilities.max_object_bytes,
        )


# -- the grid: part numbers for bytes whose end is not known ---------------------------------------


@cache
def _steps(limits: Limits) -> tuple[list[int], list[int], list[int]]:
    """First number, first offset and cell size of every step."""
    numbers, offsets, sizes = [1], [0], [limits.part_bytes]
    each = max(1, limits.max_parts // GRID_STEPS)
    while numbers[-1] + each <= limits.max_parts:
        offsets.append(offsets[-1] + each * sizes[-1])
        numbers.append(numbers[-1] + each)
        sizes.append(min(sizes[-1] * 2, limits.max_part_bytes))
    return numbers, offsets, sizes


def cell(limits: Limits, number: int) -> ByteRange:
    """The bytes of part `number` while an object is sent as it grows."""
    numbers, offsets, sizes = _steps(limits)
    step = bisect_right(numbers, number) - 1
    start = offsets[step] + (number - numbers[step]) * sizes[step]
    return ByteRange(start, start + sizes[step])


def cell_number(limits: Limits, offset: int) -> int:
    """The part that holds the byte at `offset`; above `max_parts` where the grid has ended."""
    numbers, offsets, sizes = _steps(limits)
    step = bisect_right(offsets, offset) - 1
    return numbers[step] + (offset - offsets[step]) // sizes[step]


def cells_in(limits: Limits, span: ByteRange) -> Iterator[int]:
    """Numbers of the cells that lie wholly inside `span`."""
    number = cell_number(limits, span.start)
    if cell(limits, number).start < span.start:
        number += 1
    while number <= limits.max_parts and cell(limits, number).stop <= span.stop:
        yield number
        number += 1


# -- the plan of a commit --------------------------------------------------------------------------


class Action(enum.Enum):
    """How the bytes of a part reach the new object."""

    UPLOAD = "sent from here"
    COPY = "copied inside the store from the version that the file is based on"


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part of the new object."""

    number: int
    span: ByteRange
    action: Action


@dataclass(frozen=True, slots=True)
class Plan:
    """`parts` tile the object in order; none at all means one PUT with everything in it.

    `keeps_sent` is False if parts that were sent already cannot be used: begin a new upload.
    """

    parts: tuple[PlannedPart, ...] = ()
    keeps_sent: bool = True

    @property
    def is_single(self) -> bool:
        """True for one PUT."""
        return not self.parts


@dataclass(slots=True)
class _Cut:
    """One way of cutting; coarser ones make fewer parts."""

    limits: Limits
    unit: int
    copy_unit: int
    least_copy: int
    regions: list[tuple[ByteRange, Action]] = field(default_factory=list)

    def coarser(self) -> _Cut:
        most = self.limits.max_part_bytes
        return _Cut(
            self.limits,
            min(self.unit * 2, most),
            min(self.copy_unit * 2, most),
            self.least_copy * 2,
        )


def plan(content: Content, limits: Limits, sent: Iterable[int] = ()) -> Plan:
    """How to make `content` an object; `sent` are grid cells that the store has as they are now.

    Raises ObjectTooLarge where no legal cut exists.
    """
    size = content.size
    if size > limits.max_object_bytes:
        raise ObjectTooLarge(f"{size} bytes are more than this store takes in one object")
    held = sorted(set(sent))
    if not held and _fits_one_put(content, limits):
        return Plan()
    cut = _Cut(limits, limits.part_bytes, limits.copy_bytes, limits.min_part_bytes)
    if held:
        parts = _around(content, cut, held)
        if parts is not None:
            return Plan(tuple(parts))
        return replace(plan(content, limits), keeps_sent=False)
    while True:
        parts = _number(1, _tile(content, cut, ByteRange(0, size), tail=True))
        if len(parts) <= limits.max_parts:
            return Plan(tuple(parts))
        if cut.unit >= limits.max_part_bytes and cut.least_copy > size:
            raise ObjectTooLarge(f"{size} bytes do not fit into {limits.max_parts} parts")
        cut = cut.coarser()


def _fits_one_put(content: Content, limits: Limits) -> bool:
    """One PUT unless the store can copy the better half, and that is more than a trifle."""
    if content.size > limits.single_bytes:
        return False
    runs = content.base_runs(ByteRange(0, content.size))
    copied = sum(len(run) for run in runs if len(run) >= limits.min_part_bytes)
    return content.size <= limits.part_bytes // 2 or copied * 2 < content.size


def _around(content: Content, cut: _Cut, held: list[int]) -> list[PlannedPart] | None:
    """Parts around the cells that are sent already; None where the numbers do not suffice."""
    limits = cut.limits
    parts: list[PlannedPart] = []
    number, at = 1, 0
    for upto in held:
        span = cell(limits, upto)
        if at < span.start:
            tiles = _tile(content, cut, ByteRange(at, span.start), tail=False)
            if len(tiles) > upto - number:
                tiles = [(cell(limits, n), Action.UPLOAD) for n in range(number, upto)]
            parts += _number(number, tiles)
        parts.append(PlannedPart(upto, span, Action.UPLOAD))
        number, at = upto + 1, span.stop
    if at < content.size:
        # No finer than the grid here, or a large file would run out of numbers at its end.
        cut = replace(cut, unit=max(cut.unit, len(cell(limits, number))))
        rest = _number(number, _tile(content, cut, ByteRange(at, content.size), tail=True))
        if rest[-1].number > limits.max_parts:
            return None
        parts += rest
    return parts


def _number(first: int, tiles: list[tuple[ByteRange, Action]]) -> list[PlannedPart]:
    return [PlannedPart(n, span, action) for n, (span, action) in enumerate(tiles, first)]


def _tile(
    content: Content, cut: _Cut, span: ByteRange, *, tail: bool
) -> list[tuple[ByteRange, Action]]:
    """`span` in legal parts; only with `tail` may the last one be short."""
    least = cut.limits.min_part_bytes
    tiles: list[tuple[ByteRange, Action]] = []
    for region, action in _regions(content, cut, span, tail=tail):
        short_end = tail and region.stop == span.stop
        unit = cut.unit if action is Action.UPLOAD else cut.copy_unit
        tiles += [(part, action) for part in _split(region, unit, least, short_end=short_end)]
    return tiles


def _regions(
    content: Content, cut: _Cut, span: ByteRange, *, tail: bool
) -> list[tuple[ByteRange, Action]]:
    """Copied and sent regions in turn, each at least one part long (but for the tail)."""
    least = cut.limits.min_part_bytes
    found: list[tuple[ByteRange, Action]] = []
    at = span.start
    for run in content.base_runs(span):
        # Changed bytes before the run are padded from its beginning.
        start = run.start if at == run.start else max(run.start, at + least)
        if run.stop - start < cut.least_copy:
            continue
        if at < start:
            found.append((ByteRange(at, start), Action.UPLOAD))
        found.append((ByteRange(start, run.stop), Action.COPY))
        at = run.stop
    if at == span.stop:
        return found
    while not tail and found and span.stop - at < least:
        before, action = found.pop()
        edge = span.stop - least
        if action is Action.COPY and edge - before.start >= cut.least_copy:
            found.append((ByteRange(before.start, edge), action))
            at = edge
        else:
            at = before.start
    found.append((ByteRange(at, span.stop), Action.UPLOAD))
    return found


def _split(region: ByteRange, unit: int, least: int, *, short_end: bool) -> list[ByteRange]:
    """About `unit` bytes each; the last is shorter with `short_end`, else all are alike."""
    size = len(region)
    if short_end:
        edges = [*range(region.start, region.stop, unit), region.stop]
    else:
        count = max(1, min(-(-size // unit), size // least))
        edges = [region.start + size * i // count for i in range(count + 1)]
    return [ByteRange(a, b) for a, b in pairwise(edges)]
