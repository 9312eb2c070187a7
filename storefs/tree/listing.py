"""Pages of a bucket listing as directory entries, and what a directory knows of its names.

`Directory` is one directory's knowledge: a complete listing while it is young, our own changes
(which a page that was asked for before them must not undo), and names that exist only here.
`DirStream` is one open directory: positions are page number and place in the page, and the pages'
markers are kept, so that dropped pages can be listed again. Used by the tree; asks the store
through the loader it is given.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from storefs.tree import names
from storefs.tree.inode import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from storefs.drivers.models import Object
    from storefs.tree.inode import Inode

log = logging.getLogger(__name__)

PAGE_POSITIONS = 1 << 20
"""Positions are `page * PAGE_POSITIONS + place + 1`; a page has 1,000 entries at most."""

KEPT_PAGES = 4
MOST_KNOWN_ENTRIES = 20_000
"""A complete listing is remembered up to this size; a larger directory is streamed each time."""

ONE_PAGE = 1000
"""A directory of so many entries is listed again rather than asked name by name: one request a
second for all names, where each name would cost two."""


@dataclass(frozen=True, slots=True)
class Change:
    """What this mount did to a name, and when (trio time); entry None: removed."""

    at: float
    entry: Entry | None


@dataclass(slots=True)
class Page:
    """Entries of one LIST page, when it was asked for, and the marker of the next."""

    entries: list[Entry]
    asked_at: float
    following: str | None
    has_flag: bool = False
    folders: set[str] = field(default_factory=set)
    hidden: int = 0


@dataclass(slots=True)
class Directory:
    """What is known of one directory's names."""

    entries: dict[str, Entry] | None = None  # complete, as of `listed_at`
    listed_at: float = float("-inf")
    first_page: Page | None = None  # of a lookup's LIST, used once
    announced: bool | None = None  # holds entries with more to them than a listing says
    announced_at: float = float("-inf")  # when the store was last asked (trio time)
    changes: dict[str, Change] = field(default_factory=dict)
    here: dict[str, Inode] = field(default_factory=dict)  # not in the store (yet)
    folders: set[str] = field(default_factory=set)  # names with a foreign marker `dir_$folder$`
    # When something below was removed here (trio time): the directory stays, though that may have
    # been its last object, until rmdir or until the store is seen to have the directory.
    stays_since: float | None = None

    @property
    def stands_here(self) -> bool:
        """True if the directory is there whatever the store says."""
        return self.stays_since is not None or bool(self.here)

    def changed(self, name: str, entry: Entry | None, now: float, kept_seconds: float) -> None:
        """Note our own change, for `kept_seconds` at least, and keep the listing true."""
        self.changes.pop(name, None)
        self.changes[name] = Change(now, entry)
        if len(self.changes) % 1024 == 0:
            self.prune(now - kept_seconds)
        if self.entries is not None:
            if entry is None:
                self.entries.pop(name, None)
            else:
                self.entries[name] = entry
                if len(self.entries) > MOST_KNOWN_ENTRIES:
                    self.invalidate()
        if self.first_page is not None:
            self.first_page = None

    def prune(self, before: float) -> None:
        """Forget changes that are older than any page still under way can be."""
        for name, change in list(self.changes.items()):
            if change.at >= before:
                return
            del self.changes[name]

    def latest(self, entry: Entry, asked_at: float) -> Entry | None:
        """An entry of a page with our later change laid over it; None: removed since."""
        change = self.changes.get(entry.name)
        return entry if change is None or change.at < asked_at else change.entry

    def learn(self, pages: list[Page]) -> None:
        """Remember a complete listing, made of all pages from the first to the last."""
        asked_at = pages[0].asked_at
        entries = {entry.name: entry for page in pages for entry in page.entries}
        for name, change in self.changes.items():
            if change.at >= asked_at:
                if change.entry is None:
                    entries.pop(name, None)
                else:
                    entries[name] = change.entry
        self.entries, self.listed_at = entries, asked_at

    def invalidate(self) -> None:
        """Ask the store at the next question."""
        self.entries, self.listed_at, self.first_page = None, float("-inf"), None


