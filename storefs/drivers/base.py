"""The driver contract: one class of verbs for every kind of store, one connection object each.

Drivers are synchronous, safe to call from many threads at once, and raise errors of
`storefs.errors` only. The contract's own parameters come first and keep their names, order and
defaults; ours follow, keyword-only. Everything that a store cannot do is `Unsupported`.

Conditions, wherever a method takes them: `if_match` is an ETag without quotes, met by exactly that
version, else `ObjectChanged` (a missing object too); `if_none_match="*"` is met by absence, else
`ObjectExists`. Where the store's `Capabilities` lack a condition, the driver raises `Unsupported`
rather than leaving it out; while `conditions_known` is False it is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, ClassVar

from storefs.drivers.added import AddedVerbs, Connection

if TYPE_CHECKING:
    from storefs.drivers.models import (
        AppendResult,
        Container,
        DownloadResult,
        Object,
        ObjectAttributes,
        OperationResult,
        ProgressCallback,
        RestoreResult,
        StreamDownloadResult,
        UploadResult,
    )

Body = bytes | bytearray | memoryview | IO[bytes] | Iterable[bytes]
"""Bytes to send: a buffer, something with `read(size)`, or pieces of any size."""

COMMIT_BYTES = 64 * 1024 * 1024
COMMIT_SECONDS = 10.0


class StorageDriver(AddedVerbs):
    """The verbs. Each takes the connection, so that a driver itself has no state."""

    connection_class: ClassVar[type[Connection]] = Connection

    @classmethod
    def create_connection_manager(
        cls,
        store_host: str | None,
        store_port: int | None,
        access_id: str | None,
        access_key: str | None,
        **kwargs: Any,
    ) -> Connection:
        """A connection of this driver's class; `kwargs` are that class's own options."""
        return cls.connection_class(store_host, store_port, access_id, access_key, **kwargs)

    accept_connect = create_connection_manager

    def __init__(self) -> None:
        self.logger = logging.getLogger(self.__class__.__name__)

    # -- the contract ------------------------------------------------------------------------

    def get_object_meta(
        self,
        connection: Connection,
        object_name: str,
        container_name: str | None = None,
        *,
        if_match: str | None = None,
    ) -> Object:
        """One request. The answer has size, etag, mtime_ns and `attributes`."""
        raise self.unsupported("get_object_meta", "not implemented")

    def upload_file(
        self,
        connection: Connection,
        file_path: str,
        container_name: str,
        object_name: str,
        checksum_type: str | None = None,
        threads: int | None = None,
        progress_callback: ProgressCallback | None = None,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        attributes: ObjectAttributes | None = None,
        part_bytes: int | None = None,
        **kwargs: Any,
    ) -> UploadResult:
        """Send a file: one PUT if small, else parts of `part_bytes`, `threads` at a time."""
        raise self.unsupported("upload_file", "not implemented")

    def upload_object_via_stream(
        self,
        connection: Connection,
        iterator: Body,
        container_name: str,
        object_name: str,
        checksum_type: str | None = None,
        progress_callback: ProgressCallback | None = None,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        attributes: ObjectAttributes | None = None,
        part_bytes: int | None = None,
        **kwargs: Any,
    ) -> UploadResult:
        """Send a stream of any length in bounded memory; a short one (or a buffer) is one PUT.

        On failure nothing of the new object is visible and no multipart upload is left.
        """
        raise self.unsupported("upload_object_via_stream", "not implemented")

    def append_object(
        self,
        connection: Connection,
        iterator: Body,
        container_name: str,
        object_name: str,
        position: int = 0,
        checksum_type: str | None = None,
        progress_callback: ProgressCallback | None = None,
        *,
        commit_bytes: int = COMMIT_BYTES,
        commit_seconds: float = COMMIT_SECONDS,
        **kwargs: Any,
    ) -> AppendResult:
        """Grow an object whose length is `position`, in bytes; 0 may create it.

        Raises PositionMismatch with the true length, nothing written. A long stream is committed
        at least every `commit_bytes` or `commit_seconds`; a later error carries the position
        reached as `error.position`.
        """
        raise self.unsupported("append_object", "not implemented")

    def download_file(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        dst_path: str,
        progress_callback: ProgressCallback | None = None,
        *,
        checksum_type: str | None = None,
        if_match: str | None = None,
        threads: int | None = None,
        **kwargs: Any,
    ) -> DownloadResult:
        """Fetch to a file (or into a directory), written aside and renamed when it is whole."""
        raise self.unsupported("download_file", "not implemented")

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
        """Bytes `offset` to `offset + length` (to the end if None) in pieces of `chunk_size`.

        The request is made before this returns, and `extra["object"]` tells size (of the whole
        object), etag and attributes. A range is clamped at the end of the object; one that begins
        at or past the end raises InvalidRange (of an empty object `offset=0` yields nothing). A
        body that ends early raises StoreUnavailable, never a short success.
        """
        raise self.unsupported("download_object_as_stream", "not implemented")

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
        **kwargs: Any,
    ) -> OperationResult:
        """Copy inside the store, at any size; `attributes` replace all of the source's.

        `extra` has `etag` and `size` of the copy.
        """
        raise self.unsupported("copy_object", "not implemented")

    def archive_object(
        self,
        connection: Connection,
        src_container_name: str,
        src_object_name: str,
        archive_container_name: str,
        dst_object_name: str,
        **kwargs: Any,
    ) -> bool:
        """Move an object to an archive class."""
        raise self.unsupported("archive_object", "has no archive class")

    def restore_object(
        self, connection: Connection, src_container_name: str, src_object_name: str, **kwargs: Any
    ) -> RestoreResult:
        """Ask for an archived object back."""
        raise self.unsupported("restore_object", "has no archive class")

    def delete_object(
        self,
        connection: Connection,
        object_name: str,
        container_name: str | None = None,
        *,
        if_match: str | None = None,
    ) -> OperationResult:
        """Remove one object; one that does not exist is no error unless `if_match` is given."""
        raise self.unsupported("delete_object", "not implemented")

    def batch_delete_objects(
        self,
        connection: Connection,
        key_list: list[str],
        container_name: str | None = None,
        *,
        if_match: dict[str, str] | None = None,
    ) -> OperationResult:
        """Remove many, 1,000 a request; `extra` has `deleted` (count) and `errors` (by key)."""
        raise self.unsupported("batch_delete_objects", "not implemented")

    def delete_objects_by_prefix(
        self,
        connection: Connection,
        prefix: str,
        container_name: str | None = None,
        **kwargs: Any,
    ) -> OperationResult:
        """Remove all objects under a prefix; `extra` as `batch_delete_objects`."""
        if not prefix:
            raise self.unsupported(
                "delete_objects_by_prefix", "an empty prefix is the whole bucket"
            )
        names = [
            found.name
            for found in self.iterate_container_objects(connection, container_name or "", prefix)
        ]
        return self.batch_delete_objects(connection, names, container_name)

    def iterate_container_objects(
        self, connection: Connection, container_name: str, prefix: str | None = None
    ) -> Iterator[Object]:
        """Every object under a prefix, page by page."""
        marker: str | None = None
        while True:
            page, marker = self.list_container_objects(
                connection, container_name, prefix, marker=marker
            )
            yield from page
            if marker is None:
                return

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
        """One page, one request: objects and (with `delimiter`) common prefixes, and the marker.

        The marker is opaque; None means that this was the last page. `start_after` is a key.
        """
        raise self.unsupported("list_container_objects", "not implemented")

    def get_container(
        self, connection: Connection, container_name: str, **kwargs: Any
    ) -> Container:
        """The bucket, or ContainerNotFound."""
        raise self.unsupported("get_container", "not implemented")

    def get_object_sign_url(
        self, connection: Connection, object_name: str, container_name: str | None = None
    ) -> str:
        """A link that works without credentials for a while."""
        raise self.unsupported("get_object_sign_url", "cannot sign links")

    def enable_object_cdn(
        self,
        connection: Connection,
        object_name: str,
        container_name: str | None = None,
        **kwargs: Any,
    ) -> OperationResult:
        """Let a CDN serve the object."""
        raise self.unsupported("enable_object_cdn", "has no CDN")


__all__ = ["COMMIT_BYTES", "COMMIT_SECONDS", "Body", "Connection", "StorageDriver"]
