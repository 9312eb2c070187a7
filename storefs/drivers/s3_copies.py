"""HEAD and copies on S3. A base of `S3Driver`, which see.

CopyObject takes 5 GiB; larger objects are copied as parts. The danger is what a copy leaves behind:
S3 keeps metadata and tags of its own accord, but puts the copy into its default storage class and
encryption, so those are named again, and a copy by parts keeps nothing that is not said.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from storefs.drivers import s3_values
from storefs.drivers.appends import COPIED_PART_BYTES, copied_ranges
from storefs.drivers.models import Object, OperationResult
from storefs.drivers.s3_connection import S3Connection
from storefs.drivers.s3_errors import translated
from storefs.drivers.s3_multipart import COPY_PATIENCE, S3Multipart, check_key
from storefs.drivers.s3_patience import patience
from storefs.drivers.s3_values import conditions, described, quoted, to_ns, unquoted
from storefs.drivers.uploads import MultipartJob, refuse_unknown

if TYPE_CHECKING:
    from storefs.drivers.base import Connection
    from storefs.drivers.models import ObjectAttributes


class S3Copies(S3Multipart):
    """See the module."""

    def get_object_meta(
        self,
        connection: Connection,
        object_name: str,
        container_name: str | None = None,
        *,
        if_match: str | None = None,
    ) -> Object:
        """One HEAD. The answer has size, etag, mtime_ns and `attributes`."""
        s3 = S3Connection.of(connection)
        check_key(s3, container_name or "", object_name)
        with translated("head_object", object_name, if_match=if_match):
            answer = s3.get_client().head_object(
                Bucket=container_name or "", Key=object_name, **conditions(if_match, None)
            )
        size = int(answer["ContentLength"])
        return described(s3, object_name, size, answer, foreign=s3.is_foreign)

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
        """Copy inside the store, at any size; `attributes` replace all of the source's.

        The source is asked for its size and class first, unless `src_object` (out of a HEAD or a
        LIST) tells them.
        """
        refuse_unknown("copy_object", kwargs)
        s3 = S3Connection.of(connection)
        dst_container_name = dst_container_name or src_container_name
        caps = s3.capabilities(dst_container_name)
        source = src_object or self.get_object_meta(
            connection, src_obj_key, src_container_name, if_match=src_if_match
        )
        etag = src_if_match or source.etag
        if source.size > caps.max_copy_bytes:
            self.require_conditions(
                "copy_object", caps.conditional_complete, if_match, if_none_match
            )
            return self._copy_by_parts(
                connection,
                (src_container_name, src_obj_key, etag, source.size),
                dst_container_name,
                dst_obj_key,
                attributes or self._all_attributes(connection, src_container_name, source),
                if_match,
                if_none_match,
            )
        self.require_conditions("copy_object", caps.conditional_copy, if_match, if_none_match)
        check_key(s3, dst_container_name, dst_obj_key)
        with (
            patience(s3.call_seconds * COPY_PATIENCE),
            translated("copy_object", dst_obj_key, if_match=if_match, if_none_match=if_none_match),
        ):
            answer = s3.get_client().copy_object(
                Bucket=dst_container_name,
                Key=dst_obj_key,
                CopySource={"Bucket": src_container_name, "Key": src_obj_key},
                CopySourceIfMatch=quoted(etag),
                **_copy_params(s3, source, attributes),
                **conditions(if_match, if_none_match),
            )
        result = answer.get("CopyObjectResult") or {}
        return OperationResult(
            etag=unquoted(result.get("ETag")),
            size=source.size,
            mtime_ns=to_ns(result.get("LastModified")),
        )

    def _all_attributes(
        self, connection: Connection, container_name: str, source: Object
    ) -> ObjectAttributes | None:
        attributes = source.attributes
        if attributes is None:  # out of a LIST
            found = self.get_object_meta(
                connection, source.name, container_name, if_match=source.etag
            )
            attributes = found.attributes
        if attributes is not None and attributes.tag_count and attributes.tags is None:
            tags = self.get_object_tags(connection, container_name, source.name)
            attributes = dataclasses.replace(attributes, tags=tags)
        return attributes

    def _copy_by_parts(
        self,
        connection: Connection,
        source: tuple[str, str, str, int],
        dst_container_name: str,
        dst_obj_key: str,
        attributes: ObjectAttributes | None,
        if_match: str | None,
        if_none_match: str | None,
    ) -> OperationResult:
        container, key, etag, size = source
        caps = S3Connection.of(connection).capabilities(dst_container_name)
        most = max(min(COPIED_PART_BYTES, caps.max_part_bytes), -(-size // caps.max_parts))
        job = MultipartJob(self, connection, dst_container_name, dst_obj_key, attributes)
        with job:
            ranges = copied_ranges(size, most, caps.min_part_bytes)
            for number, (start, length) in enumerate(ranges, 1):
                job.copy(number, start, length, etag, source=(container, key))
            result = job.complete(if_match, if_none_match)
        return OperationResult(**result.extra)


def _copy_params(
    s3: S3Connection, source: Object, attributes: ObjectAttributes | None
) -> dict[str, Any]:
    if attributes is not None:
        params = s3_values.write_params(s3, attributes)
        params["MetadataDirective"] = "REPLACE"
        if attributes.tags is not None:
            params["TaggingDirective"] = "REPLACE"
        return params
    kept = source.attributes
    params = {"MetadataDirective": "COPY"}
    storage_class = kept.storage_class if kept else source.extra.get("storage_class")
    if storage_class and storage_class != "STANDARD":
        params["StorageClass"] = storage_class
    if kept is not None and kept.encryption:
        params["ServerSideEncryption"] = kept.encryption
        if kept.encryption_key_id:
            params["SSEKMSKeyId"] = kept.encryption_key_id
    elif s3.sse:
        params["ServerSideEncryption"] = s3.sse
        if s3.sse_kms_key_id:
            params["SSEKMSKeyId"] = s3.sse_kms_key_id
    if s3.acl:
        params["ACL"] = s3.acl
    return params
