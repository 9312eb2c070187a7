"""The table of S3's errors: each code and status becomes the error that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions as boto
from urllib3.exceptions import ProtocolError

from storefs.drivers.s3_errors import error_of_code, translated
from storefs.errors import (
    AccessDenied,
    ChecksumMismatch,
    ConfigError,
    ContainerNotFound,
    InvalidKey,
    InvalidRange,
    NoSuchUpload,
    ObjectArchived,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    ObjectTooLarge,
    StoreError,
    StorefsError,
    StoreFull,
    StoreUnavailable,
    Throttled,
    Unsupported,
)


def _answer(code: str, status: int, **headers: str) -> boto.ClientError:
    return boto.ClientError(
        {
            "Error": {"Code": code, "Message": "the store's words"},
            "ResponseMetadata": {
                "HTTPStatusCode": status,
                "RequestId": "R1",
                "HTTPHeaders": headers,
                "HostId": "",
                "RetryAttempts": 0,
            },
        },
        "Operation",
    )


def _raised(error: BaseException, **conditions: Any) -> StorefsError:
    with pytest.raises(StorefsError) as caught, translated("operation", "key", **conditions):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize(
    ("code", "status", "wanted", "words"),
    [
        ("NoSuchKey", 404, ObjectNotFound, ""),
        ("404", 404, ObjectNotFound, ""),
        ("NoSuchBucket", 404, ContainerNotFound, ""),
        ("NoSuchUpload", 404, NoSuchUpload, ""),
        ("AccessDenied", 403, AccessDenied, "denies"),
        ("403", 403, AccessDenied, "denies"),
        ("InvalidAccessKeyId", 403, AccessDenied, "does not know this access key"),
        ("SignatureDoesNotMatch", 403, AccessDenied, "secret key is wrong"),
        ("ExpiredToken", 400, AccessDenied, "expired"),
        ("RequestTimeTooSkewed", 403, AccessDenied, "clock"),
        ("PermanentRedirect", 301, AccessDenied, "--endpoint-url"),
        ("AuthorizationHeaderMalformed", 400, AccessDenied, "--region"),
        ("InvalidObjectState", 403, ObjectArchived, "restore"),
        ("InvalidRange", 416, InvalidRange, ""),
        ("416", 416, InvalidRange, ""),
        ("KeyTooLongError", 400, InvalidKey, ""),
        ("EntityTooLarge", 400, ObjectTooLarge, ""),
        ("BadDigest", 400, ChecksumMismatch, ""),
        ("NotImplemented", 501, Unsupported, ""),
        ("anything", 501, Unsupported, ""),
        ("QuotaExceeded", 403, StoreFull, "quota"),
        ("XMinioStorageFull", 507, StoreFull, ""),
        ("SlowDown", 503, Throttled, "fewer"),
        ("anything", 503, Throttled, ""),
        ("TooManyRequests", 429, Throttled, ""),
        ("InternalError", 500, StoreUnavailable, ""),
        ("anything", 502, StoreUnavailable, "502"),
        ("RequestTimeout", 400, StoreUnavailable, ""),
        ("MalformedXML", 400, StoreError, "the store's words"),
    ],
)
def test_an_answer_becomes_the_error_that_fits(
    code: str, status: int, wanted: type[StoreError], words: str
) -> None:
    error = _raised(_answer(code, status))

    assert type(error) is wanted
    assert words in str(error)
    assert isinstance(error, StoreError)
    assert (error.key, error.operation, error.request_id) == ("key", "operation", "R1")


@pytest.mark.parametrize(
    ("code", "status"),
    [("PreconditionFailed", 412), ("412", 412), ("ConditionalRequestConflict", 409)],
)
def test_a_failed_condition_is_named_by_what_was_asked(code: str, status: int) -> None:
    assert type(_raised(_answer(code, status), if_match="e")) is ObjectChanged
    assert type(_raised(_answer(code, status), if_none_match="*")) is ObjectExists
    assert type(_raised(_answer(code, status))) is ObjectChanged


def test_a_version_that_is_asked_of_a_missing_object_is_gone() -> None:
    assert type(_raised(_answer("NoSuchKey", 404), if_match="e")) is ObjectChanged
    assert type(_raised(_answer("NoSuchBucket", 404), if_match="e")) is ContainerNotFound


def test_a_bucket_elsewhere_is_named_with_its_region() -> None:
    answer = _answer("301", 301, **{"x-amz-bucket-region": "eu-west-1"})

    assert "--region eu-west-1" in str(_raised(answer))


@pytest.mark.parametrize(
    ("failure", "wanted"),
    [
        (boto.EndpointConnectionError(endpoint_url="u"), StoreUnavailable),
        (boto.ConnectTimeoutError(endpoint_url="u"), StoreUnavailable),
        (boto.ReadTimeoutError(endpoint_url="u"), StoreUnavailable),
        (boto.ConnectionClosedError(endpoint_url="u"), StoreUnavailable),
        (boto.ProxyConnectionError(proxy_url="u"), StoreUnavailable),
        (boto.SSLError(endpoint_url="u", error=OSError("e")), StoreUnavailable),
        (boto.HTTPClientError(error="e"), StoreUnavailable),
        (boto.ResponseStreamingError(error="e"), StoreUnavailable),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreUnavailable),
        (ProtocolError("broken"), StoreUnavailable),
        (ConnectionResetError(104, "reset"), StoreUnavailable),
        (TimeoutError("timed out"), StoreUnavailable),
        (boto.FlexibleChecksumError(error_msg="e"), ChecksumMismatch),
        (boto.NoCredentialsError(), AccessDenied),
        (boto.CredentialRetrievalError(provider="p", error_msg="e"), AccessDenied),
        (boto.TokenRetrievalError(provider="p", error_msg="e"), AccessDenied),
        (boto.SSOTokenLoadError(error_msg="e"), AccessDenied),
        (boto.PartialCredentialsError(provider="p", cred_var="v"), ConfigError),
        (boto.ProfileNotFound(profile="p"), ConfigError),
        (boto.NoRegionError(), ConfigError),
        (boto.ParamValidationError(report="r"), StoreError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_failure_without_an_answer_is_one_of_ours(
    failure: Exception, wanted: type[StorefsError]
) -> None:
    assert type(_raised(failure)) is wanted


def test_what_is_not_of_the_store_passes() -> None:
    with pytest.raises(ZeroDivisionError), translated("operation"):
        raise ZeroDivisionError


def test_an_error_of_one_key_among_many() -> None:
    about: dict[str, Any] = {"key": "k", "operation": "o"}

    assert type(error_of_code("AccessDenied", "", if_match=None, **about)) is AccessDenied
    assert type(error_of_code("PreconditionFailed", "", if_match="e", **about)) is ObjectChanged
    assert type(error_of_code("NoSuchKey", "", if_match="e", **about)) is ObjectChanged
    assert "words" in str(error_of_code("Strange", "words", if_match=None, **about))
