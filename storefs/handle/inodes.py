"""Files by inode number, as the tree and the status see them: local state, names, removals.

The base of `table.OpenFiles`, which adds the handles. A file is kept here while it is open, and
after its last release until the store has it. Knows no names but keys. The danger: a file that is
forgotten while it is dirty; only `_forget_if_idle` forgets.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from storefs.handle import unlinked
from storefs.handle.attempts import Attempts
from storefs.handle.failed import FailedFiles
from storefs.handle.state import FileState, advance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import trio

    from storefs.cache.cache import Cache
    from storefs.handle.background import Background
    from storefs.handle.commit import Committer
    from storefs.handle.state import LocalState, PendingFile
    from storefs.handle.writer import LocalFile
    from storefs.store.version import Version
    from storefs.units import InodeNumber


class LocalInodes:
    """See the module. Keys are relative to the mounted prefix."""

    def __init__(
        self,
        cache: Cache,
        committer: Committer,
        background: Background,
        limiter: trio.CapacityLimiter,
        committed: Callable[[InodeNumber, str, Version], None],
        given_up: Callable[[InodeNumber], None] | None,
    ) -> None:
        self._cache = cache
        self._committer = committer
        self._background = background
        self._attempts = Attempts(
            committer, cache, background, limiter, self._committed, self._forget_if_idle
        )
        self._tell = committed
        self._given_up = given_up
        self._files: dict[InodeNumber, LocalFile] = {}
        self._failed = FailedFiles()

    # -- what stands here ----------------------------------------------------------------------

    def local(self, number: InodeNumber) -> LocalState | None:
        """What to show instead of the store's answer, or None where the store tells the truth."""
        file = self._files.get(number)
        return file.local() if file is not None else None

    def has_handles(self, number: InodeNumber) -> bool:
        """True while the inode is open."""
        file = self._files.get(number)
        return file is not None and bool(file.handles)

    def set_mtime(self, number: InodeNumber, mtime_ns: int) -> None:
        """Somebody said when an open file was changed; later writes say it anew."""
        file = self._files.get(number)
        if file is not None:
            file.mtime_ns = mtime_ns

    def pending(self) -> list[PendingFile]:
        """Files whose bytes the store does not have."""
        dirty = [file.pending() for file in self._files.values() if file.is_dirty]
        return dirty + self._failed.told()

    # -- storing, moving, removing ---------------------------------------------------------------

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

    @asynccontextmanager
    async def removing(self, number: InodeNumber) -> AsyncIterator[None]:
        """The store's delete happens inside: afterwards nothing of the file reaches the store.

        Handles read on (see `keep_unlinked`). Commits under way end before, others wait. If the
        body raises, the file is as it was.
        """
        file = self._files.get(number)
        if file is None:
            yield
        elif file.handles:
            await self.keep_unlinked(number)
            try:
                yield
            except BaseException:
                await self.restore_unlinked(number)
                raise
        else:
            async with file.lock:
                yield
                if file.handles:  # opened just now: it was there a moment ago
                    file.state = advance(file.state, FileState.UNLINKED)
                elif file.is_dirty:
                    self._files.pop(number, None)
                    self._drop(file)

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

    # -- inside --------------------------------------------------------------------------------

    def _forget_if_idle(self, file: LocalFile) -> None:
        if file.handles or self._files.get(file.number) is not file:
            return
        if self._attempts.is_running(file):
            return
        if file.state is FileState.CLEAN:
            if file.staging is not None:  # of an unlink that failed half way
                file.forget_staged()
            del self._files[file.number]
        elif file.state is FileState.FAILED and file.stem is not None:
            self._give_up(file)

    def _give_up(self, file: LocalFile) -> None:
        """Its bytes are in lost+found: from here on the mount shows what the store has."""
        if file.base is None and self._given_up is None:
            return  # nobody would tell the tree that there is no such file
        del self._files[file.number]
        superseded, file.stem = self._failed.note(file), None
        self._background.spawn(lambda: self._attempts.forget_stem(superseded))
        self._drop(file)
        if self._given_up is not None:
            self._given_up(file.number)

    def _committed(self, number: InodeNumber, key: str, version: Version) -> None:
        superseded = self._failed.supersede(key)
        if superseded is not None:
            self._background.spawn(lambda: self._attempts.forget_stem(superseded))
        self._tell(number, key, version)

    def _drop(self, file: LocalFile) -> None:
        self._committer.drop_upload(file)
        file.state = advance(file.state, FileState.DROPPED)
        if file.staging is not None:
            staging, file.staging = file.staging, None
            self._background.spawn(lambda: file.place.stock.give(staging))
        self._background.spawn(lambda: self._attempts.forget_lost(file))
