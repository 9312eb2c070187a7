"""A directory as a bucket: locks, temporary files, records, and how an object takes its name.

Used by the local driver. Objects are plain files that any program may read and change; what belongs
to storefs is in `.storefs-bucket` at the bucket's root. Among storefs processes changes of one key
are serialised by flock; against other programs nothing protects but the rename, which is atomic.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import threading
import time
from typing import TYPE_CHECKING

from storefs.drivers.base import Connection
from storefs.drivers.local_listing import Snapshots
from storefs.drivers.local_paths import PRIVATE, inherit_owner
from storefs.drivers.local_records import Records
from storefs.errors import ConfigError, ContainerNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storefs.config import StoreConfig

FORMAT = b"1\n"
"""Of `.storefs-bucket`; a newer one is refused by name, never touched."""

_LEFTOVER_SECONDS = 24 * 3600
"""A temporary file older than this belongs to nobody: even a slow upload writes now and then."""


class LocalBucket:
    """One directory; see the module."""

    def __init__(self, root: bytes, *, durable: bool) -> None:
        self.root = root
        self.durable = durable
        self.private = os.path.join(root, PRIVATE)
        self.temporary = os.path.join(self.private, b"tmp")
        self.uploads = os.path.join(self.private, b"uploads")
        self.records = Records(self.private)
        self.snapshots = Snapshots(root)
        self._lock = threading.Lock()
        self._prepared = False

    def __repr__(self) -> str:
        return f"LocalBucket({os.fsdecode(self.root)})"

    def require(self) -> None:
        """Raises ContainerNotFound if the directory is not there (any more)."""
        if not os.path.isdir(self.root):
            raise ContainerNotFound(f"{os.fsdecode(self.root)} is not a directory")

    def prepare(self) -> None:
        """Make the directory of our own, before the first write; remove what crashes left."""
        with self._lock:
            if self._prepared and os.path.isdir(self.temporary):
                return
            self.require()
            for path in (self.temporary, self.uploads, os.path.join(self.private, b"locks")):
                os.makedirs(path, exist_ok=True)
            self._check_format()
            self._sweep()
            self._prepared = True

    def _check_format(self) -> None:
        path = os.path.join(self.private, b"format")
        try:
            with open(path, "rb") as file:
                found = file.read()
        except FileNotFoundError:
            aside = os.path.join(self.temporary, b"format-" + secrets.token_hex(8).encode())
            with open(aside, "wb") as file:
                file.write(FORMAT)
            os.rename(aside, path)
            return
        if found != FORMAT:
            raise ConfigError(
                f"{os.fsdecode(self.private)} was written by another storefs (format "
                f"{found.decode(errors='replace').strip()}, this one knows 1): use that version"
            )

    def _sweep(self) -> None:
        oldest = time.time() - _LEFTOVER_SECONDS
        with os.scandir(self.temporary) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.path)

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Alone with a key among storefs processes and threads. Never nest: keys share locks."""
        shard = hashlib.sha256(key.encode()).hexdigest()[:2].encode()
        path = os.path.join(self.private, b"locks", shard)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def temporary_file(self) -> Iterator[tuple[int, bytes]]:
        """A new file and its path, removed at the end unless it was given a name."""
        self.prepare()
        path = os.path.join(self.temporary, b"object-" + secrets.token_hex(8).encode())
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o666)
        try:
            inherit_owner(descriptor, self.root)
            yield descriptor, path
        finally:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def sync(self, descriptor: int) -> None:
        """To the disk, unless this bucket is told not to."""
        if self.durable:
            os.fsync(descriptor)


class LocalConnection(Connection):
    """Buckets are directories: absolute paths, or names below `host`.

    `durable` off leaves it to the kernel when bytes reach the disk: for tests and scratch data.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        access_id: str | None = None,
        access_key: str | None = None,
        *,
        durable: bool = True,
    ) -> None:
        super().__init__(host, port, access_id, access_key)
        self.durable = durable
        self._lock = threading.Lock()
        self._buckets: dict[str, LocalBucket] = {}

    @classmethod
    def of(cls, connection: Connection) -> LocalConnection:
        """The connection, known to be one of this kind."""
        if not isinstance(connection, cls):
            raise ConfigError(f"the local driver got a {type(connection).__name__}")
        return connection

    def get_client(self, container: str | None = None) -> LocalBucket:
        """The bucket; raises ContainerNotFound if there is no such directory."""
        name = container or ""
        with self._lock:
            bucket = self._buckets.get(name)
            if bucket is None:
                bucket = LocalBucket(self._path(name), durable=self.durable)
        bucket.require()
        with self._lock:
            return self._buckets.setdefault(name, bucket)

    def _path(self, name: str) -> bytes:
        if "\0" in name:
            raise ContainerNotFound("a directory's name has no NUL")
        if os.path.isabs(name):
            return os.path.realpath(os.fsencode(name))
        if self.host is None:
            raise ContainerNotFound(f"{name!r} is not the absolute path of a directory")
        if name in ("", ".", "..") or "/" in name:
            raise ContainerNotFound(f"{name!r} is not the name of a directory in {self.host}")
        return os.path.realpath(os.path.join(os.fsencode(self.host), os.fsencode(name)))


def connection_for(config: StoreConfig) -> LocalConnection:
    """The connection of a mount; raises ConfigError if the directory does not exist."""
    path = config.url.bucket
    if not os.path.isdir(path):
        raise ConfigError(f"{config.url}: {path} is not a directory; make it first")
    return LocalConnection()
