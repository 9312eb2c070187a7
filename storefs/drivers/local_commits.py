"""How an object of a local bucket takes, keeps and loses its name. A base of `LocalDriver`.

Every change of a key happens here, under the key's lock: condition, record, rename, in this order.
The danger is the directories on the way: they come and go with the objects below them unless a
marker `dir/` keeps them, and another process may remove one that a new object is about to enter.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from typing import TYPE_CHECKING

from storefs.drivers import checksums
from storefs.drivers.composed import ComposedDriver
from storefs.drivers.local_paths import directory, maybe_names_of, names_of, stat_file
from storefs.drivers.local_records import Signature, Version
from storefs.drivers.models import Object, ObjectAttributes
from storefs.errors import InvalidKey, ObjectChanged, ObjectExists, ObjectNotFound, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storefs.drivers.local_connection import LocalBucket

EMPTY_ETAG = checksums.md5().hexdigest()

_ATTEMPTS = 20
"""A directory that goes while an object enters it is made again; so often at most."""


class LocalCommits(ComposedDriver):
    """See the module."""

    def find(self, bucket: LocalBucket, key: str) -> Version | None:
        """What has the key now, object or marker."""
        names = maybe_names_of(key)
        if names is None:
            return None
        try:
            if key.endswith("/"):
                with directory(bucket.root, names) as descriptor:
                    return self._find_marker(bucket, key, descriptor)
            with directory(bucket.root, names[:-1]) as parent:
                return self.version(bucket, key, names[-1], parent)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def version(self, bucket: LocalBucket, key: str, name: bytes, parent: int) -> Version | None:
        """The version of a file, out of its record if that is of this state of it."""
        while (found := stat_file(name, parent)) is not None:
            signature = Signature.of(found)
            version = bucket.records.find(key, signature)
            if version is not None:
                return version
            # Two commits between the two looks would have taken the record away.
            again = stat_file(name, parent)
            if again is not None and Signature.of(again) == signature:
                return Version(signature, signature.etag())
        return None

    def _find_marker(self, bucket: LocalBucket, key: str, descriptor: int) -> Version | None:
        found = os.fstat(descriptor)
        versions = bucket.records.read(key)
        if versions:
            return versions[0]
        if len(bucket.snapshots.names(descriptor)):
            return None
        return Version(Signature(found.st_ino, 0, found.st_mtime_ns), EMPTY_ETAG)

    def require(
        self, bucket: LocalBucket, key: str, if_match: str | None, if_none_match: str | None
    ) -> Version | None:
        """What is there now; raises ObjectChanged or ObjectExists where a condition fails."""
        current = self.find(bucket, key)
        if if_match is not None and (current is None or current.etag != if_match):
            there = "gone" if current is None else current.etag
            raise ObjectChanged(f"the version is {there}, not {if_match}", key=key)
        if if_none_match is not None and current is not None:
            raise ObjectExists("an object is there", key=key)
        return current

    def demand(self, bucket: LocalBucket, key: str, if_match: str | None) -> Version:
        """The version that a read asked for."""
        found = self.require(bucket, key, if_match, None)
        if found is None:
            raise ObjectNotFound("no such object", key=key)
        return found

    def commit(
        self,
        bucket: LocalBucket,
        key: str,
        descriptor: int,
        path: bytes,
        etag: str,
        attributes: ObjectAttributes | None,
        if_match: str | None,
        if_none_match: str | None,
    ) -> Version:
        """Give a temporary file the key's name. An empty `etag` is taken from the file's state."""
        names = names_of(key)
        if key.endswith("/"):
            return self._commit_marker(bucket, key, names, attributes, if_match, if_none_match)
        # A time of our own, to the nanosecond: the kernel's moves in steps of 4 ms, in which
        # somebody may change the file to the same size.
        os.utime(descriptor, ns=(now := time.time_ns(), now))
        bucket.sync(descriptor)
        signature = Signature.of(os.fstat(descriptor))
        version = Version(signature, etag or signature.etag(), attributes or ObjectAttributes())
        with bucket.locked(key):
            current = self.require(bucket, key, if_match, if_none_match)
            kept = [version] if current is None else [version, current]
            durable = bucket.durable and version.attributes != ObjectAttributes()
            bucket.records.write(key, kept, durable=durable)
            try:
                self._enter(bucket, names, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    if current is None:
                        bucket.records.remove(key)
                raise
        return version

    def _enter(self, bucket: LocalBucket, names: Sequence[bytes], path: bytes) -> None:
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError), self._made(bucket, names[:-1]) as parent:
                os.rename(path, names[-1], dst_dir_fd=parent)
                bucket.sync(parent)
                return
        raise StoreUnavailable("the directory goes as often as it is made")

    def _made(
        self, bucket: LocalBucket, names: Sequence[bytes]
    ) -> contextlib.AbstractContextManager[int]:
        def created(depth: int, parent: int) -> None:
            bucket.sync(parent)
            # A record that outlived its directory must not make this one a marker.
            bucket.records.remove(_marker(names[:depth]))

        return directory(bucket.root, names, created=created)

    def _commit_marker(
        self,
        bucket: LocalBucket,
        key: str,
        names: Sequence[bytes],
        attributes: ObjectAttributes | None,
        if_match: str | None,
        if_none_match: str | None,
    ) -> Version:
        with bucket.locked(key):
            self.require(bucket, key, if_match, if_none_match)
            for _ in range(_ATTEMPTS):
                with contextlib.suppress(FileNotFoundError), self._made(bucket, names) as made:
                    signature = Signature(os.fstat(made).st_ino, 0, time.time_ns())
                    version = Version(signature, EMPTY_ETAG, attributes or ObjectAttributes())
                    bucket.records.write(key, [version], durable=bucket.durable)
                    return version
        raise StoreUnavailable("the directory goes as often as it is made", key=key)

    def describe(
        self,
        bucket: LocalBucket,
        key: str,
        attributes: ObjectAttributes,
        if_match: str | None,
        if_none_match: str | None,
    ) -> Version:
        """Replace an object's attributes: its bytes and ETag stay, its time is now.

        A foreign file gets an ETag of its new state.
        """
        bucket.prepare()
        with bucket.locked(key):
            current = self.require(bucket, key, if_match, if_none_match)
            if current is None:
                raise ObjectNotFound("no such object", key=key)
            if attributes.tags is None:
                attributes = dataclasses.replace(attributes, tags=current.attributes.tags)
            now = time.time_ns()
            signature = current.signature._replace(mtime_ns=now)
            is_ours = current.etag != current.signature.etag()
            etag = current.etag if is_ours else signature.etag()
            version = Version(signature, etag, attributes)
            bucket.records.write(key, [version, current], durable=bucket.durable)
            if not key.endswith("/"):
                names = names_of(key)
                with directory(bucket.root, names[:-1]) as parent:
                    os.utime(names[-1], ns=(now, now), dir_fd=parent, follow_symlinks=False)
        return version

    def remove(self, bucket: LocalBucket, key: str, if_match: str | None) -> None:
        """Take the name away, and the directories that only this object kept."""
        names = maybe_names_of(key)
        if names is None:
            if if_match is not None:
                raise ObjectChanged("no such object", key=key)
            return
        with bucket.locked(key):
            self.require(bucket, key, if_match, None)
            if key.endswith("/"):
                bucket.records.remove(key)
            else:
                try:
                    with directory(bucket.root, names[:-1]) as parent:
                        if stat_file(names[-1], parent) is not None:
                            os.unlink(names[-1], dir_fd=parent)
                            bucket.sync(parent)
                except (FileNotFoundError, NotADirectoryError):
                    pass
                bucket.records.remove(key)
        self._prune(bucket, names if key.endswith("/") else names[:-1])

    def _prune(self, bucket: LocalBucket, names: Sequence[bytes]) -> None:
        """Remove directories that nothing keeps, from the innermost outwards."""
        for depth in range(len(names), 0, -1):
            marker = _marker(names[:depth])
            with bucket.locked(marker):
                if bucket.records.exists(marker):
                    return
                try:
                    with directory(bucket.root, names[: depth - 1]) as parent:
                        os.rmdir(names[depth - 1], dir_fd=parent)
                except FileNotFoundError:
                    continue
                except OSError:  # not empty, or not a directory
                    return


def _marker(names: Sequence[bytes]) -> str:
    return b"/".join(names).decode() + "/"


def require_empty_marker(key: str, size: int) -> None:
    """Raises InvalidKey for a directory with bytes of its own."""
    if key.endswith("/") and size:
        raise InvalidKey("a directory holds no bytes: in a local bucket `dir/` is empty", key=key)


def described(key: str, version: Version) -> Object:
    """As a HEAD tells: tags as a number only."""
    tags = version.attributes.tags or {}
    shown = dataclasses.replace(version.attributes, tags=None, tag_count=len(tags))
    return Object(
        key,
        version.signature.size,
        etag=version.etag,
        mtime_ns=version.signature.mtime_ns,
        content_type=shown.content_type,
        metadata=dict(shown.metadata),
        storage_class=shown.storage_class,
        attributes=shown,
    )
