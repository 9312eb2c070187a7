"""Chunks on local disk: what is there, read it, write it, make room.

Used by `cache.cache` through worker threads; every method here may block. It knows versions and
bytes, not who asks. Anything may happen to the directory at any moment, also while mounted, and
none of it reaches a reader: what cannot be read is not there, what cannot be written is not kept.

Reading uses one connection to the index and changing another, each under its lock, so that a
reader never waits while chunks are written or evicted. The danger is the order of row and file:
the row comes before the file and goes after it, so that a crash leaves rows without files, which
cost one failed open, and hardly ever files without rows, which nobody would count (`_sweep` finds
the rest).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from storefs.cache import files, upkeep
from storefs.cache.index import Index, Row, digest_of
from storefs.errors import ChunkCorrupt, ConfigError
from storefs.units import MIB, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from storefs.cache.chunks import ObjectVersion

log = logging.getLogger(__name__)

BATCH_BYTES = 8 * MIB
"""Written in one crossing: one change of the index, and 5-10 ms of a thread."""
EVICT_ROWS = 256
"""Evicted in one change of the index; a guess, not measured."""
PAUSE_SECONDS = 60.0
"""Until a disk that was full or failing is tried again."""
HICCUP_SECONDS = 1.0
HICCUPS = 5
"""A directory that is being deleted fails to open a few times: no reason to tell anybody."""
_NEW_SECONDS = 60
"""A row so young may be waiting for its file, which another mount is writing."""
_USERS_MISTAKES = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}


class ChunkDisk:
    """The chunks below one cache directory, which several mounts may share."""

    def __init__(
        self,
        directory: Path,
        identity: str,
        *,
        chunk_bytes: int,
        size_bytes: int,
        min_free_bytes: int,
    ) -> None:
        self.directory = directory
        self._identity = identity
        self._chunk_bytes = chunk_bytes
        self._limit_bytes = size_bytes
        self._min_free_bytes = min_free_bytes
        self._chunks = str(directory / "chunks")

        # Appended to by any thread, emptied under the changing lock.
        self._pending: deque[Callable[[Index], None]] = deque()
        self._touched: deque[tuple[bytes, int]] = deque(maxlen=65536)
        # The locks are taken in this order: changing, reading.
        self._changing_lock = threading.Lock()
        self._changing: Index | None = None
        self._opened: tuple[int, ...] = ()  # the files of the index that is open
        self._paused_until = 0.0
        self._hiccups = 0
        self._warned = False
        self._reading_lock = threading.Lock()
        self._reading: Index | None = None
        # As last seen; another mount may have changed it since.
        self.size_bytes = 0

    def __repr__(self) -> str:
        return f"<ChunkDisk {self.directory} {format_size(self.size_bytes)}>"

    @property
    def batch_bytes(self) -> int:
        """How much `write` should be given at once."""
        return max(1, min(BATCH_BYTES, self._limit_bytes // 4))

    def open(self) -> None:
        """Open or make the directory. Raises ConfigError for what its owner must put right.

        Any other trouble (a full disk, say) is a warning, and tried again later.
        """
        with self._changing_lock:
            try:
                self._open()
            except (OSError, sqlite3.Error) as exc:
                if getattr(exc, "errno", None) in _USERS_MISTAKES:
                    raise ConfigError(
                        f"cannot use the cache directory {self.directory}: {_reason(exc)};"
                        " give another --cache-dir"
                    ) from exc
                self._pause(exc)

    def close(self) -> None:
        """Write down what was used lately, and close; harmless when repeated."""
        with self._changing_lock:
            try:
                if self._is_usable():
                    self._catch_up(self._changing)
            except (OSError, sqlite3.Error) as exc:
                log.debug("closing %s: %s", self.directory, exc)
            self._close()

    def find(self, version: ObjectVersion, first: int, count: int) -> tuple[bytes, list[int]]:
        """The token for `read`, and which of `count` chunks from `first` should be on disk."""
        digest = self._digest(version)
        if self._pending:
            # A rename that waits decides where to look. The lock is free but for milliseconds.
            with self._changing_lock:
                self._guarded(self._catch_up)
        with self._reading_lock:
            if self._reading is not None:
                try:
                    return self._reading.find(digest, first, count)
                except sqlite3.Error as exc:  # the next change makes the index anew
                    log.debug("looking into %s: %s", self.directory, exc)
        return digest, []

    def find_and_read(
        self, version: ObjectVersion, first: int, count: int, wanted: Sequence[tuple[int, int]]
    ) -> tuple[bytes, list[int], dict[int, bytes]]:
        """`find`, then `read` those of `wanted` that are there: one crossing for a small object."""
        token, numbers = self.find(version, first, count)
        there = set(numbers)
        return token, numbers, self.read(token, [chunk for chunk in wanted if chunk[0] in there])

    def read(self, token: bytes, wanted: Sequence[tuple[int, int]]) -> dict[int, bytes]:
        """Chunks by number, for `wanted` numbers and lengths; those that are bad are left out."""
        found = {}
        for number, length in wanted:
            try:
                found[number] = files.read_chunk(self._chunks, token, number, length)
            except ChunkCorrupt as exc:
                log.warning("dropped a chunk from the cache, it is fetched again: %s", exc)
                self._discard(token, number)
            except OSError as exc:
                log.debug("reading a chunk: %s", exc)
                self._pending.append(_without_file(token, number))
            else:
                self._touched.append((token, number))
        return found

    def write(
        self, chunks: Sequence[tuple[ObjectVersion, int, bytes]]
    ) -> list[tuple[ObjectVersion, int, bytes]]:
        """Keep chunks; the answer names those that are kept now: version, number, token."""
        with self._changing_lock:
            for _ in range(2):  # again if the directory was deleted meanwhile
                if not self._is_usable():
                    return []
                try:
                    return self._write(chunks)
                except (FileNotFoundError, sqlite3.DatabaseError) as exc:
                    if is_full(exc):
                        self._pause(exc)
                        return []
                    log.debug("%s was changed under us: %s", self.directory, exc)
                    self._close()
                except OSError as exc:
                    self._pause(exc)
                    return []
            return []

    def rename_nowait(self, old: ObjectVersion, new: ObjectVersion) -> None:
        """Find the chunks of `old` under `new` too, from the next `find` on."""
        digest, new_digest = self._digest(old), self._digest(new)
        self._pending.append(lambda index: index.alias(digest, new_digest))

    def drop_nowait(self, version: ObjectVersion) -> None:
        """Remove a version's chunks soon, unless a renamed one has them."""
        digest = self._digest(version)
        self._pending.append(lambda index: upkeep.drop(index, self._chunks, digest))

    def maintain(self) -> None:
        """Once a minute or so: note what was used, keep within the limits, sweep up."""
        with self._changing_lock:
            self._guarded(self._maintain)

    # All below is called under the changing lock.

    def _guarded(self, act: Callable[[Index], None]) -> None:
        if not self._is_usable() or self._changing is None:
            return
        try:
            act(self._changing)
        except (OSError, sqlite3.Error) as exc:
            log.debug("upkeep of %s: %s", self.directory, exc)
            self._close()

    def _maintain(self, index: Index) -> None:
        self._catch_up(index)
        self._make_room(index, 0)
        self.size_bytes = index.totals()[0]
        upkeep.sweep(index, self.directory)

    def _write(
        self, chunks: Sequence[tuple[ObjectVersion, int, bytes]]
    ) -> list[tuple[ObjectVersion, int, bytes]]:
        index = self._changing
        assert index is not None
        self._catch_up(index)
        if not self._make_room(index, sum(len(data) for _, _, data in chunks)):
            return []
        tokens = {version: index.resolve(self._digest(version)) for version, _, _ in chunks}
        now = int(time.time())
        rows = [Row(tokens[version], number, len(data), now) for version, number, data in chunks]
        index.add(rows)
        done = 0
        try:
            for row, (_, _, data) in zip(rows, chunks, strict=True):
                files.write_chunk(self._chunks, row.token, row.number, data)
                done += 1
        except OSError:
            index.remove([(row.token, row.number) for row in rows[done:]])
            raise
        self.size_bytes = index.totals()[0]
        self._hiccups = 0
        if self._warned:
            self._warned = False
            log.info("caching in %s again", self.directory)
        return [(version, number, tokens[version]) for version, number, _ in chunks]

    def _make_room(self, index: Index, coming_bytes: int) -> bool:
        """Evict until `coming_bytes` fit below both limits; False if they cannot."""
        disk = os.statvfs(self._chunks)
        short_of_free = self._min_free_bytes + coming_bytes - disk.f_bavail * disk.f_frsize
        excess = max(index.totals()[0] + coming_bytes - self._limit_bytes, short_of_free)
        while excess > 0:
            freed = upkeep.evict(index, self._chunks, excess, EVICT_ROWS)
            if not freed:
                if short_of_free > 0:
                    self._complain(
                        "only %s are free, less than --cache-min-free",
                        format_size(disk.f_bavail * disk.f_frsize),
                    )
                return coming_bytes == 0
            excess -= freed
        return True

    def _catch_up(self, index: Index | None) -> None:
        """Do what was noted while nobody held the lock."""
        if index is None:
            return
        while self._pending:
            try:
                self._pending[0](index)
            finally:
                self._pending.popleft()  # not before: `find` looks whether any is left
        touched = {self._touched.popleft() for _ in range(len(self._touched))}
        if touched:
            index.touch(touched, int(time.time()))

    def _discard(self, token: bytes, number: int) -> None:
        try:
            files.remove_file(files.chunk_path(self._chunks, token, number))
        except OSError as exc:
            log.debug("removing a bad chunk: %s", exc)
        self._pending.append(lambda index: index.remove([(token, number)]))

    def _is_usable(self) -> bool:
        """Look whether our index is still the one in the directory; open it if it is not."""
        if time.monotonic() < self._paused_until:
            return False
        if self._changing is not None:
            with contextlib.suppress(OSError):
                if upkeep.index_files(self.directory) == self._opened:
                    return True
        try:
            self._open()
        except (OSError, sqlite3.Error, ConfigError) as exc:
            self._pause(exc)
            return False
        return True

    def _open(self) -> None:
        self._close()
        self._changing, self._opened = upkeep.open_index(self.directory)
        reading = Index(upkeep.index_path(self.directory))
        with self._reading_lock:
            self._reading = reading
        self.size_bytes = self._changing.totals()[0]

    def _close(self) -> None:
        with self._reading_lock:
            reading, self._reading = self._reading, None
        for index in (reading, self._changing):
            if index is not None:
                index.close()
        self._changing = None

    def _pause(self, exc: Exception) -> None:
        self._close()
        self._hiccups += 1
        passing = isinstance(exc, (FileNotFoundError, sqlite3.Error)) and not is_full(exc)
        if passing and self._hiccups <= HICCUPS:
            log.debug("opening %s: %s", self.directory, exc)
            self._paused_until = time.monotonic() + HICCUP_SECONDS
        else:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            self._complain("%s", _reason(exc))

    def _complain(self, why: str, *args: object) -> None:
        level = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        log.log(
            level, f"not caching in %s for now, reads go to the store: {why}", self.directory, *args
        )

    def _digest(self, version: ObjectVersion) -> bytes:
        return digest_of(self._identity, version, self._chunk_bytes)


def is_full(exc: Exception) -> bool:
    """Is it the disk or a quota that has no room?"""
    if isinstance(exc, sqlite3.Error):
        return getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)


def _without_file(token: bytes, number: int) -> Callable[[Index], None]:
    before = int(time.time()) - _NEW_SECONDS
    return lambda index: index.remove([(token, number)], unused_since=before)


def _reason(exc: Exception) -> str:
    return (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc)