def page_of(objects: list[Object], prefix: str, following: str | None, asked_at: float) -> Page:
    """The entries in one page of a listing with delimiter `/` under a directory's prefix.

    A directory hides an object of its name; what cannot be a name is counted in `hidden`.
    """
    page = Page([], asked_at, following)
    found: dict[str, Entry] = {}
    cut = len(prefix)
    for listed in objects:
        name = listed.name[cut:]
        if name == "":  # the directory's own marker
            continue
        is_dir = listed.is_prefix or name.endswith("/")
        if is_dir:
            name = name.rstrip("/") if name.count("/") == 1 else name
        elif name == names.FLAG_NAME:
            page.has_flag = True
        if names.is_reserved(name):
            continue
        folder = None if is_dir else names.folder_name(name)
        if folder is not None and names.is_showable(folder) and listed.size == 0:
            found.setdefault(folder, Entry(folder, Kind.DIRECTORY))
            page.folders.add(folder)
            continue
        if not names.is_showable(name):
            page.hidden += 1
            continue
        if is_dir:
            if name in found and found[name].kind is not Kind.DIRECTORY:
                page.hidden += 1
            found[name] = Entry(name, Kind.DIRECTORY)
        elif name in found:
            page.hidden += 1
        else:
            found[name] = Entry(name, Kind.FILE, listed.size, listed.mtime_ns, listed.etag)
    page.entries = list(found.values())
    return page


class DirStream:
    """One open directory: entries from any position, page after page, one page ahead."""

    def __init__(
        self,
        load: Callable[[str | None], Awaitable[Page]],
        learn: Callable[[list[Page]], None],
        nursery: trio.Nursery,
    ) -> None:
        self._load = load
        self._learn = learn
        self._nursery = nursery
        self._markers: list[str | None] = [None]  # INVARIANT: marker of page i at i
        self._pages: OrderedDict[int, Page] = OrderedDict()
        self._loading: dict[int, trio.Event] = {}
        self._whole: list[Page] | None = []  # all pages so far, while worth remembering
        self.last_page: int | None = None

    async def page(self, index: int) -> Page | None:
        """Page `index`, or None past the last one; the next is asked for meanwhile.

        Positions come from the kernel: a page whose marker was never seen is reached by listing
        up to it.
        """
        while index >= len(self._markers) and self.last_page is None:
            await self._get(len(self._markers) - 1)
        if self.last_page is not None and index > self.last_page:
            return None
        page = await self._get(index)
        if page.following is not None and index + 1 not in self._pages:
            self._nursery.start_soon(self._ahead, index + 1)
        return page

    async def _ahead(self, index: int) -> None:
        try:
            await self._get(index)
        except Exception as exc:  # the reader asks again and gets the error itself
            log.debug("page %d ahead: %s", index, exc)

    async def _get(self, index: int) -> Page:
        while index in self._loading:
            await self._loading[index].wait()
        if index in self._pages:
            self._pages.move_to_end(index)
            return self._pages[index]
        done = self._loading[index] = trio.Event()
        try:
            page = await self._load(self._markers[index])
            self._keep(index, page)
            return page
        finally:
            del self._loading[index]
            done.set()

    def _keep(self, index: int, page: Page) -> None:
        self._pages[index] = page
        while len(self._pages) > KEPT_PAGES:
            self._pages.popitem(last=False)
        if page.following is None:
            self.last_page = index
        elif index + 1 == len(self._markers):
            self._markers.append(page.following)
        if self._whole is None or index != len(self._whole):
            return
        self._whole.append(page)
        if sum(len(kept.entries) for kept in self._whole) > MOST_KNOWN_ENTRIES:
            self._whole = None
        elif page.following is None:
            self._learn(self._whole)
            self._whole = None
