"""Handles of open files: the door to the write path for operations and mount.

Hands out handle numbers, finds the file behind one, and says when flush, fsync and release reach
the store. Knows no names and no kernel. The danger is the flush that is not a close: a shell sends
several for one redirection, so what a flush commits is decided by what changed, never by counting.
"""

from __future__ import annotations

import logging
from itertools import count
from typing import TYPE_CHECKING

from storefs import threads
from storefs.errors import BadHandle, ObjectChanged
from storefs.handle import unlinked
from storefs.handle.background import Background
from storefs.handle.budget import Budget
from storefs.handle.commit import Committer
from storefs.handle.drain import drain
from storefs.handle.inodes import LocalInodes
from storefs.handle.instance import Instance, claim
from storefs.handle.leftovers import sweep
from storefs.handle.reader import Reader
from storefs.handle.state import FileState
from storefs.handle.stock import Stock
from storefs.handle.writer import Handle, LocalFile, Place
from storefs.units import HandleNumber, InodeNumber

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

    from storefs.cache.cache import Cache
    from storefs.cache.chunks import ObjectVersion
    from storefs.config import WriteConfig
    from storefs.drivers.models import ObjectAttributes
    from storefs.handle.lost import LostFile
    from storefs.handle.ports import ObjectStore
    from storefs.handle.state import PendingFile
    from storefs.store.version import Version

log = logging.getLogger(__name__)

STAGING_THREADS = 8


