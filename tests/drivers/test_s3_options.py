"""Every option of an S3 connection changes what is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from storefs.drivers.s3 import S3Driver
from storefs.drivers.s3_connection import S3Connection
from storefs.errors import StoreError, StoreUnavailable
from tests.drivers.conftest import Place, headers, s3_connection, sent

if TYPE_CHECKING:
    from tests.support.servers import S3Server


@pytest.fixture(autouse=True)
def bucket(moto: S3Server) -> str:
    return moto.make_bucket("wire")


def _with(moto: S3Server, **options: Any) -> tuple[Place, list[Any]]:
    connection = s3_connection(moto, **options)
    return Place("moto", S3Driver(), connection, "wire"), sent(connection)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"requester_pays": True}, {"x-amz-request-payer": "requester"}),
        ({"storage_class": "STANDARD_IA"}, {"x-amz-storage-class": "STANDARD_IA"}),
        ({"sse": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        (
            {"sse": "aws:kms", "sse_kms_key_id": "key-id"},
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "key-id",
            },
        ),
        ({"acl": "bucket-owner-full-control"}, {"x-amz-acl": "bucket-owner-full-control"}),
    ],
)
def test_an_option_goes_with_every_write(
    moto: S3Server, options: dict[str, Any], wanted: dict[str, str]
) -> None:
    place, requests = _with(moto, **options)
    place.put("key", b"bytes")
    place.begin("key")
    place.put("other", b"x")
    place.copy("other", "key")

    writes = [request for request in requests if request.method in ("PUT", "POST")]
    assert len(writes) == 4
    for request in writes:
        assert wanted.items() <= headers(request).items(), request.url
    place.connection.close()


def test_what_the_object_has_wins_over_what_the_mount_was_told(moto: S3Server) -> None:
    """A rewrite changes the bytes: an object in the default class does not move to another."""
    plain = Place("moto", S3Driver(), s3_connection(moto), "wire")
    plain.put("key", b"old")
    place, requests = _with(moto, storage_class="STANDARD_IA")

    place.put("key", b"new", attributes=place.head("key").attributes)

    assert headers(requests[-1])["x-amz-storage-class"] == "STANDARD"


def test_an_anonymous_request_is_not_signed(moto: S3Server) -> None:
    place, requests = _with(moto, anonymous=True)
    with pytest.raises(StoreError):
        place.head("missing")

    assert "authorization" not in headers(requests[0])


def test_addressing_is_by_path_or_by_name(moto: S3Server) -> None:
    by_path, first = _with(moto, addressing="path")
    with pytest.raises(StoreError):
        by_path.head("missing")
    by_name = S3Connection(
        "http://s3.storefs.invalid", None, "id", "key", addressing="virtual", sdk_retries=False
    )
    second = sent(by_name)
    with pytest.raises(StoreUnavailable):
        S3Driver().get_object_meta(by_name, "missing", "wire")

    assert first[0].url.endswith("/wire/missing")
    assert second[0].url == "http://wire.s3.storefs.invalid/missing"
