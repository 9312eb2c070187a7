"""Pages of a listing, for stores that are ours: memory and a local directory.

Pure. Keys are compared as text, which for UTF-8 is the order of their bytes, as S3 lists. A marker
says what came last, a key or a common prefix, and is opaque to callers.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

from storefs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from storefs.drivers.models import Object


def successor(prefix: str) -> str:
    """The smallest text that is greater than every text beginning with `prefix`.

    Empty for a prefix that nothing is greater than.
    """
    for index in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[index]) + 1
        if code == 0xD800:  # surrogates are no characters and cannot be in a key
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[:index] + chr(code)
    return ""


def marker_after(name: str, is_prefix: bool) -> str:
    """The marker of a page that ended with this entry."""
    return ("p:" if is_prefix else "k:") + name


def marker_of(page: list[Object]) -> str | None:
    """The marker of what follows this page."""
    return marker_after(page[-1].name, page[-1].is_prefix) if page else None


def lower_bound(marker: str | None, start_after: str | None) -> tuple[str, bool]:
    """`(bound, inclusive)`: where a page begins; everything before `bound` is left out."""
    if marker is None:
        return start_after or "", not start_after
    kind, name = marker[:2], marker[2:]
    if kind == "k:":
        return name, False
    if kind == "p:":
        return successor(name), True
    raise ConfigError(f"{marker!r} is no marker of this store")


def roll_up(name: str, prefix: str, delimiter: str | None) -> str | None:
    """The common prefix that stands for this key, or None if it is listed itself."""
    if not delimiter:
        return None
    cut = name.find(delimiter, len(prefix))
    return None if cut < 0 else name[: cut + len(delimiter)]


def entries(
    names: Sequence[str],
    prefix: str,
    delimiter: str | None,
    start_after: str | None,
    marker: str | None,
) -> Iterator[tuple[str, bool]]:
    """`(name, is_prefix)` out of sorted keys, each common prefix once."""
    bound, inclusive = lower_bound(marker, start_after)
    if bound < prefix:
        bound, inclusive = prefix, True
    position = (bisect.bisect_left if inclusive else bisect.bisect_right)(names, bound)
    while position < len(names) and names[position].startswith(prefix):
        common = roll_up(names[position], prefix, delimiter)
        if common is None:
            yield names[position], False
            position += 1
        else:
            yield common, True
            position = bisect.bisect_left(names, successor(common), position)


def entries_ordered_by(
    order: Callable[[str], object],
    names: Sequence[str],
    prefix: str,
    delimiter: str | None,
    start_after: str | None,
    marker: str | None,
) -> Iterator[tuple[str, bool]]:
    """As `entries`, for a store that lists in an order of its own."""
    ordered = sorted(names, key=order)  # type: ignore[arg-type]  # the caller's keys compare
    if start_after and marker is None:
        ordered = [name for name in ordered if order(name) > order(start_after)]  # type: ignore[operator]
    seen: dict[tuple[str, bool], None] = {}
    for name in ordered:
        if name.startswith(prefix):
            common = roll_up(name, prefix, delimiter)
            seen[(common, True) if common else (name, False)] = None
    found = list(seen)
    begin = 0
    if marker is not None:
        begin = found.index((marker[2:], marker[:2] == "p:")) + 1
    yield from found[begin:]
