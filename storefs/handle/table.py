"""Every open file, and every one that is not stored yet: the door to the write path.

Used by operations and mount. Hands out handle numbers and keeps the files behind them by inode
number; a file stays here after its last release until the store has it. Knows no names and no
kernel. The danger: a file that is forgotten while it is dirty; only `_forget_if_idle` forgets.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

from storefs import threads
from storefs.errors import BadHandle, ObjectChanged
from storefs.handle import unlinked
from storefs.handle.attempts import Attempts
from storefs.handle.background import Background
from storefs.handle.budget import Budget
from storefs.handle.commit import Committer
from storefs.handle.drain import drain
from storefs.handle.instance import Instance, claim
from storefs.handle.leftovers import sweep
from storefs.handle.reader import Reader
from storefs.handle.state import FileState, advance
from storefs.handle.stock import Stock
from storefs.handle.writer import Handle, LocalFile, Place
from storefs.units import MIB, HandleNumber, InodeNumber

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import trio

    from storefs.cache.cache import Cache
    from storefs.cache.chunks import ObjectVersion
    from storefs.config import WriteConfig
    from storefs.drivers.models import ObjectAttributes
    from storefs.handle.lost import LostFile
    from storefs.handle.ports import ObjectStore
    from storefs.handle.state import LocalState, PendingFile
    from storefs.store.version import Version

log = logging.getLogger(__name__)

BODY_BYTES = 96 * MIB
"""Bodies held in memory while they are sent, of all files together: two files' worth of parts."""

STAGING_THREADS = 8


class OpenFiles:
    """See the module. Keys are relative to the mounted prefix.

    `committed(number, key, version)` tells the tree what the store accepted; `new_attributes(key)`
    gives what a new object carries. `identity` names the store: only what a dead mount of the same
    one left is adopted.
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
    ) -> None:
        self._store = store
        self._cache = cache
        self._config = config
        self._identity = identity
        self._limiter = threads.limiter(STAGING_THREADS)
        self._background = Background(nursery)
        self._committer = Committer(
            store,
            Budget(BODY_BYTES),
            nursery,
            self._background,
            config.part_bytes,
            new_attributes,
        )
        self._attempts = Attempts(
            self._committer,
            cache,
            self._background,
            self._limiter,
            committed,
            self._forget_if_idle,
        )
        # mutable
        self._files: dict[InodeNumber, LocalFile] = {}
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
        files = list(self._files.values())
        return await drain(files, self._attempts, self._background, seconds)

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

    async def settle(self, number: InodeNumber) -> None:
        """The store has everything of this inode, or its error is raised."""
        file = self._files.get(number)
        if file is not None:
            await self._attempts.commit(file)
            self._forget_if_idle(file)

    @asynccontextmanager
    async def held(self, number: InodeNumber) -> AsyncIterator[None]:
        """The inode is stored and stays as it is inside: for a rename or a copy of its object.

        Writes and commits wait; reads go on. Raises what `settle` raises.
        """
        file = self._files.get(number)
        while file is not None:
            await self._attempts.commit(file)
            async with file.lock:
                if not file.is_dirty:
                    yield
                    return
        yield

    def local(self, number: InodeNumber) -> LocalState | None:
        """What to show instead of the store's answer, or None where the store tells the truth."""
        file = self._files.get(number)
        return file.local() if file is not None else None

    def set_mtime(self, number: InodeNumber, mtime_ns: int) -> None:
        """Somebody said when an open file was changed; later writes say it anew."""
        file = self._files.get(number)
        if file is not None:
            file.mtime_ns = mtime_ns

    def has_handles(self, number: InodeNumber) -> bool:
        """True while the inode is open."""
        file = self._files.get(number)
        return file is not None and bool(file.handles)

    def moved(self, number: InodeNumber, key: str, version: Version) -> None:
        """We gave the object another key or version: handles follow, cached chunks stay valid."""
        file = self._files.get(number)
        if file is None:
            return
        old = file.source
        self._committer.drop_upload(file)
        if not version.etag:  # it never was in the store: only the name is another
            file.rename_new(key)
            return
        file.rebase(version, key)
        if old is not None and file.source is not None:
            self._cache.rename(old, file.source)

    async def keep_unlinked(self, number: InodeNumber) -> None:
        """Before the store's delete: the handles' bytes survive it, and never go to the store.

        On an error the file is as it was, and must not be deleted.
        """
        file = self._files.get(number)
        if file is not None:
            await unlinked.keep(file, self._committer)
            await self._attempts.forget_lost(file)

    async def restore_unlinked(self, number: InodeNumber) -> None:
        """The store refused the delete: the file has its name again."""
        file = self._files.get(number)
        if file is not None:
            await unlinked.restore(file, self._committer)

    async def discard(self, number: InodeNumber) -> None:
        """Before a removal or a replacement: what the store does not have never reaches it.

        Without handles the dirty bytes are gone. With handles they stay readable: of a file that
        was never stored at once, of another after `keep_unlinked`. Waits for an attempt under way.
        """
        file = self._files.get(number)
        if file is None:
            return
        if file.handles:
            if file.base is None:
                await unlinked.keep_new(file, self._committer)
            return
        async with file.lock:
            if file.is_dirty and not file.handles:
                self._files.pop(number, None)
                self._drop(file)

    # -- for status ----------------------------------------------------------------------------

    def pending(self) -> list[PendingFile]:
        """Files whose bytes the store does not have."""
        return [file.pending() for file in self._files.values() if file.is_dirty]

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

    def _close(self, handle: HandleNumber) -> None:
        opened = self._handles.pop(handle)
        opened.file.handles.pop(handle, None)
        if opened.reader is not None:
            opened.reader.close()

    async def _empty(self, file: LocalFile) -> None:
        async with file.lock:
            conflicted = isinstance(file.error, ObjectChanged)
            await self._attempts.supersede(file)
            if conflicted:
                await self._committer.take_newest(file)
            await file.truncate_locked(0)

    def _forget_if_idle(self, file: LocalFile) -> None:
        if file.handles or self._files.get(file.number) is not file:
            return
        if file.state is FileState.CLEAN and not self._attempts.is_running(file):
            del self._files[file.number]

    def _let_go(self, file: LocalFile) -> None:
        """The last handle of an unlinked file is gone."""
        scratch = file.staging.record.scratch if file.staging else None
        self._files.pop(file.number, None)
        self._drop(file)
        if scratch is not None:
            self._background.spawn(lambda: unlinked.remove_scratch(scratch, self._committer))

    def _drop(self, file: LocalFile) -> None:
        self._committer.drop_upload(file)
        file.state = advance(file.state, FileState.DROPPED)
        if file.staging is not None:
            staging, file.staging = file.staging, None
            self._background.spawn(lambda: file.place.stock.give(staging))
        self._background.spawn(lambda: self._attempts.forget_lost(file))
