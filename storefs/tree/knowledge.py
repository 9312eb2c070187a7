"""What a mount knows of names without asking, and what an answer makes of its inodes.

The base of `tree.Tree`. Holds the table, the listings and what stands only here; sends nothing and
never waits, so between two awaits of the layers above everything here is of one moment.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from storefs.errors import NotADirectory, Superseded
from storefs.tree.inode import Entry, Inode, Kind, Standing
from storefs.tree.listing import Directory, Page
from storefs.tree.remembered import Remembered
from storefs.tree.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storefs.config import TreeConfig
    from storefs.store.store import Store
    from storefs.tree.local import LocalFiles
    from storefs.units import InodeNumber


@dataclass(frozen=True, slots=True)
class Missing:
    """Nothing has the name; how long the kernel may believe that, in seconds."""

    ttl_seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a name: an entry or None, and until when it holds (trio time)."""

    entry: Entry | None
    until: float


CHANGES_KEPT_TIMEOUTS = 4
"""No page of a listing is under way for longer than so many time-outs."""


class Knowledge:
    """Names and inodes as they stand."""

    def __init__(
        self,
        store: Store,
        config: TreeConfig,
        files: LocalFiles,
        nursery: trio.Nursery,
        *,
        give_back: Callable[[InodeNumber, str], None],
    ) -> None:
        self.store = store
        self.config = config
        self.files = files
        self.nursery = nursery
        self.give_back = give_back
        self.table = Table(config.max_inodes, self._is_needed)
        self.remembered = Remembered(max(1000, config.max_inodes // 4))
        self.hidden_keys = 0
        self._lists: dict[InodeNumber, trio.Event] = {}
        # Directories whose names are known, the longest unused first, and how many names.
        self._learned: OrderedDict[InodeNumber, int] = OrderedDict()
        self._learned_names = 0
        # What a rename moves just now: neither answers of the store nor new names touch it.
        self._moving: set[InodeNumber] = set()
        self._moved_one = trio.Event()

    # -- what stands here ----------------------------------------------------------------------

    def _is_needed(self, inode: Inode) -> bool:
        if inode.is_dir:
            directory = inode.directory
            return directory is not None and directory.stands_here
        return self.is_local(inode)

    def is_local(self, inode: Inode) -> bool:
        """True if what stands here is more than what the store has, or a handle is open."""
        number = inode.number
        return self.files.has_handles(number) or self.files.local(number) is not None

    def directory(self, inode: Inode) -> Directory:
        """What is known of a directory's names. Raises NotADirectory."""
        if not inode.is_dir:
            raise NotADirectory(inode.path)
        if inode.directory is None:
            inode.directory = Directory()
        return inode.directory

    def parent_of(self, number: InodeNumber) -> Inode:
        """A directory in which a name is used. Raises Superseded if it was removed."""
        parent = self.table.get(number)
        self.directory(parent)
        if parent.standing is not Standing.CURRENT:
            raise Superseded(parent.path)
        return parent

    def is_here(self, inode: Inode) -> bool:
        """True if the name stands whatever the store says of it."""
        if inode.is_dir:
            directory = inode.directory
            return directory is not None and directory.stands_here
        return not inode.etag or self.files.local(inode.number) is not None

    @contextlib.contextmanager
    def moving(self, inode: Inode) -> Iterator[None]:
        """An inode, and all below it, is given another name inside."""
        self._moving.add(inode.number)
        try:
            yield
        finally:
            self._moving.discard(inode.number)
            self._moved_one.set()
            self._moved_one = trio.Event()

    def is_moving(self, inode: Inode | None) -> bool:
        """True if the inode or a directory above it is being renamed."""
        while inode is not None and self._moving:
            if inode.number in self._moving:
                return True
            inode = inode.parent
        return False

    async def at_rest(self, inode: Inode) -> None:
        """Wait until no rename moves the inode."""
        while self.is_moving(inode):
            await self._moved_one.wait()

    def names_here(self, inode: Inode) -> dict[str, Inode]:
        """What stands in a directory whatever the store says; what no longer does is let go."""
        here = self.directory(inode).here
        for name, child in list(here.items()):
            if child.standing is not Standing.CURRENT or not self.is_here(child):
                del here[name]
        return here

    # -- answers -------------------------------------------------------------------------------

    def known(self, parent: Inode, name: str) -> Found | None:
        """The answer to a name without asking, or None if it must be asked."""
        now = trio.current_time()
        directory = self.directory(parent)
        exists, missing = self.config.metadata_ttl_seconds, self.config.negative_ttl_seconds
        change = directory.changes.get(name)
        if change is not None and change.at >= directory.listed_at:
            until = change.at + (exists if change.entry is not None else missing)
            return Found(change.entry, until) if now < until else None
        if directory.entries is None:
            return None
        entry = directory.entries.get(name)
        until = directory.listed_at + (exists if entry is not None else missing)
        return Found(entry, until) if now < until else None

    def confirm(self, parent: Inode, entry: Entry, asked_at: float) -> None:
        """The store has a directory, asked after our last removal in it: it needs no keeping."""
        child = parent.children.get(entry.name)
        known = child.directory if child is not None else None
        if known is None or known.stays_since is None or entry.kind is not Kind.DIRECTORY:
            return
        if asked_at > known.stays_since:
            known.stays_since = None
            if not known.here:
                self.directory(parent).here.pop(entry.name, None)

    def reconcile(self, parent: Inode, name: str, found: Found) -> Inode | Missing:
        """Make the inodes agree with an answer of the store. Does not wait."""
        now = trio.current_time()
        child = parent.children.get(name)
        entry = found.entry
        if child is not None and self.is_moving(child):
            return child
        if entry is not None:
            self.confirm(parent, entry, found.until - self.config.metadata_ttl_seconds)
        if child is not None and self.is_here(child):
            child.fresh_until = max(child.fresh_until, found.until)
            return child
        if entry is None:
            if child is not None:
                self.table.detach(child, Standing.SUPERSEDED)
            return Missing(max(0.0, found.until - now))
        if child is not None and child.kind is entry.kind and child.etag == entry.etag:
            child.fresh_until = found.until
            return child
        inode = self.table.add(parent, name, entry.kind)
        inode.size, inode.etag = entry.size, entry.etag
        inode.mtime_ns = inode.ctime_ns = entry.mtime_ns
        inode.fresh_until = found.until
        known = self.remembered.get(inode.key, entry.etag)
        if known is not None:
            inode.mtime_ns = known.mtime_ns or entry.mtime_ns
            inode.attributes = known.attributes
        self._bound_table()
        return inode

    def _bound_table(self) -> None:
        for inode in self.table.excess(16):
            if inode.lookups and inode.parent is not None:
                self.give_back(inode.parent.number, inode.name)
            else:
                self.table.release(inode)

    def learn(self, inode: Inode, pages: list[Page]) -> None:
        """Remember a complete listing; of all directories together as many names as inodes."""
        directory = self.directory(inode)
        directory.learn(pages)
        self._account(inode)

    def note_change(self, parent: Inode, name: str, entry: Entry | None) -> None:
        """What this mount did to a name; entry None: removed."""
        self.directory(parent).changed(
            name, entry, trio.current_time(), CHANGES_KEPT_TIMEOUTS * self.store.timeout_seconds
        )
        self._account(parent)

    def later_change(self, parent: Inode, name: str, asked_at: float) -> Found | None:
        """Our own change of a name, if it is younger than a question: the answer is too old."""
        change = self.directory(parent).changes.get(name)
        if change is None or change.at < asked_at:
            return None
        exists, missing = self.config.metadata_ttl_seconds, self.config.negative_ttl_seconds
        return Found(change.entry, change.at + (missing if change.entry is None else exists))

    def _account(self, inode: Inode) -> None:
        """Bound the names that are remembered of all directories together."""
        count = len(self.directory(inode).entries or ())
        self._learned_names += count - self._learned.pop(inode.number, 0)
        if count:
            self._learned[inode.number] = count
        while self._learned_names > self.config.max_inodes // 2 and len(self._learned) > 1:
            number, count = self._learned.popitem(last=False)
            self._learned_names -= count
            with contextlib.suppress(Superseded):
                self.directory(self.table.get(number)).invalidate()
