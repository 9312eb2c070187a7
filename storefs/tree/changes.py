"""Create and remove names, in terms of objects.

The middle of `tree.Tree`. Every change is noted in the directory it happens in, so that listings
that were asked for before it do not undo it. A delete carries the version that was seen; if another
one is there, the answer is ESTALE and the kernel looks the name up again by itself.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

import trio

from storefs.drivers.models import Condition, ObjectAttributes
from storefs.errors import (
    IsADirectory,
    NameTaken,
    NotADirectory,
    NotALink,
    NotEmpty,
    ObjectChanged,
    ObjectExists,
    ReadOnly,
)
from storefs.tree import names
from storefs.tree.inode import Entry, Inode, Kind, Standing
from storefs.tree.knowledge import Missing
from storefs.tree.lookup import MAX_LINK_BYTES, Lookup

if TYPE_CHECKING:
    from storefs.store.version import Version
    from storefs.units import InodeNumber

log = logging.getLogger(__name__)

LINK_MODE = str(Kind.SYMLINK.value | 0o777)


class Changes(Lookup):
    """Everything that gives a name or takes it."""

    def check_writable(self, path: str = "") -> None:
        """Raises ReadOnly on a read-only mount."""
        if self.config.read_only:
            raise ReadOnly(path)

    def new_name(self, parent: Inode, name: bytes) -> str:
        """A name to create in a directory, checked."""
        self.check_writable(parent.path)
        return names.decode_new(name, parent.key, self.store.capabilities.max_key_bytes)

    # -- files ---------------------------------------------------------------------------------

    def create(self, parent: Inode, name: bytes, *, exclusive: bool) -> Inode:
        """A new file that only this mount sees until its first commit.

        An existing one is given back unless `exclusive`; the kernel asked before, so this happens
        only when two processes create at once.
        """
        text = self.new_name(parent, name)
        child = parent.children.get(text)
        if child is not None and self.is_here(child):
            if exclusive or child.is_dir:
                raise NameTaken(child.path)
            return child
        inode = self.table.add(parent, text, Kind.FILE)
        inode.mtime_ns = inode.ctime_ns = time.time_ns()
        self.directory(parent).here[text] = inode
        return inode

    def committed(self, number: InodeNumber, key: str, version: Version) -> None:
        """A file's bytes are in the store as `version`; told by the handles."""
        inode = self.table.find(number)
        if inode is None:  # forgotten meanwhile: the next lookup asks the store
            return
        local = self.files.local(number)
        inode.etag, inode.size = version.etag, version.size
        inode.mtime_ns = local.mtime_ns if local is not None else inode.mtime_ns
        now = trio.current_time()
        inode.fresh_until = now + self.config.metadata_ttl_seconds
        parent = inode.parent
        if inode.standing is not Standing.CURRENT or parent is None:
            return
        self.remembered.note_inode(inode)
        directory = self.directory(parent)
        directory.here.pop(inode.name, None)
        entry = Entry(inode.name, inode.kind, inode.size, inode.mtime_ns, inode.etag)
        self.note_change(parent, inode.name, entry)
        self._appeared(parent)

    def _appeared(self, directory: Inode) -> None:
        """A directory has an object below it again: it need not be kept by hand."""
        inode: Inode | None = directory
        while (
            inode is not None
            and inode.directory is not None
            and inode.directory.stays_since is not None
        ):
            inode.directory.stays_since = None
            if inode.parent is not None:
                parent = self.directory(inode.parent)
                parent.here.pop(inode.name, None)
                self.note_change(inode.parent, inode.name, Entry(inode.name, Kind.DIRECTORY))
            inode = inode.parent

    def _stays(self, directory: Inode) -> None:
        """Something was removed: the directory stays, though its last object may be gone."""
        inode = directory
        now = trio.current_time()
        while inode.parent is not None:
            self.directory(inode).stays_since = now
            self.directory(inode.parent).here[inode.name] = inode
            inode = inode.parent

    async def unlink(self, parent: Inode, name: str) -> None:
        """Remove a file; open handles go on reading."""
        self.check_writable(parent.path)
        await self.at_rest(parent)
        inode = await self.existing(parent, name)
        if inode.is_dir:
            raise IsADirectory(inode.path)
        await self._unlink(inode)
        self.removed(inode)

    async def _unlink(self, inode: Inode) -> None:
        """Take the object away; its bytes stay with whoever has it open."""
        async with self.files.removing(inode.number):
            if inode.etag:  # looked at now: a commit may have ended while this waited
                try:
                    await self.store.delete(inode.key, if_match=inode.etag)
                except ObjectChanged:
                    self.expire(inode)
                    raise

    def given_up(self, number: InodeNumber) -> None:
        """A file's bytes went to lost+found for good; the name is what the store says it is."""
        inode = self.table.find(number)
        if inode is None or inode.standing is not Standing.CURRENT or inode.parent is None:
            return
        self.directory(inode.parent).here.pop(inode.name, None)
        if inode.etag:
            self.expire(inode)
        else:
            self.table.detach(inode, Standing.SUPERSEDED)

    def removed(self, inode: Inode) -> None:
        """The name is gone, by our own doing."""
        parent = inode.parent
        if parent is None:
            return
        self.remembered.forget(inode.key)
        directory = self.directory(parent)
        directory.here.pop(inode.name, None)
        self.note_change(parent, inode.name, None)
        self.table.detach(inode, Standing.REMOVED)
        inode.ctime_ns = time.time_ns()
        self._stays(parent)

    def expire(self, inode: Inode) -> None:
        """The store showed another version: ask it at the next question."""
        inode.fresh_until = 0.0
        if inode.parent is not None:
            directory = self.directory(inode.parent)
            directory.changes.pop(inode.name, None)
            directory.invalidate()

    # -- directories ---------------------------------------------------------------------------

    async def mkdir(self, parent: Inode, name: bytes) -> Inode:
        """A marked directory: an empty object whose key ends with `/`."""
        await self.at_rest(parent)
        text = self.new_name(parent, name)
        if not isinstance(await self.resolve(parent, text), Missing):
            raise NameTaken(parent.path + text)
        key = parent.key + text + "/"
        create_only = self.store.capabilities.conditional_put is not Condition.NONE
        try:
            await self.store.put(key, b"", if_none_match="*" if create_only else None)
        except ObjectExists:
            self.directory(parent).invalidate()
            raise NameTaken(parent.path + text) from None
        inode = self._named(parent, text, Kind.DIRECTORY)
        directory = self.directory(inode)
        directory.entries, directory.listed_at = {}, trio.current_time()
        directory.announced = False
        return inode

    def _named(self, parent: Inode, name: str, kind: Kind, version: Version | None = None) -> Inode:
        """The inode of something that was just stored under a name."""
        now = trio.current_time()
        inode = self.table.add(parent, name, kind)
        inode.mtime_ns = inode.ctime_ns = time.time_ns()
        inode.fresh_until = now + self.config.metadata_ttl_seconds
        if version is not None:
            inode.etag, inode.size = version.etag, version.size
            self.remembered.note_inode(inode)
        entry = Entry(name, kind, inode.size, inode.mtime_ns, inode.etag)
        self.note_change(parent, name, entry)
        self._appeared(parent)
        return inode

    async def rmdir(self, parent: Inode, name: str) -> None:
        """Remove an empty directory: its marker, and the flag that only storefs sees."""
        self.check_writable(parent.path)
        await self.at_rest(parent)
        inode = await self.existing(parent, name)
        if not inode.is_dir:
            raise NotADirectory(inode.path)
        await self.check_empty(inode)
        await self.remove_markers(inode)
        directory = self.directory(inode)
        directory.stays_since = None
        directory.here.clear()
        self.removed(inode)

    async def check_empty(self, inode: Inode) -> None:
        """Raises NotEmpty if the directory has a name that the mount shows, or hides."""
        directory = self.directory(inode)
        if any(not child.is_dir or self.is_here(child) for child in directory.here.values()):
            raise NotEmpty(inode.path)
        prefix = inode.key
        page, _ = await self.store.list_page(prefix, delimiter=None, max_keys=3)
        if any(found.name not in (prefix, prefix + names.FLAG_NAME) for found in page):
            directory.invalidate()
            raise NotEmpty(inode.path)

    async def remove_markers(self, inode: Inode) -> None:
        """Delete what only says that a directory is there."""
        prefix = inode.key
        page, _ = await self.store.list_page(prefix, delimiter=None, max_keys=3)
        for found in page:
            if found.name in (prefix, prefix + names.FLAG_NAME):
                await self.store.delete(found.name, if_match=found.etag)
        await self.remove_folder(inode)

    async def remove_folder(self, inode: Inode) -> bool:
        """Delete the foreign marker of a directory; True if it was known to have one."""
        folders = self.directory(inode.parent).folders if inode.parent is not None else set()
        if inode.name not in folders:
            return False
        await self.store.delete(inode.key[:-1] + names.FOLDER_SUFFIX)
        folders.discard(inode.name)
        return True

    # -- symbolic links ------------------------------------------------------------------------

    async def symlink(self, parent: Inode, name: bytes, target: bytes) -> Inode:
        """An object that holds the target and says so in its metadata, as s3fs-fuse writes it.

        A listing does not tell it from a file, so the directory is flagged first.
        """
        await self.at_rest(parent)
        text = self.new_name(parent, name)
        if not isinstance(await self.resolve(parent, text), Missing):
            raise NameTaken(parent.path + text)
        if len(target) > MAX_LINK_BYTES:
            raise NotALink(parent.path + text)
        await self.announce(parent)
        create_only = self.store.capabilities.conditional_put is not Condition.NONE
        try:
            version = await self.store.put(
                parent.key + text,
                target,
                if_none_match="*" if create_only else None,
                attributes=ObjectAttributes(metadata={"mode": LINK_MODE}),
            )
        except ObjectExists:
            self.directory(parent).invalidate()
            raise NameTaken(parent.path + text) from None
        return self._named(parent, text, Kind.SYMLINK, version)

    async def announce(self, parent: Inode) -> None:
        """Flag a directory: it is to hold an entry with more to it than a listing says."""
        directory = self.directory(parent)
        now = trio.current_time()
        age = now - directory.announced_at
        if directory.announced and age < self.config.metadata_ttl_seconds:
            return
        create_only = self.store.capabilities.conditional_put is not Condition.NONE
        with contextlib.suppress(ObjectExists, ObjectChanged):  # another mount announced it
            await self.store.put(
                parent.key + names.FLAG_NAME,
                b"{}\n",
                if_none_match="*" if create_only else None,
                attributes=ObjectAttributes(content_type="application/json"),
            )
        directory.announced, directory.announced_at = True, now

    async def readlink(self, inode: Inode) -> bytes:
        """The target of a symbolic link."""
        if inode.kind is not Kind.SYMLINK:
            raise NotALink(inode.path)
        return await self.store.get_range(inode.key, 0, inode.size, if_match=inode.etag)
