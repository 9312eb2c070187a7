"""Amazon S3 and servers that speak like it, through boto3.

One request for a verb wherever S3 has one. Nothing is believed that can be checked: ranges are
compared with what was asked, ETags with what was sent. The parts: `s3_connection` (the client),
`s3_patience` (its time-outs), `s3_errors` (its errors as ours), `s3_values` (its answers as ours),
`s3_multipart`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from storefs.drivers import checksums, s3_values, streams
from storefs.drivers.downloads import Download
from storefs.drivers.models import (
    Container,
    Object,
    OperationResult,
    StreamDownloadResult,
    UploadResult,
)
from storefs.drivers.s3_connection import S3Connection
from storefs.drivers.s3_copies import S3Copies
from storefs.drivers.s3_errors import error_of_code, translated
from storefs.drivers.s3_multipart import check_key, compare_md5, sendable
from storefs.drivers.s3_values import conditions, described, unquoted
from storefs.drivers.uploads import refuse_unknown
from storefs.errors import (
    ContainerNotFound,
    InvalidRange,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    ObjectTooLarge,
    StoreError,
)

if TYPE_CHECKING:
    from storefs.drivers.base import Connection
    from storefs.drivers.models import Capabilities, ObjectAttributes, ProgressCallback
    from storefs.drivers.streams import Reader

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

# XML 1.0 has no way to write most of these, and parsers change the others.
_NOT_IN_XML = re.compile("[\x00-\x1f\x7f\ufffe\uffff]")

SIGNED_SECONDS = 3600


class S3Driver(S3Copies):
    """See the module."""

    connection_class: ClassVar[type[Connection]] = S3Connection
    store_name: ClassVar[str] = "S3"

    def capabilities(self, connection: Connection, container_name: str) -> Capabilities:
        """Those of AWS; of another server what is hoped for, until it was asked."""
        return S3Connection.of(connection).capabilities(container_name)

    # -- objects -------------------------------------------------------------------------------

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
        """One PUT; the ETag of the answer is compared with the MD5 of what was sent."""
        s3 = S3Connection.of(connection)
        caps = s3.capabilities(container_name)
        self.require_conditions("put_object", caps.conditional_put, if_match, if_none_match)
        check_key(s3, container_name, object_name)
        if body.size > caps.max_put_bytes:
            raise ObjectTooLarge(f"{body.size} bytes in one PUT", key=object_name)
        params = s3_values.write_params(s3, attributes)
        checksum = None
        if checksum_type is not None:
            checksum = streams.hexdigest_of(body, checksum_type)
            params.update(s3_values.checksum_params(checksum_type, checksum))
        body.hash_with("md5")
        try:
            with translated(
                "put_object", object_name, if_match=if_match, if_none_match=if_none_match
            ):
                answer = s3.get_client().put_object(
                    Bucket=container_name,
                    Key=object_name,
                    Body=sendable(body),
                    **params,
                    **conditions(if_match, if_none_match),
                )
        except (ObjectChanged, ObjectExists) as exc:
            if exc.attempts == 1:
                raise
            # boto3 asked again: the first answer may have been lost, and what is there be ours.
            found = self.get_object_meta(connection, object_name, container_name)
            if found.etag != body.hexdigest("md5"):
                raise
            return UploadResult(checksum, checksum_type, etag=found.etag, size=body.size)
        compare_md5(s3, answer, body, object_name, "put_object")
        extra: dict[str, Any] = {"etag": unquoted(answer.get("ETag")), "size": body.size}
        if answer.get("VersionId") not in (None, "null"):
            extra["version_id"] = answer["VersionId"]
        return UploadResult(checksum, checksum_type, **extra)

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
        checksum = checksums.maybe(checksum_type)
        s3 = S3Connection.of(connection)
        if offset < 0 or (length is not None and length < 0):
            raise InvalidRange(f"no range: {length} bytes from {offset}", key=object_name)
        params: dict[str, Any] = conditions(if_match, None)
        ranged = offset > 0 or length is not None
        if ranged:
            # At least one byte: HTTP has no empty range.
            last = "" if length is None else offset + max(length, 1) - 1
            params["Range"] = f"bytes={offset}-{last}"
        elif checksum_type not in (None, "md5"):
            params["ChecksumMode"] = "ENABLED"
        try:
            with translated("get_object", object_name, if_match=if_match):
                answer = s3.get_client().get_object(
                    Bucket=container_name, Key=object_name, **params
                )
        except InvalidRange:
            if offset:
                raise
            return self._empty(connection, container_name, object_name, if_match, checksum_type)
        body = answer["Body"]
        start, stop, size = _extent(answer, ranged, object_name)
        found = described(s3, object_name, size, answer, foreign=s3.is_foreign)
        wanted = stop - start if length is None else min(stop - start, length)
        if start != offset:
            body.close()
            raise StoreError(f"the store sent bytes from {start}, not {offset}", key=object_name)

        def read(most: int) -> bytes:
            with translated("get_object", object_name):
                return bytes(body.read(most))

        whole = wanted == size
        expected = self.stored_checksum(found, checksum_type) if whole else None
        pieces = Download(
            read,
            body.close,
            wanted,
            key=object_name,
            chunk_size=chunk_size,
            progress=progress_callback,
            checksum=checksum,
            expected=expected,
        )
        return StreamDownloadResult(
            pieces, server_checksum=expected, checksum_type=checksum_type, object=found
        )

    def stored_checksum(self, found: Object, checksum_type: str | None) -> str | None:
        """As the base, where the ETag is known to be an MD5."""
        if checksum_type == "md5" and not found.extra.get("etag_is_md5"):
            return None
        return super().stored_checksum(found, checksum_type)

    def delete_object(
        self,
        connection: Connection,
        object_name: str,
        container_name: str | None = None,
        *,
        if_match: str | None = None,
    ) -> OperationResult:
        """Remove one object; one that does not exist is no error unless `if_match` is given."""
        s3 = S3Connection.of(connection)
        bucket = container_name or ""
        offered = s3.capabilities(bucket).conditional_delete
        self.require_conditions("delete_object", offered, if_match, None)
        try:
            with translated("delete_object", object_name, if_match=if_match):
                s3.get_client().delete_object(
                    Bucket=bucket, Key=object_name, **conditions(if_match, None)
                )
        except ObjectNotFound:
            return OperationResult()  # AWS answers 204; not everybody does
        return OperationResult()

    def batch_delete_objects(
        self,
        connection: Connection,
        key_list: list[str],
        container_name: str | None = None,
        *,
        if_match: dict[str, str] | None = None,
    ) -> OperationResult:
        """Remove many, 1,000 a request; `extra` has `deleted` (count) and `errors` (by key).

        Keys that XML cannot carry go one by one.
        """
        s3 = S3Connection.of(connection)
        bucket, etags = container_name or "", if_match or {}
        if etags:
            offered = s3.capabilities(bucket).conditional_delete
            self.require_conditions("batch_delete_objects", offered, next(iter(etags)), None)
        awkward = [key for key in key_list if _NOT_IN_XML.search(key)]
        plain = [key for key in key_list if not _NOT_IN_XML.search(key)]
        result = super().batch_delete_objects(connection, awkward, bucket, if_match=etags)
        errors: dict[str, StoreError] = result.extra["errors"]
        for start in range(0, len(plain), 1000):
            entries = [
                {"Key": key, "ETag": s3_values.quoted(etags[key])} if key in etags else {"Key": key}
                for key in plain[start : start + 1000]
            ]
            with translated("batch_delete_objects", str(entries[0]["Key"])):
                answer = s3.get_client().delete_objects(
                    Bucket=bucket, Delete={"Objects": entries, "Quiet": True}
                )
            refused = {
                failed["Key"]: error_of_code(
                    str(failed.get("Code", "")),
                    str(failed.get("Message", "")),
                    key=failed["Key"],
                    operation="batch_delete_objects",
                    if_match=etags.get(failed["Key"]),
                )
                for failed in answer.get("Errors", [])
            }
            # Gone already is what was wanted, unless a version was asked for.
            refused = {k: e for k, e in refused.items() if not isinstance(e, ObjectNotFound)}
            errors.update(refused)
            result.extra["deleted"] += len(entries) - len(refused)
        return result

    def get_object_tags(
        self, connection: Connection, container_name: str, object_name: str
    ) -> dict[str, str]:
        """The object's tags."""
        s3 = S3Connection.of(connection)
        with translated("get_object_tags", object_name):
            answer = s3.get_client().get_object_tagging(Bucket=container_name, Key=object_name)
        return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", [])}

    def get_object_sign_url(
        self,
        connection: Connection,
        object_name: str,
        container_name: str | None = None,
        *,
        expires_seconds: int = SIGNED_SECONDS,
    ) -> str:
        """A link that works without credentials for a while; asks nothing of the store."""
        s3 = S3Connection.of(connection)
        with translated("get_object_sign_url", object_name):
            return str(
                s3.get_signing_client().generate_presigned_url(
                    "get_object",
                    Params={"Bucket": container_name or "", "Key": object_name},
                    ExpiresIn=expires_seconds,
                )
            )

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
        """One page, in order of names; the marker is the store's continuation token."""
        refuse_unknown("list_container_objects", kwargs)
        s3 = S3Connection.of(connection)
        wanted = {
            "Prefix": prefix,
            "Delimiter": delimiter,
            "StartAfter": start_after if marker is None else None,
            "ContinuationToken": marker,
        }
        with translated("list_objects", prefix or ""):
            answer = s3.get_client().list_objects_v2(
                Bucket=container_name,
                MaxKeys=min(max_keys, 1000),
                **{name: value for name, value in wanted.items() if value},
            )
        page = [s3_values.listed(entry) for entry in answer.get("Contents", [])]
        common = answer.get("CommonPrefixes", [])
        if common:
            page += [Object(found["Prefix"], is_prefix=True) for found in common]
            page.sort(key=lambda found: found.name)
        if not answer.get("IsTruncated"):
            return page, None
        token = answer.get("NextContinuationToken")
        if not token or token == marker:
            # SeaweedFS, grouping by anything but `/`, would send the same page for ever.
            raise StoreError("the store says that the listing goes on, but not where")
        return page, str(token)

    def get_container(
        self, connection: Connection, container_name: str, **kwargs: Any
    ) -> Container:
        """The bucket, or ContainerNotFound."""
        refuse_unknown("get_container", kwargs)
        s3 = S3Connection.of(connection)
        try:
            with translated("get_container"):
                answer = s3.get_client().head_bucket(Bucket=container_name)
        except ObjectNotFound as exc:
            raise ContainerNotFound(
                f"no bucket is called {container_name!r}", operation="get_container"
            ) from exc
        return Container(container_name, region=answer.get("BucketRegion"))

    # -- inside --------------------------------------------------------------------------------

    def _empty(
        self,
        connection: Connection,
        container_name: str,
        key: str,
        if_match: str | None,
        checksum_type: str | None,
    ) -> StreamDownloadResult:
        """The answer to a range from 0 that S3 refused: right for an empty object alone."""
        found = self.get_object_meta(connection, key, container_name, if_match=if_match)
        if found.size:
            raise InvalidRange("the store refused a range from 0", key=key)
        pieces = Download(lambda _: b"", lambda: None, 0, key=key)
        return StreamDownloadResult(pieces, checksum_type=checksum_type, object=found)


def _extent(answer: dict[str, Any], ranged: bool, key: str) -> tuple[int, int, int]:
    """`(start, stop, size of the object)` of what the store sends."""
    match = _CONTENT_RANGE.fullmatch(answer.get("ContentRange") or "")
    if match:
        return int(match[1]), int(match[2]) + 1, int(match[3])
    size = int(answer["ContentLength"])
    if ranged and answer["ResponseMetadata"]["HTTPStatusCode"] == 206:
        answer["Body"].close()
        raise StoreError("the store sent a range and did not say which", key=key)
    return 0, size, size
