"""A directory that behaves like a bucket.

Objects are plain files under their keys, which other programs may read, add, change and remove; the
driver notices. ETags, conditions, multipart uploads and listings are those of a store. What storefs
knows beside the bytes is in `.storefs-bucket` (`local_records`), how an object takes its name in
`local_commits`. A key that no file can have is refused with `InvalidKey`.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from typing import TYPE_CHECKING, Any, ClassVar

from storefs.drivers import checksums, listing
from storefs.drivers.downloads import Download, clamp
from storefs.drivers.local_commits import EMPTY_ETAG, described, require_empty_marker
from storefs.drivers.local_connection import LocalBucket, LocalConnection
from storefs.drivers.local_listing import Walk, is_directory
from storefs.drivers.local_multipart import LocalMultipart, copy_unchanged, write_all
from storefs.drivers.local_paths import MAX_KEY_BYTES, names_of, translated
from storefs.drivers.local_records import Signature
from storefs.drivers.models import (
    Append,
    Capabilities,
    Condition,
    Container,
    Object,
    ObjectAttributes,
    OperationResult,
    StreamDownloadResult,
    UploadResult,
)
from storefs.drivers.uploads import refuse_unknown
from storefs.errors import ObjectChanged
from storefs.units import TIB

if TYPE_CHECKING:
    from storefs.drivers.base import Connection
    from storefs.drivers.models import ProgressCallback
    from storefs.drivers.streams import Reader

CAPABILITIES = Capabilities(
    append=Append.EMULATED,
    conditional_put=Condition.ETAG,
    conditional_complete=Condition.ETAG,
    conditional_copy=Condition.ETAG,
    conditional_delete=Condition.ETAG,
    conditional_batch=Condition.ETAG,
    max_put_bytes=8 * TIB,
    max_copy_bytes=8 * TIB,
    max_object_bytes=8 * TIB,
    max_key_bytes=MAX_KEY_BYTES,
)
"""Parts as on S3, so that what works here works there. 8 TiB: half of what ext4 takes."""


class LocalDriver(LocalMultipart):
    """See the module."""

    connection_class: ClassVar[type[Connection]] = LocalConnection
    store_name: ClassVar[str] = "a local directory"

    def capabilities(self, connection: Connection, container_name: str) -> Capabilities:
        """The same for every directory."""
        return CAPABILITIES

    # -- objects -------------------------------------------------------------------------------

    def get_object_meta(
        self,
        connection: Connection,
        object_name: str,
        container_name: str | None = None,
        *,
        if_match: str | None = None,
    ) -> Object:
        """The answer has size, etag, mtime_ns and `attributes`."""
        bucket = LocalConnection.of(connection).get_client(container_name)
        with translated("get_object_meta", object_name):
            return described(object_name, self.demand(bucket, object_name, if_match))

    def put_reader(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        body: Reader,
        *,
        checksum_type: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        attributes: ObjectAttributes | None = None,
    ) -> UploadResult:
        """Written aside, then renamed: other programs see the old file or the new one."""
        bucket = LocalConnection.of(connection).get_client(container_name)
        offered = CAPABILITIES.conditional_put
        self.require_conditions("put_object", offered, if_match, if_none_match)
        names_of(object_name)
        require_empty_marker(object_name, body.size)
        body.hash_with(*{"md5", checksum_type or "md5"})
        with translated("put_object", object_name), bucket.temporary_file() as (descriptor, path):
            write_all(descriptor, body)
            etag = body.hexdigest("md5")
            self.commit(
                bucket, object_name, descriptor, path, etag, attributes, if_match, if_none_match
            )
        checksum = body.hexdigest(checksum_type) if checksum_type else None
        return UploadResult(checksum, checksum_type, etag=etag, size=body.size)

    def download_object_as_stream(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        chunk_size: int | None = None,
        progress_callback: ProgressCallback | None = None,
        *,
        offset: int = 0,
        length: int | None = None,
        if_match: str | None = None,
        checksum_type: str | None = None,
        **kwargs: Any,
    ) -> StreamDownloadResult:
        """Bytes of a range in pieces; ObjectChanged if the file is edited in place meanwhile."""
        refuse_unknown("download_object_as_stream", kwargs)
        checksum = checksums.maybe(checksum_type)
        bucket = LocalConnection.of(connection).get_client(container_name)
        with translated("get_object", object_name):
            descriptor, version = self.open_version(bucket, object_name, if_match)
        try:
            start, stop = clamp(offset, length, version.signature.size, object_name)
        except BaseException:
            os.close(descriptor)
            raise
        position = start

        def read(most: int) -> bytes:
            nonlocal position
            with translated("get_object", object_name):
                data = os.pread(descriptor, most, position)
                # After reading: what was read before a change is of the version.
                if Signature.of(os.fstat(descriptor)) != version.signature:
                    raise ObjectChanged("changed while it was read", key=object_name)
            position += len(data)
            return data

        found = described(object_name, version)
        whole = (start, stop) == (0, found.size)
        expected = self.stored_checksum(found, checksum_type) if whole else None
        pieces = Download(
            read,
            lambda: os.close(descriptor),
            stop - start,
            key=object_name,
            chunk_size=chunk_size,
            progress=progress_callback,
            checksum=checksum,
            expected=expected,
        )
        return StreamDownloadResult(
            pieces, server_checksum=expected, checksum_type=checksum_type, object=found
        )

    def copy_object(
        self,
        connection: Connection,
        src_container_name: str,
        src_obj_key: str,
        dst_obj_key: str,
        dst_container_name: str | None = None,
        *,
        src_if_match: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        attributes: ObjectAttributes | None = None,
        src_object: Object | None = None,
        **kwargs: Any,
    ) -> OperationResult:
        """Copied inside the kernel, blocks shared where the file system can; keeps the ETag.

        `src_object` would save other stores a request.
        """
        refuse_unknown("copy_object", kwargs)
        local = LocalConnection.of(connection)
        source = local.get_client(src_container_name)
        target = local.get_client(dst_container_name or src_container_name)
        offered = CAPABILITIES.conditional_copy
        self.require_conditions("copy_object", offered, if_match, if_none_match)
        names_of(dst_obj_key)
        if (source, src_obj_key) == (target, dst_obj_key) and attributes is not None:
            with translated("copy_object", dst_obj_key):
                made = self.describe(
                    target, dst_obj_key, attributes, src_if_match or if_match, if_none_match
                )
            size, mtime_ns = made.signature.size, made.signature.mtime_ns
            return OperationResult(etag=made.etag, size=size, mtime_ns=mtime_ns)
        with (
            translated("copy_object", dst_obj_key),
            self.opened(source, src_obj_key, src_if_match) as (origin, version),
            target.temporary_file() as (descriptor, path),
        ):
            size = version.signature.size
            require_empty_marker(dst_obj_key, size)
            if size:
                copy_unchanged(origin, descriptor, version, 0, size, src_obj_key)
            kept = attributes or version.attributes
            if kept.tags is None:
                kept = dataclasses.replace(kept, tags=version.attributes.tags)
            # A foreign file's ETag names that file; the copy gets one of its own.
            etag = "" if version.etag == version.signature.etag() else version.etag
            made = self.commit(
                target, dst_obj_key, descriptor, path, etag, kept, if_match, if_none_match
            )
        return OperationResult(etag=made.etag, size=size, mtime_ns=made.signature.mtime_ns)

    def delete_object(
        self,
        connection: Connection,
        object_name: str,
        container_name: str | None = None,
        *,
        if_match: str | None = None,
    ) -> OperationResult:
        """Remove one object, and the directories that only it kept."""
        bucket = LocalConnection.of(connection).get_client(container_name)
        with translated("delete_object", object_name):
            bucket.prepare()
            self.remove(bucket, object_name, if_match)
        return OperationResult()

    def get_object_tags(
        self, connection: Connection, container_name: str, object_name: str
    ) -> dict[str, str]:
        """The object's tags."""
        bucket = LocalConnection.of(connection).get_client(container_name)
        with translated("get_object_tags", object_name):
            return dict(self.demand(bucket, object_name, None).attributes.tags or {})

    # -- listing -------------------------------------------------------------------------------

    def list_container_objects(
        self,
        connection: Connection,
        container_name: str,
        prefix: str | None = None,
        *,
        delimiter: str | None = None,
        start_after: str | None = None,
        marker: str | None = None,
        max_keys: int = 1000,
        **kwargs: Any,
    ) -> tuple[list[Object], str | None]:
        """One page, in byte order of the keys."""
        refuse_unknown("list_container_objects", kwargs)
        bucket = LocalConnection.of(connection).get_client(container_name)
        walk = Walk(bucket.snapshots, prefix or "", start_after, marker, bucket.records.exists)
        with translated("list_objects", prefix or ""):
            found = walk.entries(delimiter)
            taken = itertools.islice(found, min(max_keys, 1000))
            page = [_listed(bucket, name, status) for name, status in taken]
            more = next(found, None) is not None
            found.close()
        return page, listing.marker_of(page) if more else None

    def get_container(
        self, connection: Connection, container_name: str, **kwargs: Any
    ) -> Container:
        """The directory, or ContainerNotFound."""
        refuse_unknown("get_container", kwargs)
        LocalConnection.of(connection).get_client(container_name)
        return Container(container_name)


def _listed(bucket: LocalBucket, key: str, status: os.stat_result | None) -> Object:
    if status is None:
        return Object(key, is_prefix=True)
    if is_directory(status):
        versions = bucket.records.read(key)
        mtime_ns = versions[0].signature.mtime_ns if versions else status.st_mtime_ns
        return Object(key, 0, etag=EMPTY_ETAG, mtime_ns=mtime_ns)
    signature = Signature.of(status)
    etag = bucket.records.etag(key, signature)
    return Object(key, signature.size, etag=etag, mtime_ns=signature.mtime_ns)
