"""Rename: copy, verify, delete, since most stores have nothing better.

The upper middle of `tree.Tree`. No source is deleted before its copy was seen to be whole, and only
in the version that was copied. A directory is renamed up to `MOST_OBJECTS`; above that programs get
EXDEV and copy by themselves, as between two disks.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import trio

from storefs.drivers.models import Condition, Object
from storefs.errors import (
    CrossesDevices,
    IsADirectory,
    NameInvalid,
    NameTaken,
    NotADirectory,
    NotEmpty,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StoreError,
)
from storefs.store.version import Version, is_md5
from storefs.tree.changes import Changes
from storefs.tree.inode import Entry, Inode, Kind
from storefs.tree.knowledge import Missing
from storefs.tree.names import FLAG_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

MOST_OBJECTS = 1000
COPIES_AT_ONCE = 32


class Renames(Changes):
    """Moves names, of files and of directories."""

    async def rename(
        self, parent: Inode, name: str, new_parent: Inode, new_name: bytes, *, replace: bool
    ) -> None:
        """Give a file or directory another name; over an existing file, or an empty directory."""
        text = self.new_name(new_parent, new_name)
        await self.at_rest(parent)
        await self.at_rest(new_parent)
        inode = await self.existing(parent, name)
        if parent is new_parent and text == name:
            return
        target = await self.resolve(new_parent, text)
        there = None if isinstance(target, Missing) else target
        if there is not None and not replace:
            raise NameTaken(there.path)
        with self.moving(inode):
            await self._rename(inode, new_parent, text, there)

    async def _rename(
        self, inode: Inode, new_parent: Inode, text: str, there: Inode | None
    ) -> None:
        if inode.is_dir:
            if (new_parent.key + text + "/").startswith(inode.key):
                raise NameInvalid(f"{inode.path} cannot become its own part")
            await self._rename_directory(inode, new_parent, text, there)
        else:
            await self._rename_file(inode, new_parent, text, there)

    # -- files ---------------------------------------------------------------------------------

    async def _rename_file(
        self, inode: Inode, new_parent: Inode, name: str, there: Inode | None
    ) -> None:
        if there is not None and there.is_dir:
            raise IsADirectory(there.path)
        if inode.kind is not Kind.FILE:
            await self.announce(new_parent)
        async with self.files.held(inode.number):
            old_key, old_etag = inode.key, inode.etag
            if not old_etag:  # created and never flushed: only the name changes
                if there is not None:
                    await self._unlink(there)
                self._moved(inode, new_parent, name, None)
                return
            version = await self._copy_over(inode, new_parent.key + name, there)
            try:
                await self.store.delete(old_key, if_match=old_etag)
            except ObjectChanged:
                log.warning("%s changed while it was renamed; the new version stays", old_key)
            self._moved(inode, new_parent, name, version)

    async def _copy_over(self, inode: Inode, dst: str, there: Inode | None) -> Version:
        """Copy a file's object to a key; who has the old object there open keeps its bytes."""
        async with AsyncExitStack() as stack:
            if there is not None:
                await stack.enter_async_context(self.files.removing(there.number))
            if_match, if_none_match = self._condition(there)
            try:
                if not self._is_sure(there):
                    await self._compare(dst, there)
                return await self._copy(
                    Object(inode.key, inode.size, etag=inode.etag),
                    dst,
                    if_match=if_match,
                    if_none_match=if_none_match,
                )
            except (ObjectChanged, ObjectExists) as exc:
                # ESTALE: the kernel looks both names up again and asks once more.
                self.expire(inode)
                if there is not None:
                    self.expire(there)
                raise ObjectChanged(exc.message, key=dst, operation="rename") from exc

    def _is_sure(self, there: Inode | None) -> bool:
        """True if the store itself refuses to copy over what was not seen."""
        can = self.store.capabilities
        needed = Condition.ETAG if there is not None and there.etag else Condition.CREATE_ONLY
        enough = (Condition.ETAG, needed)
        return can.conditions_known and can.conditional_copy in enough

    async def _compare(self, dst: str, there: Inode | None) -> None:
        """Raises ObjectChanged if the store holds another version than the one that was seen."""
        try:
            found = (await self.store.head(dst)).etag
        except ObjectNotFound:
            found = ""
        if found != (there.etag if there is not None else ""):
            raise ObjectChanged("another version is there", key=dst, operation="rename")

    def _condition(self, there: Inode | None) -> tuple[str | None, str | None]:
        """If-Match and If-None-Match for a copy over `there`, where the store has them."""
        can = self.store.capabilities.conditional_copy
        if there is None or not there.etag:
            return None, None if can is Condition.NONE else "*"
        return (there.etag, None) if can is Condition.ETAG else (None, None)

    async def _copy(
        self,
        source: Object,
        dst: str,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Version:
        """Copy one version and see that the copy is whole."""
        try:
            version = await self.store.copy(
                source.name,
                dst,
                src_if_match=source.etag,
                if_match=if_match,
                if_none_match=if_none_match,
            )
        except ObjectNotFound:
            # SeaweedFS lists a directory's marker and does not copy it.
            if not dst.endswith("/") or source.size:
                raise
            return await self.store.put(dst, b"")
        if version.etag == source.etag and is_md5(version.etag):
            return Version(version.etag, source.size, version.mtime_ns)
        found = await self.store.head(dst)
        if found.size != source.size:
            raise StoreError(
                f"the copy has {found.size} bytes, not {source.size}", key=dst, operation="copy"
            )
        return Version(found.etag, found.size, found.mtime_ns)

    def _moved(self, inode: Inode, new_parent: Inode, name: str, version: Version | None) -> None:
        """An inode has its new name; the directories know."""
        now = trio.current_time()
        old_parent, old_name = inode.parent, inode.name
        self.remembered.forget(inode.key)
        was_here: Inode | None = None
        if old_parent is not None:
            was_here = self.directory(old_parent).here.pop(old_name, None)
        self.table.move(inode, new_parent, name)
        if old_parent is not None:
            self.note_change(old_parent, old_name, None)
        new_directory = self.directory(new_parent)
        if version is None:
            if was_here:
                new_directory.here[name] = inode
            self.note_change(new_parent, name, None)
            self.files.moved(inode.number, inode.key, Version("", inode.size))
        else:
            new_directory.here.pop(name, None)
            inode.etag = version.etag
            inode.fresh_until = now + self.config.metadata_ttl_seconds
            entry = Entry(name, inode.kind, inode.size, inode.mtime_ns, inode.etag)
            self.note_change(new_parent, name, entry)
            self.remembered.note_inode(inode)
            self.files.moved(inode.number, inode.key, version)
        if old_parent is not None:
            self._stays(old_parent)
        self._appeared(new_parent)

    # -- directories ---------------------------------------------------------------------------

    async def _rename_directory(
        self, inode: Inode, new_parent: Inode, name: str, there: Inode | None
    ) -> None:
        if there is not None:
            if not there.is_dir:
                raise NotADirectory(there.path)
            await self.check_empty(there)
        elif (await self.store.list_page(new_parent.key + name + "/", max_keys=1))[0]:
            self.directory(new_parent).invalidate()
            raise NotEmpty(new_parent.path + name)
        async with AsyncExitStack() as stack:
            for child in list(self._files_below(inode)):
                await stack.enter_async_context(self.files.held(child.number))
            old, new = inode.key, new_parent.key + name + "/"
            sources = await self._objects_below(old)
            versions = await self._copy_all(sources, old, new)
            await self._delete_sources(sources)
            if await self.remove_folder(inode) and not sources:
                await self.store.put(new, b"")  # its only object was the foreign marker
            self._directory_moved(inode, new_parent, name, versions)

    async def _objects_below(self, prefix: str) -> list[Object]:
        found: list[Object] = []
        marker: str | None = None
        while True:
            page, marker = await self.store.list_page(prefix, delimiter=None, marker=marker)
            found.extend(page)
            if len(found) > MOST_OBJECTS:
                log.warning(
                    "%s holds over %d objects: the rename is left to the program (EXDEV)",
                    prefix,
                    MOST_OBJECTS,
                )
                raise CrossesDevices(prefix)
            if marker is None:
                return found

    async def _copy_all(self, sources: list[Object], old: str, new: str) -> dict[str, Version]:
        """Copy all, or none: what was copied is removed again if one fails. Keys are the new."""
        versions: dict[str, Version] = {}
        failed: list[Exception] = []
        can = self.store.capabilities.conditional_copy
        places = trio.CapacityLimiter(COPIES_AT_ONCE)

        async def copy(source: Object) -> None:
            async with places:
                if failed:
                    return
                dst = new + source.name[len(old) :]
                # Markers and flags may stand in the empty directory that is replaced.
                is_hidden = dst.endswith("/") or dst.endswith("/" + FLAG_NAME)
                absent = None if is_hidden or can is Condition.NONE else "*"
                try:
                    versions[dst] = await self._copy(source, dst, if_none_match=absent)
                except Exception as exc:  # raised below, outside the nursery and its group
                    failed.append(exc)

        async with trio.open_nursery() as nursery:
            for source in sources:
                nursery.start_soon(copy, source)
        if failed:
            try:
                await self.store.delete_many({key: made.etag for key, made in versions.items()})
            except StoreError as exc:
                log.error("%d copies under %s could not be removed: %s", len(versions), new, exc)
            raise failed[0]
        return versions

    async def _delete_sources(self, sources: list[Object]) -> None:
        """What was copied goes; markers last and the deepest first, as directories are removed."""
        objects = {found.name: found.etag for found in sources if not found.name.endswith("/")}
        markers = [found for found in sources if found.name.endswith("/")]
        failed = await self.store.delete_many(objects)
        for marker in sorted(markers, key=lambda found: found.name.count("/"), reverse=True):
            try:
                await self.store.delete(marker.name, if_match=marker.etag)
            except StoreError as exc:
                failed[marker.name] = str(exc)
        for key, reason in failed.items():
            log.error("%s was copied but not removed: %s", key, reason)

    def _files_below(self, inode: Inode) -> Iterator[Inode]:
        for child in inode.children.values():
            if child.is_dir:
                yield from self._files_below(child)
            else:
                yield child

    def _directory_moved(
        self, inode: Inode, new_parent: Inode, name: str, versions: dict[str, Version]
    ) -> None:
        trio.current_time()
        old_parent, old_name = inode.parent, inode.name
        for child in self._files_below(inode):
            self.remembered.forget(child.key)
        self.table.move(inode, new_parent, name)
        self._forget_listings(inode)
        for child in list(self._files_below(inode)):
            version = versions.get(child.key)
            if version is not None:
                child.etag = version.etag
                self.remembered.note_inode(child)
                self.files.moved(child.number, child.key, version)
            elif not child.etag:
                self.files.moved(child.number, child.key, Version("", child.size))
        entry = Entry(name, Kind.DIRECTORY)
        new_directory = self.directory(new_parent)
        self.note_change(new_parent, name, entry)
        if inode.directory is not None and inode.directory.stays_since is not None:
            new_directory.here[name] = inode
        if old_parent is not None:
            self.directory(old_parent).here.pop(old_name, None)
            self.note_change(old_parent, old_name, None)
            self._stays(old_parent)

    def _forget_listings(self, inode: Inode) -> None:
        if inode.directory is not None:
            inode.directory.invalidate()
            inode.directory.changes.clear()
        for child in inode.children.values():
            if child.is_dir:
                self._forget_listings(child)
