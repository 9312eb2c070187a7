"""Sizes, byte ranges and the numbers that must not be mixed up.

Used by every layer; knows none of them. The one danger is a half-open range taken for a closed
one: `ByteRange(0, 10)` is ten bytes, 0 to 9.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

InodeNumber = NewType("InodeNumber", int)
HandleNumber = NewType("HandleNumber", int)
ChunkIndex = NewType("ChunkIndex", int)

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*$", re.IGNORECASE)
_FACTORS = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": TIB}


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """Bytes `start` up to, but not including, `stop`."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if self.start < 0 or self.stop < self.start:
            raise ValueError(f"no byte range: {self.start}..{self.stop}")

    def __len__(self) -> int:
        return self.stop - self.start

    def __bool__(self) -> bool:
        return self.stop > self.start

    def intersect(self, other: ByteRange) -> ByteRange | None:
        """The bytes in both ranges, or None where they share none."""
        start, stop = max(self.start, other.start), min(self.stop, other.stop)
        return ByteRange(start, stop) if start < stop else None


def parse_size(text: str) -> int:
    """Bytes meant by `512M`, `1.5GiB`, `4096`; factors are powers of 1,024.

    Raises ValueError with one readable sentence.
    """
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size: write a number with K, M, G or T, such as 512M")
    return int(float(match[1]) * _FACTORS[match[2].lower()])


def format_size(size_bytes: int) -> str:
    """A size for people: `0 B`, `1.5 MiB`, `12 GiB`."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
