"""A store in memory: as strict as S3, and with handles for tests to break it.

Used by tests of every layer above and by `memory://` URLs. It takes nothing on trust that a real
store would not: ETags are MD5s (of parts: MD5 of MD5s), conditions hold, small parts are refused,
listings are in byte order. The handles are on `MemoryConnection`: what `before` raises means that
the request never arrived, what `after` raises that its answer was lost.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, ClassVar

from storefs.drivers import checksums, listing, streams
from storefs.drivers.downloads import Download, clamp
from storefs.drivers.memory_connection import MemoryConnection, StoredObject
from storefs.drivers.memory_multipart import MemoryMultipart, check_key
from storefs.drivers.models import (
    Capabilities,
    Container,
    Object,
    ObjectAttributes,
    OperationResult,
    ProgressCallback,
    StreamDownloadResult,
    UploadResult,
)
from storefs.drivers.uploads import refuse_unknown
from storefs.errors import ObjectTooLarge, StoreError

if TYPE_CHECKING:
    from storefs.drivers.base import Connection
    from storefs.drivers.streams import Reader

__all__ = ["MemoryConnection", "MemoryDriver"]


class MemoryDriver(MemoryMultipart):
    """See the module."""

    connection_class: ClassVar[type[Connection]] = MemoryConnection
    store_name: ClassVar[str] = "the memory store"

    def capabilities(self, connection: Connection, container_name: str) -> Capabilities:
        """Those given to the connection."""
        return MemoryConnection.of(connection).capabilities

    # -- objects -------------------------------------------------------------------------------

    def get_object_meta(
        self,
        connection: Connection,
        object_name: str,
        container_name: str | None = None,
        *,
        if_match: str | None = None,
    ) -> Object:
        """One request. The answer has size, etag, mtime_ns and `attributes`."""
        memory = MemoryConnection.of(connection)
        with memory.verb("get_object_meta", object_name):
            found = memory.bucket(container_name).find(object_name, if_match)
            return _described(object_name, found)

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
        """One PUT."""
        memory = MemoryConnection.of(connection)
        caps = memory.capabilities
        self.require_conditions("put_object", caps.conditional_put, if_match, if_none_match)
        check_key(caps, object_name)
        if body.size > caps.max_put_bytes:
            raise ObjectTooLarge(f"{body.size} bytes in one PUT", key=object_name)
        checksum = checksums.maybe(checksum_type)
        data = b"".join(body.pieces())
        if checksum is not None:
            checksum.update(data)
        with memory.verb("put_object", object_name):
            bucket = memory.bucket(container_name)
            if "put" not in memory.ignored_conditions:
                bucket.check(object_name, if_match, if_none_match)
            stored = memory.version(data, attributes or ObjectAttributes())
            bucket.put(object_name, stored)
        return UploadResult(
            checksum.hexdigest() if checksum else None,
            checksum_type,
            etag=stored.etag,
            size=len(data),
        )

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
        """Bytes of a range in pieces; `extra["object"]` tells whose."""
        refuse_unknown("download_object_as_stream", kwargs)
        memory = MemoryConnection.of(connection)
        with memory.verb("download_object_as_stream", object_name):
            stored = memory.bucket(container_name).find(object_name, if_match)
        start, stop = clamp(offset, length, len(stored.body), object_name)
        body = streams.of_buffer(memoryview(stored.body)[start:stop])
        found = _described(object_name, stored)
        whole = (start, stop) == (0, found.size)
        expected = self.stored_checksum(found, checksum_type) if whole else None
        pieces = Download(
            body.read,
            body.close,
            stop - start,
            key=object_name,
            chunk_size=chunk_size,
            progress=progress_callback,
            checksum=checksums.maybe(checksum_type),
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
        """Copy; at any size one request. `src_object` would save other stores a request."""
        refuse_unknown("copy_object", kwargs)
        memory = MemoryConnection.of(connection)
        caps = memory.capabilities
        self.require_conditions("copy_object", caps.conditional_copy, if_match, if_none_match)
        check_key(caps, dst_obj_key)
        with memory.verb("copy_object", dst_obj_key):
            source = memory.bucket(src_container_name).find(src_obj_key, src_if_match)
            target = memory.bucket(dst_container_name or src_container_name)
            if "copy" not in memory.ignored_conditions:
                target.check(dst_obj_key, if_match, if_none_match)
            # A copy is put in one piece, whatever its source was made of.
            stored = memory.version(source.body, attributes or source.attributes)
            if attributes is not None and attributes.tags is None:
                kept = dataclasses.replace(attributes, tags=source.attributes.tags)
                stored = dataclasses.replace(stored, attributes=kept)
            target.put(dst_obj_key, stored)
        return OperationResult(etag=stored.etag, size=len(stored.body), mtime_ns=stored.mtime_ns)

    def delete_object(
        self,
        connection: Connection,
        object_name: str,
        container_name: str | None = None,
        *,
        if_match: str | None = None,
    ) -> OperationResult:
        """Remove one object."""
        memory = MemoryConnection.of(connection)
        offered = memory.capabilities.conditional_delete
        self.require_conditions("delete_object", offered, if_match, None)
        with memory.verb("delete_object", object_name):
            bucket = memory.bucket(container_name)
            if "delete" not in memory.ignored_conditions:
                bucket.check(object_name, if_match, None)
            bucket.remove(object_name)
        return OperationResult()

    def batch_delete_objects(
        self,
        connection: Connection,
        key_list: list[str],
        container_name: str | None = None,
        *,
        if_match: dict[str, str] | None = None,
    ) -> OperationResult:
        """Remove many, 1,000 a request."""
        memory = MemoryConnection.of(connection)
        offered = memory.capabilities.conditional_delete
        deleted = 0
        errors: dict[str, StoreError] = {}
        for start in range(0, len(key_list), 1000):
            keys = key_list[start : start + 1000]
            with memory.verb("batch_delete_objects", keys[0]):
                bucket = memory.bucket(container_name)
                for key in keys:
                    try:
                        etag = (if_match or {}).get(key)
                        self.require_conditions("batch_delete_objects", offered, etag, None)
                        if "delete" not in memory.ignored_conditions:
                            bucket.check(key, etag, None)
                        bucket.remove(key)
                        deleted += 1
                    except StoreError as exc:
                        errors[key] = exc
        return OperationResult(deleted=deleted, errors=errors)

    def get_object_tags(
        self, connection: Connection, container_name: str, object_name: str
    ) -> dict[str, str]:
        """The object's tags."""
        memory = MemoryConnection.of(connection)
        with memory.verb("get_object_tags", object_name):
            found = memory.bucket(container_name).find(object_name, None)
            return dict(found.attributes.tags or {})

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
        """One page."""
        refuse_unknown("list_container_objects", kwargs)
        memory = MemoryConnection.of(connection)
        with memory.verb("list_container_objects", prefix or ""):
            bucket = memory.bucket(container_name)
            wanted = (bucket.names, prefix or "", delimiter, start_after, marker)
            if memory.listing_order is None:
                found = listing.entries(*wanted)
            else:
                found = listing.entries_ordered_by(memory.listing_order, *wanted)
            page = [
                Object(name, is_prefix=True) if is_prefix else _listed(name, bucket.objects[name])
                for name, is_prefix in itertools.islice(found, min(max_keys, 1000))
            ]
            more = next(found, None) is not None
        return page, listing.marker_of(page) if more else None

    def get_container(
        self, connection: Connection, container_name: str, **kwargs: Any
    ) -> Container:
        """The bucket, or ContainerNotFound."""
        refuse_unknown("get_container", kwargs)
        memory = MemoryConnection.of(connection)
        with memory.verb("get_container", container_name):
            memory.bucket(container_name)
        return Container(container_name)


def _described(key: str, stored: StoredObject) -> Object:
    """As a HEAD tells: tags as a number only."""
    tags = stored.attributes.tags or {}
    attributes = dataclasses.replace(stored.attributes, tags=None, tag_count=len(tags))
    return Object(
        key,
        len(stored.body),
        etag=stored.etag,
        mtime_ns=stored.mtime_ns,
        content_type=attributes.content_type,
        metadata=dict(attributes.metadata),
        storage_class=attributes.storage_class,
        attributes=attributes,
    )


def _listed(key: str, stored: StoredObject) -> Object:
    """As a LIST tells."""
    return Object(
        key,
        len(stored.body),
        etag=stored.etag,
        mtime_ns=stored.mtime_ns,
        storage_class=stored.attributes.storage_class,
    )