class OpenFiles(LocalInodes):
    """See the module. Keys are relative to the mounted prefix.

    `committed(number, key, version)` tells the tree what the store accepted; `new_attributes(key)`
    gives what a new object carries. `given_up(number)`: the local bytes of a closed file are in
    lost+found now, so its name means what the store has, if anything. `identity` names the store:
    only what a dead mount of the same one left is adopted.
    """

    def __init__(
        self,
        store: ObjectStore,
        cache: Cache,
        config: WriteConfig,
        nursery: trio.Nursery,
        *,
        committed: Callable[[InodeNumber, str, Version], None],
        new_attributes: Callable[[str], ObjectAttributes],
        identity: str = "",
        given_up: Callable[[InodeNumber], None] | None = None,
    ) -> None:
        limiter = threads.limiter(STAGING_THREADS)
        background = Background(nursery)
        committer = Committer(
            store,
            Budget(config.memory_bytes),
            nursery,
            background,
            config.part_bytes,
            new_attributes,
        )
        super().__init__(cache, committer, background, limiter, committed, given_up)
        self._config = config
        self._identity = identity
        self._limiter = limiter
        # mutable
        self._handles: dict[HandleNumber, Handle] = {}
        self._numbers = count(1)
        self._instance: Instance | None = None
        self._place: Place | None = None

    def __repr__(self) -> str:
        return f"<OpenFiles {len(self._handles)} handles, {list(self._files.values())}>"

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take a directory of our own; what dead mounts of this store left goes to lost+found.

        Raises ConfigError if the state directory cannot be used.
        """
        self._instance = instance = await threads.run(
            self._limiter, claim, self._config.state_dir, self._identity
        )
        self._attempts.lost_and_found = instance.lost_and_found
        self._place = Place(
            Stock(instance.path, self._limiter),
            self._identity,
            self._cache,
            self._committer.limits,
            self._reader,
            self._committer.new_upload,
        )
        if instance.uploads or instance.scratch:
            self._background.spawn(lambda: sweep(instance, self._committer))

    async def drain(self, seconds: float) -> list[PendingFile]:
        """Commit everything dirty; what is left at the deadline goes to lost+found and is named."""
        return await drain(self._files, self._attempts, self._background, seconds)

    async def aclose(self) -> None:
        """Let go of the state directory. What was neither stored nor drained stays for the next
        start."""
        for file in self._files.values():
            if file.staging is not None:
                file.staging.close()
        self._files.clear()
        self._handles.clear()
        if self._place is not None:
            self._place.stock.close()
        if self._instance is not None:
            await threads.run(self._limiter, self._instance.close)

    # -- handles -------------------------------------------------------------------------------

    async def open(
        self,
        number: InodeNumber,
        key: str,
        version: Version | None,
        *,
        readable: bool,
        writable: bool,
        append: bool = False,
        truncate: bool = False,
    ) -> HandleNumber:
        """A handle on the inode. `version` None: a new file, which its first flush creates.

        `truncate` supersedes what could not be stored. Raises what cutting raises; then there is no
        handle.
        """
        creates = version is None and number not in self._files
        file = self._file(number, key, version)
        handle = HandleNumber(next(self._numbers))
        opened = Handle(file, readable, writable, append, creates)
        file.handles[handle] = self._handles[handle] = opened
        if truncate:
            try:
                await self._attempts.forget_stem(self._failed.supersede(key))
                await self._empty(file)
            except BaseException:
                self._close(handle)
                self._forget_if_idle(file)
                raise
        return handle

    async def read(self, handle: HandleNumber, offset: int, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end of the file."""
        opened = self._opened(handle)
        if not opened.readable:
            raise BadHandle(opened.file.key)
        return await opened.file.read(opened, offset, size)

    async def write(self, handle: HandleNumber, offset: int, data: bytes) -> int:
        """All of `data` is staged; waits while too much of the file is written and not sent."""
        opened = self._opened(handle)
        if not opened.writable:
            raise BadHandle(opened.file.key)
        written = await opened.file.write(offset, data, append=opened.append)
        upload = opened.file.upload
        if upload is not None:
            await upload.wait_for_backlog(self._config.backlog_bytes)
        return written

    async def flush(self, handle: HandleNumber) -> None:
        """The store has what is dirty, or its error is raised; nothing to do is no request.

        An existing object that was only emptied waits for data, fsync or release: `> existing`
        does not empty it for everybody first. A reader's close commits nobody's half-done writes,
        and has nothing to fail for.
        """
        opened = self._opened(handle)
        file = opened.file
        if not opened.writable and not opened.creates:
            return
        if file.is_only_emptied and file.error is None:
            return
        await self._attempts.commit(file)

    async def fsync(self, handle: HandleNumber) -> None:
        """The store has everything of this inode, or its error is raised."""
        await self._attempts.commit(self._opened(handle).file)

    async def release(self, handle: HandleNumber) -> None:
        """The handle is gone. What is dirty (a mapping, an emptied file) is committed behind."""
        opened = self._opened(handle)
        file = opened.file
        self._close(handle)
        if file.state is FileState.DIRTY and (opened.writable or not file.handles):
            self._background.loop(lambda: self._attempts.commit_behind(file))
        elif not file.handles and file.state is FileState.UNLINKED:
            self._let_go(file)
        self._forget_if_idle(file)

    # -- inodes --------------------------------------------------------------------------------

    async def truncate(
        self,
        number: InodeNumber,
        key: str,
        version: Version | None,
        size: int,
        handle: HandleNumber | None,
    ) -> None:
        """Cut or grow. With a handle its flush commits; without one this does before it answers."""
        if handle is not None:
            opened = self._opened(handle)
            if not opened.writable:
                raise BadHandle(key)
            await opened.file.truncate(size)
            return
        file = self._file(number, key, version)
        try:
            await file.truncate(size)
            await self._attempts.commit(file)
        finally:
            self._forget_if_idle(file)

    # -- for status ----------------------------------------------------------------------------

    def lost_and_found(self) -> list[LostFile]:
        """What is kept of this store in lost+found, by this mount and those before it."""
        return self._instance.lost_and_found.entries(self._identity) if self._instance else []

    # -- inside --------------------------------------------------------------------------------

    def _file(self, number: InodeNumber, key: str, version: Version | None) -> LocalFile:
        file = self._files.get(number)
        if file is None:
            assert self._place is not None, "start() comes first"
            file = self._files[number] = LocalFile(number, key, version, self._place)
        return file

    def _reader(self, version: ObjectVersion) -> Reader:
        return Reader(self._cache, version)

    def _opened(self, handle: HandleNumber) -> Handle:
        try:
            return self._handles[handle]
        except KeyError:
            raise BadHandle(f"handle {handle}") from None

    async def _empty(self, file: LocalFile) -> None:
        async with file.lock:
            conflicted = isinstance(file.error, ObjectChanged)
            await self._attempts.supersede(file)
            if conflicted:
                await self._committer.take_newest(file)
            await file.truncate_locked(0)

    def _close(self, handle: HandleNumber) -> None:
        opened = self._handles.pop(handle)
        opened.file.handles.pop(handle, None)
        if opened.reader is not None:
            opened.reader.close()

    def _let_go(self, file: LocalFile) -> None:
        """The last handle of an unlinked file is gone."""
        scratch = file.staging.record.scratch if file.staging else None
        self._files.pop(file.number, None)
        self._drop(file)
        if scratch is not None:
            self._background.spawn(lambda: unlinked.remove_scratch(scratch, self._committer))
