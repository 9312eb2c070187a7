"""Multipart uploads on S3. A base of `S3Driver`, which see.

Parts are compared with their ETags where those are MD5s, so that a part that arrived damaged is
never completed. Copies and completes answer when the store has done the work, so they get longer.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from storefs.drivers import s3_values, streams
from storefs.drivers.composed import ComposedDriver
from storefs.drivers.models import MultipartUpload, OperationResult, Part, UploadResult
from storefs.drivers.s3_connection import S3Connection
from storefs.drivers.s3_errors import translated
from storefs.drivers.s3_patience import patience
from storefs.drivers.s3_values import conditions, quoted, to_ns, unquoted
from storefs.errors import ChecksumMismatch, InvalidKey, NoSuchUpload

if TYPE_CHECKING:
    from storefs.drivers.base import Connection
    from storefs.drivers.models import ObjectAttributes, ProgressCallback
    from storefs.drivers.streams import Reader

COPY_PATIENCE = 10
COMPLETE_PATIENCE = 1.5
"""How many times longer than for other calls an answer may take. Guesses, not measured."""


class S3Multipart(ComposedDriver):
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
        s3 = S3Connection.of(connection)
        check_key(s3, container_name, object_name)
        with translated("create_multipart_upload", object_name):
            answer = s3.get_client().create_multipart_upload(
                Bucket=container_name, Key=object_name, **s3_values.write_params(s3, attributes)
            )
        return str(answer["UploadId"])

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
        s3 = S3Connection.of(connection)
        reader = streams.with_length(body)
        reader.progress = progress_callback
        reader.hash_with("md5")
        with translated("upload_part", object_name):
            answer = s3.get_client().upload_part(
                Bucket=container_name,
                Key=object_name,
                UploadId=upload_id,
                PartNumber=part_number,
                Body=sendable(reader),
            )
        compare_md5(s3, answer, reader, object_name, "upload_part")
        return Part(part_number, unquoted(answer.get("ETag")), reader.size)

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
        s3 = S3Connection.of(connection)
        params: dict[str, Any] = {}
        if src_if_match is not None:
            params["CopySourceIfMatch"] = quoted(src_if_match)
        with (
            patience(s3.call_seconds * COPY_PATIENCE),
            translated("copy_part", src_object_name, if_match=src_if_match),
        ):
            answer = s3.get_client().upload_part_copy(
                Bucket=container_name,
                Key=object_name,
                UploadId=upload_id,
                PartNumber=part_number,
                CopySource={"Bucket": src_container_name, "Key": src_object_name},
                CopySourceRange=f"bytes={offset}-{offset + length - 1}",
                **params,
            )
        return Part(part_number, unquoted(answer["CopyPartResult"]["ETag"]), length)

    def list_parts(
        self, connection: Connection, container_name: str, object_name: str, upload_id: str
    ) -> list[Part]:
        """All parts that the store has, in order of their numbers."""
        s3 = S3Connection.of(connection)
        wanted: dict[str, Any] = {
            "Bucket": container_name,
            "Key": object_name,
            "UploadId": upload_id,
        }
        # SeaweedFS lists a part that was sent twice twice; the later one counts.
        parts: dict[int, tuple[int, Part]] = {}
        while True:
            with translated("list_parts", object_name):
                answer = s3.get_client().list_parts(**wanted)
            for found in answer.get("Parts", []):
                number, moment = int(found["PartNumber"]), to_ns(found.get("LastModified"))
                part = Part(number, unquoted(found["ETag"]), int(found.get("Size", 0)))
                if number not in parts or parts[number][0] <= moment:
                    parts[number] = (moment, part)
            if not answer.get("IsTruncated"):
                return [part for _, (_, part) in sorted(parts.items())]
            wanted["PartNumberMarker"] = answer["NextPartNumberMarker"]

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
        s3 = S3Connection.of(connection)
        caps = s3.capabilities(container_name)
        self.require_conditions(
            "complete_multipart_upload", caps.conditional_complete, if_match, if_none_match
        )
        with (
            patience(s3.call_seconds * COMPLETE_PATIENCE),
            translated(
                "complete_multipart_upload",
                object_name,
                if_match=if_match,
                if_none_match=if_none_match,
            ),
        ):
            answer = s3.get_client().complete_multipart_upload(
                Bucket=container_name,
                Key=object_name,
                UploadId=upload_id,
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": part.number, "ETag": quoted(part.etag)} for part in parts
                    ]
                },
                **conditions(if_match, if_none_match),
            )
        extra = {"etag": unquoted(answer.get("ETag")), "size": sum(part.size for part in parts)}
        if answer.get("VersionId") not in (None, "null"):
            extra["version_id"] = answer["VersionId"]
        return UploadResult(None, None, **extra)

    def abort_multipart_upload(
        self, connection: Connection, container_name: str, object_name: str, upload_id: str
    ) -> OperationResult:
        """Drop the parts; an upload that is gone is no error."""
        s3 = S3Connection.of(connection)
        try:
            with translated("abort_multipart_upload", object_name):
                s3.get_client().abort_multipart_upload(
                    Bucket=container_name, Key=object_name, UploadId=upload_id
                )
        except NoSuchUpload:
            return OperationResult(existed=False)
        return OperationResult(existed=True)

    def list_multipart_uploads(
        self, connection: Connection, container_name: str, prefix: str | None = None
    ) -> list[MultipartUpload]:
        """Uploads under a prefix that are neither completed nor aborted."""
        s3 = S3Connection.of(connection)
        wanted: dict[str, Any] = {"Bucket": container_name, "Prefix": prefix or ""}
        uploads: list[MultipartUpload] = []
        while True:
            with translated("list_multipart_uploads", prefix or ""):
                answer = s3.get_client().list_multipart_uploads(**wanted)
            uploads += [
                MultipartUpload(found["Key"], found["UploadId"], to_ns(found.get("Initiated")))
                for found in answer.get("Uploads", [])
            ]
            if not answer.get("IsTruncated"):
                return uploads
            wanted["KeyMarker"] = answer["NextKeyMarker"]
            wanted["UploadIdMarker"] = answer["NextUploadIdMarker"]


def check_key(s3: S3Connection, container_name: str, key: str) -> None:
    """Raises InvalidKey for what no S3 takes, without asking it."""
    most = s3.capabilities(container_name).max_key_bytes
    try:
        size = len(key.encode())
    except UnicodeEncodeError as exc:
        raise InvalidKey("a key is UTF-8", key=ascii(key)) from exc
    if not 0 < size <= most:
        raise InvalidKey(f"a key has 1 to {most} bytes, not {size}", key=key)


def sendable(reader: Reader) -> Reader | bytes:
    """The body as boto3 should get it: an empty file-like one confuses content lengths."""
    return reader if reader.size else b""


def compare_md5(
    s3: S3Connection, answer: dict[str, Any], reader: Reader, key: str, operation: str
) -> None:
    """Raises ChecksumMismatch if the ETag tells that other bytes arrived than were sent."""
    if not s3_values.etag_is_md5(answer, foreign=s3.is_foreign):
        return
    sent, stored = reader.hexdigest("md5"), unquoted(answer["ETag"])
    if sent != stored:
        mismatch = ChecksumMismatch(
            f"sent bytes with MD5 {sent}, the store has {stored}", key=key, operation=operation
        )
        mismatch.stored_etag = stored
        raise mismatch
