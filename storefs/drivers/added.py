"""The connection, and the verbs that a file system needs beyond the contract's.

The base of `base.StorageDriver`: capabilities, tags, the multipart group and the atomic rename.
Like the contract's verbs they raise errors of `storefs.errors` only, and `Unsupported` where a
store has no such thing.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, ClassVar

from storefs.errors import Unsupported

if TYPE_CHECKING:
    from storefs.drivers.models import (
        Capabilities,
        MultipartUpload,
        ObjectAttributes,
        OperationResult,
        Part,
        ProgressCallback,
        UploadResult,
    )


class Connection:
    """Where a store is and who asks; makes and keeps the SDK's client."""

    def __init__(
        self, host: str | None, port: int | None, access_id: str | None, access_key: str | None
    ) -> None:
        self.host = host
        self.port = port
        self.access_id = access_id
        self.access_key = access_key

    def get_client(self, container: str | None = None) -> Any:
        """The SDK's client, made once and safe to share between threads."""
        raise NotImplementedError("this connection has no client")

    def close(self) -> None:
        """Give sockets back; harmless when repeated."""


class AddedVerbs:
    """What is not in the contract."""

    store_name: ClassVar[str] = "this store"

    def unsupported(self, operation: str, reason: str) -> Unsupported:
        """The error for what this store does not have, to be raised by the caller."""
        return Unsupported(f"{self.store_name}: {reason}", operation=operation)

    def capabilities(self, connection: Connection, container_name: str) -> Capabilities:
        """What the store behind this connection can do; asks nothing over the network."""
        raise self.unsupported("capabilities", "not implemented")

    def get_object_tags(
        self, connection: Connection, container_name: str, object_name: str
    ) -> dict[str, str]:
        """The object's tags."""
        raise self.unsupported("get_object_tags", "has no tags")

    def create_multipart_upload(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        *,
        attributes: ObjectAttributes | None = None,
    ) -> str:
        """Begin; the answer is the upload's id."""
        raise self.unsupported("create_multipart_upload", "not implemented")

    def upload_part(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        upload_id: str,
        part_number: int,
        body: bytes | bytearray | memoryview | IO[bytes],
        *,
        progress_callback: ProgressCallback | None = None,
    ) -> Part:
        """Send one part; numbers begin at 1 and may be sent in any order and again."""
        raise self.unsupported("upload_part", "not implemented")

    def copy_part(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        upload_id: str,
        part_number: int,
        src_container_name: str,
        src_object_name: str,
        *,
        offset: int,
        length: int,
        src_if_match: str | None = None,
    ) -> Part:
        """A part whose bytes are a range of another object (or of an older version of this)."""
        raise self.unsupported("copy_part", "not implemented")

    def list_parts(
        self, connection: Connection, container_name: str, object_name: str, upload_id: str
    ) -> list[Part]:
        """All parts that the store has, in order of their numbers."""
        raise self.unsupported("list_parts", "not implemented")

    def complete_multipart_upload(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        upload_id: str,
        parts: list[Part],
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> UploadResult:
        """Make the parts the object; NoSuchUpload if it is gone (or was completed already)."""
        raise self.unsupported("complete_multipart_upload", "not implemented")

    def abort_multipart_upload(
        self, connection: Connection, container_name: str, object_name: str, upload_id: str
    ) -> OperationResult:
        """Drop the parts; an upload that is gone is no error."""
        raise self.unsupported("abort_multipart_upload", "not implemented")

    def list_multipart_uploads(
        self, connection: Connection, container_name: str, prefix: str | None = None
    ) -> list[MultipartUpload]:
        """Uploads under a prefix that are neither completed nor aborted."""
        raise self.unsupported("list_multipart_uploads", "not implemented")

    def rename_object(
        self,
        connection: Connection,
        container_name: str,
        src_obj_key: str,
        dst_obj_key: str,
        *,
        src_if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> OperationResult:
        """Rename in one atomic step, where the store has one."""
        raise self.unsupported("rename_object", "has no atomic rename")
