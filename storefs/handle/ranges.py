"""Which bytes of a file are local, which still come from the stored object, and which are zero.

Pure; used by the writer and the commit plan. Knows no file and no store. The one danger: bytes that
a truncation cut off must not come back when the file grows again, so `base_limit` only ever falls.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from storefs.units import ByteRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class RangeSet:
    """A set of byte positions, kept as sorted ranges that neither overlap nor touch."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[ByteRange] = ()) -> None:
        # INVARIANT: starts[i] < stops[i] < starts[i + 1]
        self._starts: list[int] = []
        self._stops: list[int] = []
        for span in ranges:
            self.add(span)

    def __iter__(self) -> Iterator[ByteRange]:
        return (ByteRange(a, b) for a, b in zip(self._starts, self._stops, strict=True))

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"RangeSet({', '.join(f'{span.start}..{span.stop}' for span in self)})"

    @property
    def total_bytes(self) -> int:
        """How many positions are in the set."""
        return sum(self._stops) - sum(self._starts)

    def add(self, span: ByteRange) -> None:
        """Put every position of `span` into the set."""
        if not span:
            return
        first = bisect_left(self._stops, span.start)
        last = bisect_right(self._starts, span.stop)
        start, stop = span.start, span.stop
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def cut(self, size: int) -> None:
        """Take out every position from `size` on."""
        keep = bisect_left(self._starts, size)
        del self._starts[keep:]
        del self._stops[keep:]
        if self._stops and self._stops[-1] > size:
            self._stops[-1] = size

    def covers(self, span: ByteRange) -> bool:
        """True if every position of `span` is in the set."""
        at = bisect_right(self._starts, span.start) - 1
        return not span or (at >= 0 and self._stops[at] >= span.stop)

    def within(self, span: ByteRange) -> list[ByteRange]:
        """The ranges of the set, clipped to `span`, in order."""
        first = bisect_right(self._stops, span.start)
        last = bisect_left(self._starts, span.stop)
        return [
            ByteRange(max(self._starts[i], span.start), min(self._stops[i], span.stop))
            for i in range(first, last)
        ]

    def gaps(self, span: ByteRange) -> list[ByteRange]:
        """What of `span` is not in the set, in order."""
        found = []
        at = span.start
        for held in self.within(span):
            if held.start > at:
                found.append(ByteRange(at, held.start))
            at = held.stop
        if at < span.stop:
            found.append(ByteRange(at, span.stop))
        return found

    def check_invariants(self) -> None:
        """For tests."""
        edges = [edge for pair in zip(self._starts, self._stops, strict=True) for edge in pair]
        assert all(a < b for a, b in pairwise(edges)), self


class Source(enum.Enum):
    """Where the bytes of a piece are."""

    STAGED = "in the staging file"
    BASE = "in the stored object, unchanged"
    ZERO = "nowhere: they are zeros"


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of one source."""

    span: ByteRange
    source: Source


@dataclass(slots=True)
class Content:
    """What a file consists of. `base_limit` bytes of the stored object still count."""

    size: int = 0
    base_limit: int = 0  # INVARIANT: <= size
    staged: RangeSet = field(default_factory=RangeSet)  # INVARIANT: all below size

    @classmethod
    def stored(cls, size: int) -> Content:
        """The content of an unchanged object."""
        return cls(size, size)

    def write(self, span: ByteRange) -> None:
        """The bytes of `span` are in the staging file now."""
        self.staged.add(span)
        if span:
            self.size = max(self.size, span.stop)

    def truncate(self, size: int) -> None:
        """The file has `size` bytes now; what was cut off is gone for good."""
        self.staged.cut(size)
        self.base_limit = min(self.base_limit, size)
        self.size = size

    def pieces(self, span: ByteRange) -> list[Piece]:
        """`span`, clipped to the file, taken apart by source, in order and without a gap."""
        span = ByteRange(span.start, max(span.start, min(span.stop, self.size)))
        found = [Piece(held, Source.STAGED) for held in self.staged.within(span)]
        for gap in self.staged.gaps(span):
            edge = min(max(self.base_limit, gap.start), gap.stop)
            if gap.start < edge:
                found.append(Piece(ByteRange(gap.start, edge), Source.BASE))
            if edge < gap.stop:
                found.append(Piece(ByteRange(edge, gap.stop), Source.ZERO))
        return sorted(found, key=lambda piece: piece.span.start)

    def base_runs(self, span: ByteRange) -> list[ByteRange]:
        """The ranges of `span` whose bytes are those of the stored object."""
        below = span.intersect(ByteRange(0, self.base_limit))
        return self.staged.gaps(below) if below else []

    def check_invariants(self) -> None:
        """For tests."""
        self.staged.check_invariants()
        assert 0 <= self.base_limit <= self.size
        assert not self.staged.within(ByteRange(self.size, 1 << 62))
