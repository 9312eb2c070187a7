"""When a file is committed: once for all who wait, again after a failure, and behind a release.

Used by the handle table. The attempt itself is `commit`'s. Every attempt ends in a state of the
file, never in an exception that would end the mount. The danger is one key with two writers of
our own: attempts on the same key follow one another, whatever inode they belong to.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from storefs import threads
from storefs.errors import ObjectChanged, StorefsError, UploadFailed
from storefs.handle.admission import admit
from storefs.handle.commit import is_transient
from storefs.handle.state import FileState, advance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from storefs.handle.background import Background
    from storefs.handle.commit import Committer, Stored
    from storefs.handle.lost import LostAndFound
    from storefs.handle.ports import ChunkCache
    from storefs.handle.writer import LocalFile
    from storefs.store.version import Version
    from storefs.units import InodeNumber

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 1.0
MOST_RETRY_SECONDS = 30.0


@dataclass(slots=True)
class Attempt:
    """One that is running; who needs the same bytes stored waits for it, and sends nothing."""

    over: trio.Event = field(default_factory=trio.Event)
    error: StorefsError | None = None
    is_cancelled: bool = False


@dataclass(slots=True)
class _KeyLock:
    lock: trio.Lock = field(default_factory=trio.Lock)
    users: int = 0


class Attempts:
    """One for all files of a mount."""

    def __init__(
        self,
        committer: Committer,
        cache: ChunkCache,
        background: Background,
        limiter: trio.CapacityLimiter,
        committed: Callable[[InodeNumber, str, Version], None],
        idle: Callable[[LocalFile], None],
    ) -> None:
        self._committer = committer
        self._cache = cache
        self._background = background
        self._limiter = limiter
        self._committed = committed
        self._idle = idle
        self.lost_and_found: LostAndFound | None = None  # known once the table has started
        self._running: dict[LocalFile, Attempt] = {}
        self._is_over = False
        self._retrying: set[LocalFile] = set()
        self._keys: dict[str, _KeyLock] = {}

    # -- committing ----------------------------------------------------------------------------

    async def commit(self, file: LocalFile) -> None:
        """The store has all that was written before this call, or its error is raised.

        A file that failed for good answers the same error until it changes. On cancellation it is
        dirty as before.
        """
        while True:
            if not file.is_dirty:
                return
            running = self._running.get(file)
            if running is None:
                break
            # Writes wait while an attempt sends, so it covers all that was acknowledged by now.
            await running.over.wait()
            if running.error is not None:
                raise running.error
            if not running.is_cancelled:
                return
        if file.error is not None and file.failed_changes == file.changes:
            raise file.error
        attempt = self._running[file] = Attempt()
        try:
            await self._attempt(file)
        except StorefsError as exc:
            attempt.error = exc
            raise
        except BaseException:
            attempt.is_cancelled = True
            raise
        finally:
            del self._running[file]
            attempt.over.set()

    async def commit_behind(self, file: LocalFile) -> None:
        """For a background task: the error stays with the file."""
        try:
            await self.commit(file)
        except StorefsError as exc:
            log.debug("%s is not stored yet: %s", file.key, exc)
        self._idle(file)

    def is_running(self, file: LocalFile) -> bool:
        """True while an attempt on this file is under way, or waits for its turn."""
        return file in self._running

    async def _attempt(self, file: LocalFile) -> None:
        async with self._key(file.key), file.lock:
            if not file.is_dirty:
                return
            file.state = advance(file.state, FileState.COMMITTING)
            try:
                stored = await self._committer.commit(file)
            except StorefsError as exc:
                await self._failed(file, exc)
                raise
            except Exception as exc:  # a bug must not end the mount, nor lose the bytes
                log.exception("storing %s failed", file.key)
                error = UploadFailed(f"{file.key}: {exc}")
                await self._failed(file, error)
                raise error from exc
            except BaseException:
                file.state = advance(file.state, FileState.DIRTY)
                raise
            if file.key == stored.key:
                await self._succeeded(file, stored.version)
                return
            file.state = advance(file.state, FileState.DIRTY)
            await self._remove_misplaced(stored)
        await self._attempt(file)

    async def _remove_misplaced(self, stored: Stored) -> None:
        """The file was renamed while it was sent: what landed under its old name goes again."""
        try:
            await self._committer.store.delete(stored.key, if_match=stored.version.etag)
        except StorefsError as exc:
            log.error("%s was renamed here, but is there again: %s", stored.key, exc)

    async def _succeeded(self, file: LocalFile, version: Version) -> None:
        content = file.content
        if file.error is not None:
            log.info("%s is stored now", file.key)
        staging = file.stored(version)
        self._committed(file.number, file.key, version)  # `local` still tells our own mtime
        file.state = advance(file.state, FileState.CLEAN)
        await self.forget_lost(file)
        if staging is not None and file.source is not None:
            spawn = self._background.spawn
            await admit(self._cache, file.source, content, staging, file.place.stock, spawn)

    # -- failing -------------------------------------------------------------------------------

    async def _failed(self, file: LocalFile, error: StorefsError) -> None:
        first, file.error = file.error is None, error
        if is_transient(error):
            file.state = advance(file.state, FileState.WAITING)
            if first:
                log.error(
                    "%s could not be stored: %s; its bytes are kept and tried again",
                    file.key,
                    error,
                )
            self.retry(file)
            return
        file.state = advance(file.state, FileState.FAILED)
        file.failed_changes = file.changes
        place = await self.keep(file, str(error))
        log.error("%s could not be stored: %s; its bytes are kept in %s", file.key, error, place)

    def stop(self) -> None:
        """The mount ends: nothing is tried again."""
        self._is_over = True

    def retry(self, file: LocalFile) -> None:
        """Try again in the background until it is stored, has failed for good or is superseded."""
        if file not in self._retrying and not self._is_over:
            self._retrying.add(file)
            self._background.loop(lambda: self._retry(file))

    async def _retry(self, file: LocalFile) -> None:
        delay = FIRST_RETRY_SECONDS
        try:
            while file.state in (FileState.WAITING, FileState.COMMITTING):
                await trio.sleep(delay)
                delay = min(delay * 2, MOST_RETRY_SECONDS)
                if file.state is FileState.WAITING and not self._is_over:
                    await self.commit_behind(file)
        finally:
            self._retrying.discard(file)
        self._idle(file)

    async def keep(self, file: LocalFile, reason: str) -> str:
        """Name the local bytes in lost+found; where they are."""
        assert self.lost_and_found is not None
        try:
            staging = file.stage()
            lost = await threads.run(
                self._limiter, self.lost_and_found.keep, staging.data_path, staging.record, reason
            )
        except (OSError, StorefsError) as exc:
            log.error("%s: no entry in lost+found: %s", file.key, exc)
            return str(file.staging.data_path) if file.staging else "nowhere"
        file.stem = lost.stem
        staging.kept_as(lost.stem)
        return lost.data

    async def forget_lost(self, file: LocalFile) -> None:
        """The bytes are stored, or superseded: lost+found need not keep them."""
        stem, file.stem = file.stem, None
        await self.forget_stem(stem)

    async def forget_stem(self, stem: str | None) -> None:
        """Remove an entry of lost+found, if one is named."""
        if stem is not None and self.lost_and_found is not None:
            await threads.run(self._limiter, self.lost_and_found.remove, stem)

    async def supersede(self, file: LocalFile) -> None:
        """Somebody writes the file anew: the failure is over, and with it the bytes that failed.

        Bytes that lost against another writer stay in lost+found: their author may not know.
        """
        if file.state not in (FileState.WAITING, FileState.FAILED):
            return
        conflicted = isinstance(file.error, ObjectChanged)
        file.error, file.failed_changes = None, -1
        file.state = advance(file.state, FileState.DIRTY)
        if conflicted:
            file.stem = None
        else:
            await self.forget_lost(file)

    # -- order ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def _key(self, key: str) -> AsyncIterator[None]:
        entry = self._keys.setdefault(key, _KeyLock())
        entry.users += 1
        try:
            async with entry.lock:
                yield
        finally:
            entry.users -= 1
            if not entry.users:
                del self._keys[key]
