"""From name to inode: what is known, what must be asked, and what the answer makes of the inodes.

The base of `tree.Tree`. A question costs nothing while a complete listing of the directory is
young; a small directory is then listed again (one request, and all its names are known), a large or
unknown one is asked with HEAD `name` and LIST `name/` side by side (one round trip). After every
await the inode is looked at again, because a handle may have created the file meanwhile.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from storefs.errors import EntryNotFound, ObjectNotFound, StoreError, Superseded
from storefs.tree import names
from storefs.tree.inode import Entry, Inode, Kind, Standing
from storefs.tree.knowledge import Found, Knowledge, Missing
from storefs.tree.listing import ONE_PAGE, DirStream, Page, page_of

if TYPE_CHECKING:
    from storefs.drivers.models import Object

log = logging.getLogger(__name__)

MAX_LINK_BYTES = 4096
"""A larger object is no symbolic link (PATH_MAX), so nobody asks whether it is one."""

ASKED_AT_ONCE = 32
"""HEADs in flight for the children of one announced directory."""


class Lookup(Knowledge):
    """Names, inodes and the questions between them."""

    # -- asking --------------------------------------------------------------------------------

    async def resolve(self, parent: Inode, name: str) -> Inode | Missing:
        """The inode under a name, or Missing."""
        child = parent.children.get(name)
        if child is not None and not child.is_dir and self.is_here(child):
            return child
        found = await self._find(parent, name)
        if parent.standing is not Standing.CURRENT:
            raise Superseded(parent.path)
        return self.reconcile(parent, name, found)

    async def existing(self, parent: Inode, name: str) -> Inode:
        """The inode under a name. Raises EntryNotFound."""
        inode = await self.resolve(parent, name)
        if isinstance(inode, Missing):
            raise EntryNotFound(parent.path + name)
        return inode

    async def _find(self, parent: Inode, name: str) -> Found:
        found = self.known(parent, name)
        if found is not None:
            return found
        directory = self.directory(parent)
        child = parent.children.get(name)
        now = trio.current_time()
        if child is not None and child.etag and now < child.fresh_until:
            entry = Entry(name, child.kind, child.size, child.mtime_ns, child.etag)
            return Found(entry, child.fresh_until)
        if child is not None and child.is_dir and now < child.fresh_until:
            return Found(Entry(name, Kind.DIRECTORY), child.fresh_until)
        if directory.entries is not None and len(directory.entries) <= ONE_PAGE:
            await self.list_again(parent)
            found = self.known(parent, name)
            if found is not None:
                return found
            if directory.entries is not None and directory.listed_at >= now:
                # Times to live of zero: the answer holds for this question alone.
                return Found(directory.entries.get(name), directory.listed_at)
        elif directory.entries is not None and name not in directory.entries:
            return await self._ask_unlikely(parent, name)
        return await self._ask(parent, name)

    async def _ask_unlikely(self, parent: Inode, name: str) -> Found:
        """A name that a large directory did not have: one LIST tells that it still has not."""
        asked_at = trio.current_time()
        objects, following = await self.store.list_page(parent.key + name)
        later = self.later_change(parent, name, asked_at)
        if later is not None:
            return later
        if objects or following is not None:
            return await self._ask(parent, name)
        return Found(None, asked_at + self.config.negative_ttl_seconds)

    async def list_again(self, parent: Inode) -> None:
        """One LIST page of a directory; complete, it answers all names. Shared by who waits."""
        waiting = self._lists.get(parent.number)
        if waiting is not None:
            await waiting.wait()
            return
        done = self._lists[parent.number] = trio.Event()
        try:
            page = await self.load_page(parent, None)
            directory = self.directory(parent)
            if page.following is None:
                self.learn(parent, [page])
            else:
                directory.invalidate()
                directory.first_page = page
        finally:
            del self._lists[parent.number]
            done.set()

    async def _ask(self, parent: Inode, name: str) -> Found:
        """HEAD `name` and the first LIST page of `name/`, side by side."""
        key = parent.key + name
        asked_at = trio.current_time()
        objects: list[Object | None] = [None]
        pages: list[tuple[list[Object], str | None]] = []
        failed: list[Exception] = []

        async def head() -> None:
            try:
                objects[0] = await self.store.head(key)
            except ObjectNotFound:
                return
            except Exception as exc:  # raised below, outside the nursery and its group
                failed.append(exc)

        async def list_below() -> None:
            try:
                pages.append(await self.store.list_page(key + "/"))
            except Exception as exc:
                failed.append(exc)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(list_below)
            await head()
        if failed:
            raise failed[0]
        later = self.later_change(parent, name, asked_at)
        if later is not None:
            return later
        below, following = pages[0]
        if below:
            found = Found(Entry(name, Kind.DIRECTORY), asked_at + self.config.metadata_ttl_seconds)
            self._seed(parent, name, found, page_of(below, key + "/", following, asked_at))
            return found
        there = objects[0]
        if there is None:
            return Found(None, asked_at + self.config.negative_ttl_seconds)
        entry = self._entry_of(name, key, there)
        return Found(entry, asked_at + self.config.metadata_ttl_seconds)

    def _seed(self, parent: Inode, name: str, found: Found, page: Page) -> None:
        """The page that a lookup saw is the directory's listing. Its links are not known yet."""
        inode = self.reconcile(parent, name, found)
        if isinstance(inode, Missing) or not inode.is_dir:
            return
        directory = self.directory(inode)
        directory.announced, directory.announced_at = self._announced(page, None), page.asked_at
        if directory.announced is not False:
            return
        self._count_hidden(inode, page)
        directory.folders |= page.folders
        if page.following is None:
            self.learn(inode, [page])
        else:
            directory.first_page = page

    def _entry_of(self, name: str, key: str, there: Object) -> Entry:
        kind = Kind.SYMLINK if is_link(there) else Kind.FILE
        self.remembered.note(key, there.etag, kind=kind)
        return Entry(name, kind, there.size, there.mtime_ns, there.etag)

    # -- listing -------------------------------------------------------------------------------

    def stream(self, inode: Inode) -> DirStream:
        """All entries of a directory, page by page."""
        return DirStream(
            lambda marker: self.load_page(inode, marker),
            lambda pages: self.learn(inode, pages),
            self.nursery,
        )

    async def load_page(self, inode: Inode, marker: str | None) -> Page:
        """One page of a directory's listing, with its links told from its files."""
        directory = self.directory(inode)
        now = trio.current_time()
        first = directory.first_page
        if marker is None and first is not None:
            directory.first_page = None
            if now - first.asked_at < self.config.metadata_ttl_seconds:
                return first
        prefix = inode.key
        objects, following = await self.store.list_page(prefix, marker=marker)
        page = page_of(objects, prefix, following, now)
        directory.prune(now - 4 * self.store.timeout_seconds)
        self._count_hidden(inode, page)
        directory.folders |= page.folders
        if marker is None:
            directory.announced, directory.announced_at = self._announced(page, None), now
        elif page.has_flag:
            directory.announced, directory.announced_at = True, now
        if directory.announced is None:
            try:
                await self.store.head(prefix + names.FLAG_NAME)
                directory.announced = True
            except ObjectNotFound:
                directory.announced = False
        if directory.announced:
            page.entries = await self._with_links(prefix, page.entries)
        return page

    def _announced(self, page: Page, before: bool | None) -> bool | None:
        """Whether the directory holds more than a listing says; None: this page does not tell."""
        if page.has_flag:
            return True
        if page.following is None and before is None:
            return False
        if before is None and self.store.capabilities.ordered_listing and page.entries:
            return False if page.entries[-1].name > names.FLAG_NAME else None
        return before

    async def _with_links(self, prefix: str, entries: list[Entry]) -> list[Entry]:
        """Ask for what may be a link; the answers are remembered by version."""
        told: dict[str, Entry] = {}
        places = trio.CapacityLimiter(ASKED_AT_ONCE)
        failed: list[Exception] = []

        async def ask(entry: Entry) -> None:
            async with places:
                try:
                    there = await self.store.head(prefix + entry.name)
                except ObjectNotFound:
                    return
                except StoreError as exc:
                    failed.append(exc)
                    return
                told[entry.name] = self._entry_of(entry.name, prefix + entry.name, there)

        async with trio.open_nursery() as nursery:
            for entry in entries:
                if entry.kind is not Kind.FILE or not 0 < entry.size <= MAX_LINK_BYTES:
                    continue
                known = self.remembered.get(prefix + entry.name, entry.etag)
                if known is not None and known.kind is not None:
                    told[entry.name] = replace(entry, kind=known.kind)
                else:
                    nursery.start_soon(ask, entry)
        if failed:
            raise failed[0]
        return [told.get(entry.name, entry) for entry in entries]

    def _count_hidden(self, inode: Inode, page: Page) -> None:
        if page.hidden and not self.hidden_keys:
            log.warning(
                "%d keys under %s cannot be shown as names and stay hidden (said once)",
                page.hidden,
                inode.path,
            )
        self.hidden_keys += page.hidden


def is_link(there: Object) -> bool:
    """True if an object's metadata says that it is a symbolic link (s3fs's form: decimal mode)."""
    try:
        mode = int(there.metadata.get("mode", "0"))
    except ValueError:
        return False
    return mode & 0o170000 == Kind.SYMLINK.value
