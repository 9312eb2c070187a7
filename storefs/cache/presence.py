"""What is on disk, as far as we know without asking: a bit for each chunk.

Used by `cache.shelf` alone, from the trio thread. It saves the crossing to a thread for chunks that
are not on disk, which is every chunk of a cold read. It is a hint: a set bit may be wrong (the
file was evicted or deleted; reading it then fails, and `unmark` says so), a clear bit may be wrong
too (another mount has stored the chunk since), which costs a request, so it is believed for half a
minute only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import LRUCache

from storefs.cache.chunks import chunk_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from storefs.cache.chunks import ObjectVersion

PAGE_CHUNKS = 1024
"""One look into the index tells so much: 1 GiB of an object, in 128 bytes."""
BELIEVED_SECONDS = 30.0
_PAGES = 8192
"""Pages remembered, some 3 MiB at most."""


@dataclass(slots=True)
class Page:
    """Which of PAGE_CHUNKS chunks are on disk, and the token to read them with."""

    token: bytes
    bits: int
    until: float


class Presence:
    """Pages by version and page number, the least recently used forgotten first."""

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._pages: LRUCache[tuple[ObjectVersion, int], Page] = LRUCache(_PAGES)

    def page(self, version: ObjectVersion, number: int, now: float) -> Page | None:
        """What is believed at `now`; None if the index must be asked."""
        page = self._pages.get((version, number))
        return page if page is not None and page.until > now else None

    def learn(
        self, version: ObjectVersion, number: int, token: bytes, found: Iterable[int], now: float
    ) -> Page:
        """The index was asked: `found` are the chunks of this page on disk."""
        bits = 0
        for index in found:
            bits |= 1 << (index - number * PAGE_CHUNKS)
        page = Page(token, bits, now + BELIEVED_SECONDS)
        self._pages[version, number] = page
        return page

    def mark(self, version: ObjectVersion, index: int, token: bytes) -> None:
        """The chunk was written to disk."""
        page = self._pages.get((version, index // PAGE_CHUNKS))
        if page is not None and page.token == token:
            page.bits |= 1 << (index % PAGE_CHUNKS)

    def unmark(self, version: ObjectVersion, index: int) -> None:
        """The chunk could not be read."""
        page = self._pages.get((version, index // PAGE_CHUNKS))
        if page is not None:
            page.bits &= ~(1 << (index % PAGE_CHUNKS))

    def forget(self, version: ObjectVersion) -> None:
        """Ask the index the next time."""
        for key in list(self._keys_of(version)):
            del self._pages[key]

    def _keys_of(self, version: ObjectVersion) -> Iterator[tuple[ObjectVersion, int]]:
        pages = chunk_count(version.size, self._chunk_bytes * PAGE_CHUNKS)
        if pages <= len(self._pages):
            yield from (key for n in range(pages) if (key := (version, n)) in self._pages)
        else:
            yield from (key for key in self._pages if key[0] == version)


def is_set(page: Page, index: int) -> bool:
    """Is the chunk believed to be on disk?"""
    return bool(page.bits >> (index % PAGE_CHUNKS) & 1)
