"""Objects and attributes as boto3 spells them, and back.

Pure; used by the S3 driver. ETags lose their quotes on the way in and get them back on the way out.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from storefs.drivers import checksums
from storefs.drivers.models import Object, ObjectAttributes

if TYPE_CHECKING:
    from storefs.drivers.s3_connection import S3Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_FIELDS = {
    "content_type": "ContentType",
    "cache_control": "CacheControl",
    "content_disposition": "ContentDisposition",
    "content_encoding": "ContentEncoding",
    "content_language": "ContentLanguage",
    "expires": "Expires",
    "website_redirect": "WebsiteRedirectLocation",
    "storage_class": "StorageClass",
    "acl": "ACL",
    "encryption": "ServerSideEncryption",
    "encryption_key_id": "SSEKMSKeyId",
}

_CHECKSUMS = {
    "crc32": "ChecksumCRC32",
    "crc32c": "ChecksumCRC32C",
    "crc64nvme": "ChecksumCRC64NVME",
    "sha1": "ChecksumSHA1",
    "sha256": "ChecksumSHA256",
}


def to_ns(moment: Any) -> int:
    """Nanoseconds since the epoch, exactly; 0 where the store said nothing."""
    if not isinstance(moment, datetime):
        return 0
    return (moment - _EPOCH) // _MICROSECOND * 1000


def unquoted(etag: Any) -> str:
    """An ETag as we keep it."""
    return str(etag or "").strip('"')


def quoted(etag: str) -> str:
    """An ETag as a header wants it."""
    return f'"{etag}"'


def conditions(if_match: str | None, if_none_match: str | None) -> dict[str, Any]:
    """Headers of a conditional write or read."""
    params: dict[str, Any] = {}
    if if_match is not None:
        params["IfMatch"] = quoted(if_match)
    if if_none_match is not None:
        params["IfNoneMatch"] = if_none_match
    return params


def write_params(connection: S3Connection, attributes: ObjectAttributes | None) -> dict[str, Any]:
    """What goes along with new bytes: the attributes, else what the connection was told."""
    given = attributes or ObjectAttributes()
    params: dict[str, Any] = {
        theirs: value for ours, theirs in _FIELDS.items() if (value := getattr(given, ours))
    }
    if given.metadata:
        params["Metadata"] = dict(given.metadata)
    if given.tags:
        params["Tagging"] = urlencode(given.tags)
    if connection.storage_class:
        params.setdefault("StorageClass", connection.storage_class)
    if connection.acl:
        params.setdefault("ACL", connection.acl)
    if connection.sse and "ServerSideEncryption" not in params:
        params["ServerSideEncryption"] = connection.sse
        if connection.sse_kms_key_id:
            params["SSEKMSKeyId"] = connection.sse_kms_key_id
    return params


def attributes_of(connection: S3Connection, answer: dict[str, Any]) -> ObjectAttributes:
    """What a HEAD or GET says beside size and version; tags only as a number."""
    storage_class = answer.get("StorageClass")
    if storage_class is None and connection.storage_class:
        # S3 does not name its default, and a rewrite must not turn it into the mount's.
        storage_class = "STANDARD"
    return ObjectAttributes(
        content_type=answer.get("ContentType"),
        metadata=dict(answer.get("Metadata") or {}),
        cache_control=answer.get("CacheControl"),
        content_disposition=answer.get("ContentDisposition"),
        content_encoding=answer.get("ContentEncoding"),
        content_language=answer.get("ContentLanguage"),
        expires=answer.get("ExpiresString"),
        website_redirect=answer.get("WebsiteRedirectLocation"),
        storage_class=storage_class,
        encryption=answer.get("ServerSideEncryption"),
        encryption_key_id=answer.get("SSEKMSKeyId"),
        tag_count=int(answer.get("TagCount") or 0),
    )


def described(
    connection: S3Connection, key: str, size: int, answer: dict[str, Any], *, foreign: bool
) -> Object:
    """An object out of a HEAD or GET."""
    attributes = attributes_of(connection, answer)
    found = Object(
        key,
        size,
        etag=unquoted(answer.get("ETag")),
        mtime_ns=to_ns(answer.get("LastModified")),
        content_type=attributes.content_type,
        metadata=attributes.metadata,
        storage_class=answer.get("StorageClass"),
        attributes=attributes,
        etag_is_md5=etag_is_md5(answer, foreign=foreign),
    )
    if answer.get("Restore"):
        found.extra["restore"] = answer["Restore"]
    if answer.get("VersionId") not in (None, "null"):
        found.extra["version_id"] = answer["VersionId"]
    for name, field in _CHECKSUMS.items():
        # A composite value is a checksum of checksums and ends with the number of parts.
        if answer.get(field) and "-" not in answer[field]:
            found.extra["checksum"] = checksums.from_base64(answer[field])
            found.extra["checksum_type"] = name
            break
    return found


def listed(entry: dict[str, Any]) -> Object:
    """An object out of a LIST."""
    return Object(
        entry["Key"],
        int(entry.get("Size", 0)),
        etag=unquoted(entry.get("ETag")),
        mtime_ns=to_ns(entry.get("LastModified")),
        storage_class=entry.get("StorageClass"),
    )


def checksum_params(checksum_type: str | None, hexadecimal: str) -> dict[str, str]:
    """The header by which S3 checks a body; none for MD5, which the ETag tells."""
    field = _CHECKSUMS.get(checksum_type or "")
    return {field: checksums.to_base64(hexadecimal)} if field else {}


def etag_is_md5(answer: dict[str, Any], *, foreign: bool) -> bool:
    """Whether the answer's ETag is the MD5 of the bytes.

    Not with KMS or customer keys; MinIO gives random ETags to whatever it encrypts.
    """
    encryption = str(answer.get("ServerSideEncryption") or "")
    if encryption.startswith("aws:") or answer.get("SSECustomerAlgorithm"):
        return False
    if foreign and encryption:
        return False
    return checksums.is_md5(unquoted(answer.get("ETag")))
