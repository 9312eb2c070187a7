"""Multipart uploads of the memory driver, and the limits that any store has.

A base of `MemoryDriver`. Parts are checked as AWS checks them: numbers, ETags, and the size of all
but the last.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from storefs.drivers import checksums, streams
from storefs.drivers.composed import ComposedDriver
from storefs.drivers.memory_connection import MemoryConnection, OpenUpload
from storefs.drivers.models import (
    Capabilities,
    MultipartUpload,
    ObjectAttributes,
    OperationResult,
    Part,
    ProgressCallback,
    UploadResult,
)
from storefs.errors import InvalidKey, InvalidRange, ObjectTooLarge, StoreError

if TYPE_CHECKING:
    from storefs.drivers.base import Connection


class MemoryMultipart(ComposedDriver):
    """See the module."""

    def create_multipart_upload(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        *,
        attributes: ObjectAttributes | None = None,
    ) -> str:
        """Begin; the answer is the upload's id."""
        memory = MemoryConnection.of(connection)
        check_key(memory.capabilities, object_name)
        with memory.verb("create_multipart_upload", object_name):
            bucket = memory.bucket(container_name)
            upload_id = f"upload-{next(memory.store.upload_numbers)}"
            bucket.uploads[upload_id] = OpenUpload(
                object_name, attributes or ObjectAttributes(), memory.clock()
            )
        return upload_id

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
        """Send one part."""
        memory = MemoryConnection.of(connection)
        reader = streams.with_length(body)
        reader.progress = progress_callback
        data = b"".join(reader.pieces())
        with memory.verb("upload_part", object_name):
            upload = memory.bucket(container_name).upload(object_name, upload_id)
            return _keep_part(memory.capabilities, upload, part_number, data)

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
        """A part whose bytes are a range of another object."""
        memory = MemoryConnection.of(connection)
        with memory.verb("copy_part", object_name):
            upload = memory.bucket(container_name).upload(object_name, upload_id)
            source = memory.bucket(src_container_name).find(src_object_name, src_if_match)
            if offset + length > len(source.body):
                raise InvalidRange("a copied range must lie inside its source", key=src_object_name)
            data = source.body[offset : offset + length]
            return _keep_part(memory.capabilities, upload, part_number, data)

    def list_parts(
        self, connection: Connection, container_name: str, object_name: str, upload_id: str
    ) -> list[Part]:
        """All parts that the store has."""
        memory = MemoryConnection.of(connection)
        with memory.verb("list_parts", object_name):
            upload = memory.bucket(container_name).upload(object_name, upload_id)
            return [part for _, (part, _) in sorted(upload.parts.items())]

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
        """Make the parts the object."""
        memory = MemoryConnection.of(connection)
        caps = memory.capabilities
        self.require_conditions(
            "complete_multipart_upload", caps.conditional_complete, if_match, if_none_match
        )
        with memory.verb("complete_multipart_upload", object_name):
            bucket = memory.bucket(container_name)
            upload = bucket.upload(object_name, upload_id)
            body = _assembled(caps, upload, parts, object_name)
            if "complete" not in memory.ignored_conditions:
                bucket.check(object_name, if_match, if_none_match)
            etag = checksums.multipart_etag(part.etag for part in parts)
            stored = memory.version(body, upload.attributes, etag)
            bucket.put(object_name, stored)
            del bucket.uploads[upload_id]
        return UploadResult(None, None, etag=etag, size=len(body))

    def abort_multipart_upload(
        self, connection: Connection, container_name: str, object_name: str, upload_id: str
    ) -> OperationResult:
        """Drop the parts."""
        memory = MemoryConnection.of(connection)
        with memory.verb("abort_multipart_upload", object_name):
            memory.bucket(container_name).uploads.pop(upload_id, None)
        return OperationResult()

    def list_multipart_uploads(
        self, connection: Connection, container_name: str, prefix: str | None = None
    ) -> list[MultipartUpload]:
        """Open uploads under a prefix."""
        memory = MemoryConnection.of(connection)
        with memory.verb("list_multipart_uploads", prefix or ""):
            return [
                MultipartUpload(upload.key, upload_id, upload.initiated_ns)
                for upload_id, upload in memory.bucket(container_name).uploads.items()
                if upload.key.startswith(prefix or "")
            ]


def check_key(caps: Capabilities, key: str) -> None:
    """Raises InvalidKey for a key that no store takes."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError as exc:
        raise InvalidKey("a key is UTF-8", key=ascii(key)) from exc
    if not 0 < size <= caps.max_key_bytes:
        raise InvalidKey(f"a key has 1 to {caps.max_key_bytes} bytes, not {size}", key=key)


def _keep_part(caps: Capabilities, upload: OpenUpload, number: int, data: bytes) -> Part:
    if not 1 <= number <= caps.max_parts:
        raise StoreError(f"part numbers are 1 to {caps.max_parts}, not {number}", key=upload.key)
    if len(data) > caps.max_part_bytes:
        raise ObjectTooLarge(f"{len(data)} bytes in one part", key=upload.key)
    part = Part(number, checksums.md5(data).hexdigest(), len(data))
    upload.parts[number] = (part, data)
    return part


def _assembled(caps: Capabilities, upload: OpenUpload, parts: list[Part], key: str) -> bytes:
    """The body; StoreError where S3 answers InvalidPart, InvalidPartOrder or EntityTooSmall."""
    numbers = [part.number for part in parts]
    if not parts or numbers != sorted(set(numbers)):
        raise StoreError("parts must be given in the order of their numbers", key=key)
    pieces: list[bytes] = []
    for part in parts:
        kept = upload.parts.get(part.number)
        if kept is None or kept[0].etag != part.etag:
            raise StoreError(f"part {part.number} is not there or has another ETag", key=key)
        pieces.append(kept[1])
    for part, piece in zip(parts[:-1], pieces[:-1], strict=True):
        if len(piece) < caps.min_part_bytes:
            raise StoreError(f"part {part.number} is too small: {len(piece)} bytes", key=key)
    return b"".join(pieces)
