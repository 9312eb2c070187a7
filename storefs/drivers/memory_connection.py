"""What the memory driver keeps, and the handles by which tests break it.

Buckets live in a `MemoryStore`; connections with the same host share one, so that two mounts of
`memory://bucket` in one process see each other. Everything is touched under the store's lock.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from storefs.drivers import checksums
from storefs.drivers.base import Connection
from storefs.drivers.models import Append, Capabilities, Condition, ObjectAttributes, Part
from storefs.errors import (
    ConfigError,
    ContainerNotFound,
    NoSuchUpload,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
)

Hook = Callable[[str, str], None]
"""Called with the verb's name and the key (or prefix) it is about; may raise."""

CAPABILITIES = Capabilities(
    append=Append.EMULATED,
    conditional_put=Condition.ETAG,
    conditional_complete=Condition.ETAG,
    conditional_copy=Condition.ETAG,
    conditional_delete=Condition.ETAG,
    conditional_batch=Condition.ETAG,
    whole_checksum="md5",
)
"""As AWS; tests pass others, with smaller parts for instance."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of one object."""

    body: bytes
    etag: str
    mtime_ns: int
    attributes: ObjectAttributes


@dataclass(slots=True)
class OpenUpload:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    attributes: ObjectAttributes
    initiated_ns: int
    parts: dict[int, tuple[Part, bytes]] = field(default_factory=dict)


@dataclass(slots=True)
class Bucket:
    """INVARIANT: `names` are the keys of `objects`, sorted."""

    objects: dict[str, StoredObject] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    uploads: dict[str, OpenUpload] = field(default_factory=dict)

    def find(self, key: str, if_match: str | None) -> StoredObject:
        """The object, in the version asked for."""
        found = self.objects.get(key)
        if found is None:
            kind = ObjectNotFound if if_match is None else ObjectChanged
            raise kind("no such object", key=key)
        if if_match is not None and found.etag != if_match:
            raise ObjectChanged(f"the version is {found.etag}, not {if_match}", key=key)
        return found

    def check(self, key: str, if_match: str | None, if_none_match: str | None) -> None:
        """Raises ObjectChanged or ObjectExists where a write's condition does not hold."""
        if if_match is not None:
            self.find(key, if_match)
        if if_none_match is not None and key in self.objects:
            raise ObjectExists("an object is there", key=key)

    def put(self, key: str, stored: StoredObject) -> None:
        """Store, whatever was there."""
        if key not in self.objects:
            bisect.insort(self.names, key)
        self.objects[key] = stored

    def remove(self, key: str) -> None:
        """Remove, if it is there."""
        if self.objects.pop(key, None) is not None:
            del self.names[bisect.bisect_left(self.names, key)]

    def upload(self, key: str, upload_id: str) -> OpenUpload:
        """An open upload, or NoSuchUpload."""
        found = self.uploads.get(upload_id)
        if found is None or found.key != key:
            raise NoSuchUpload(f"no upload {upload_id!r} is open", key=key)
        return found

    def check_invariants(self) -> None:
        """For tests."""
        assert self.names == sorted(self.objects)


class MemoryStore:
    """Buckets by name."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.buckets: dict[str, Bucket] = {}
        self.upload_numbers = itertools.count(1)


_shared: dict[str, MemoryStore] = {}


class MemoryConnection(Connection):
    """A connection to the store called `host`; without a host to one of its own.

    `clock` gives LastModified in nanoseconds. `before` and `after` run around each verb;
    `requests` counts verbs. Verbs in `ignored_conditions` (`put`, `complete`, `copy`, `delete`)
    take a condition and do not honour it, as some servers do. `listing_order` is a sort key for a
    store that does not list in byte order.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        access_id: str | None = None,
        access_key: str | None = None,
        *,
        capabilities: Capabilities = CAPABILITIES,
        clock: Callable[[], int] = time.time_ns,
        ignored_conditions: frozenset[str] = frozenset(),
        listing_order: Callable[[str], object] | None = None,
        buckets: tuple[str, ...] = (),
    ) -> None:
        super().__init__(host, port, access_id, access_key)
        self.store = MemoryStore() if host is None else _shared.setdefault(host, MemoryStore())
        self.capabilities = capabilities
        self.clock = clock
        self.ignored_conditions = ignored_conditions
        self.listing_order = listing_order
        # mutable, by the test's thread
        self.before: Hook | None = None
        self.after: Hook | None = None
        self.requests: Counter[str] = Counter()
        for name in buckets:
            self.make_container(name)

    def get_client(self, container: str | None = None) -> MemoryStore:
        """The store itself."""
        return self.store

    def make_container(self, name: str) -> None:
        """Create a bucket; one that is there stays as it is."""
        with self.store.lock:
            self.store.buckets.setdefault(name, Bucket())

    def bucket(self, name: str | None) -> Bucket:
        """The bucket, or ContainerNotFound."""
        found = self.store.buckets.get(name or "")
        if found is None:
            raise ContainerNotFound(f"no bucket is called {name!r}")
        return found

    @contextlib.contextmanager
    def verb(self, operation: str, key: str) -> Iterator[None]:
        """Around one request: the hooks, the count, the lock."""
        with self.store.lock:
            self.requests[operation] += 1
        if self.before is not None:
            self.before(operation, key)
        with self.store.lock:
            yield
        if self.after is not None:
            self.after(operation, key)

    @classmethod
    def of(cls, connection: Connection) -> MemoryConnection:
        """The connection, known to be one of this kind."""
        if not isinstance(connection, cls):
            raise ConfigError(f"the memory driver got a {type(connection).__name__}")
        return connection

    def version(self, body: bytes, attributes: ObjectAttributes, etag: str = "") -> StoredObject:
        """A new version as it is stored now."""
        return StoredObject(body, etag or checksums.md5(body).hexdigest(), self.clock(), attributes)
