"""The tree of names: what operations ask for.

Lookup, attributes and listing; creating, removing and renaming stand in the modules below. Knows no
kernel and no bytes of files. Touched by the trio thread alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from storefs.errors import EntryNotFound, Superseded
from storefs.tree import names
from storefs.tree.inode import Entry, Inode, Kind, Standing
from storefs.tree.knowledge import Found, Missing
from storefs.tree.listing import PAGE_POSITIONS, DirStream, Page
from storefs.tree.rename import Renames

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from storefs.units import InodeNumber

LOCAL_TTL_SECONDS = 1.0
"""A file that is written here: the kernel asks again after its own writes anyhow."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What the kernel is told of an inode; times in nanoseconds, the TTL in seconds."""

    number: InodeNumber
    mode: int
    size: int
    nlink: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    ttl_seconds: float


class Tree(Renames):
    """See the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.started_ns = time.time_ns()

    # -- names and attributes ------------------------------------------------------------------

    async def lookup(self, parent: InodeNumber, name: bytes) -> Inode | Missing:
        """The inode under a name."""
        directory = self.parent_of(parent)
        if name == b".":
            return directory
        if name == b"..":
            return directory.parent or directory
        try:
            text = names.decode_lookup(name)
        except EntryNotFound:
            return Missing(self.config.negative_ttl_seconds)
        return await self.resolve(directory, text)

    async def refreshed(self, number: InodeNumber) -> Inode:
        """The inode, asked for again if what is known of it is too old.

        If its name means another version now, handles keep the old one's attributes.
        """
        inode = self.table.get(number)
        now = trio.current_time()
        if inode.standing is not Standing.CURRENT or inode.parent is None:
            return inode
        if inode.is_dir or self.is_here(inode) or now < inode.fresh_until:
            return inode
        await self.resolve(inode.parent, inode.name)
        return inode

    async def open_file(self, number: InodeNumber) -> Inode:
        """An inode to be opened. Raises Superseded if its name means another version by now."""
        inode = await self.refreshed(number)
        if inode.standing is not Standing.CURRENT:
            raise Superseded(inode.path)
        return inode

    def stat(self, inode: Inode) -> Stat:
        """What the kernel is told; what stands here goes before what the store said."""
        local = None if inode.is_dir else self.files.local(inode.number)
        mode, uid, gid = inode.attributes or self._defaults(inode)
        now = trio.current_time()
        if inode.is_dir:
            size, mtime_ns = 4096, inode.mtime_ns or self.started_ns
        elif local is not None:
            size, mtime_ns = local.size, local.mtime_ns
        else:
            size, mtime_ns = inode.size, inode.mtime_ns
        ttl = max(0.0, inode.fresh_until - now)
        if inode.parent is None:
            ttl = self.config.metadata_ttl_seconds
        elif local is not None:
            ttl = min(LOCAL_TTL_SECONDS, self.config.metadata_ttl_seconds)
        return Stat(
            number=inode.number,
            mode=inode.kind.value | mode,
            size=size,
            nlink=0 if inode.standing is Standing.REMOVED else 1,
            uid=uid,
            gid=gid,
            mtime_ns=mtime_ns,
            ctime_ns=max(inode.ctime_ns, mtime_ns),
            ttl_seconds=ttl,
        )

    def _defaults(self, inode: Inode) -> tuple[int, int, int]:
        config = self.config
        if inode.kind is Kind.SYMLINK:
            return 0o777, config.uid, config.gid
        mode = config.dir_mode if inode.is_dir else config.file_mode
        return mode, config.uid, config.gid

    def set_attributes(
        self,
        inode: Inode,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        mtime_ns: int | None = None,
    ) -> None:
        """Keep attributes in memory, for as long as this version stands."""
        self.check_writable(inode.path)
        old_mode, old_uid, old_gid = inode.attributes or self._defaults(inode)
        if mode is not None or uid is not None or gid is not None:
            inode.attributes = (
                old_mode if mode is None else mode & 0o7777,
                old_uid if uid is None else uid,
                old_gid if gid is None else gid,
            )
        if mtime_ns is not None:
            inode.mtime_ns = mtime_ns
        inode.ctime_ns = time.time_ns()
        if inode.etag and inode.standing is Standing.CURRENT:
            self.remembered.note_inode(inode)

    def counted(self, inode: Inode) -> None:
        """The kernel was told of the inode once more."""
        inode.lookups += 1

    def forget(self, number: InodeNumber, count: int) -> None:
        """The kernel takes lookups back. Never raises."""
        self.table.forget(number, count)

    # -- listing -------------------------------------------------------------------------------

    async def open_directory(self, number: InodeNumber) -> OpenDirectory:
        """A directory to be read."""
        inode = self.table.get(number)
        if inode.standing is Standing.REMOVED:
            raise EntryNotFound(inode.path)
        return OpenDirectory(self, inode)

    def entry_inode(self, directory: Inode, entry: Entry, asked_at: float) -> Inode | None:
        """The inode of a listed entry, or None if the name went meanwhile."""
        until = asked_at + self.config.metadata_ttl_seconds
        inode = self.reconcile(directory, entry.name, Found(entry, until))
        return None if isinstance(inode, Missing) else inode


class OpenDirectory:
    """One open directory: its entries in an order that stays, each name once."""

    def __init__(self, tree: Tree, inode: Inode) -> None:
        self.tree = tree
        self.inode = inode
        self._stream: DirStream | None = None
        self._known: Page | None = None
        self._here: dict[str, None] = {}

    async def entries(self, position: int) -> AsyncGenerator[tuple[Inode, int], None]:
        """Inodes from a position on, each with the position of the next; 0 is the beginning."""
        tree, inode = self.tree, self.inode
        directory = tree.directory(inode)
        if position == 0:
            self._begin()
        index, place = divmod(position, PAGE_POSITIONS)
        while (page := await self._page(index)) is not None:
            for at in range(place, len(page.entries)):
                entry = directory.latest(page.entries[at], page.asked_at)
                if entry is None or entry.name in self._here:
                    continue  # removed since, or told at the end, once
                child = tree.entry_inode(inode, entry, page.asked_at)
                if child is not None:
                    yield child, index * PAGE_POSITIONS + at + 1
            index, place = index + 1, 0
        names = list(self._here)
        for at in range(place, len(names)):
            child = self._child(names[at])
            if child is not None:
                yield child, index * PAGE_POSITIONS + at + 1

    def _begin(self) -> None:
        """At the start: a listing that is still young serves without a request.

        Names that only this mount has are fixed here: some will be stored while others are told.
        """
        now = trio.current_time()
        self._here = dict.fromkeys(sorted(self.tree.names_here(self.inode)))
        directory = self.tree.directory(self.inode)
        age = now - directory.listed_at
        if directory.entries is not None and age < self.tree.config.metadata_ttl_seconds:
            self._known = Page(list(directory.entries.values()), directory.listed_at, None)
            self._stream = None
        else:
            self._known = None
            self._stream = self.tree.stream(self.inode)

    async def _page(self, index: int) -> Page | None:
        if self._known is None and self._stream is None:
            self._begin()
        if self._known is not None:
            return self._known if index == 0 else None
        assert self._stream is not None
        return await self._stream.page(index)

    def _child(self, name: str) -> Inode | None:
        """What stands under a name that only this mount had when the listing began."""
        directory = self.tree.directory(self.inode)
        change = directory.changes.get(name)
        if name not in self.inode.children and change is not None and change.entry is not None:
            return self.tree.entry_inode(self.inode, change.entry, change.at)
        return self.inode.children.get(name)


__all__ = ["Missing", "OpenDirectory", "Stat", "Tree"]
