"""Errors of boto3 as ours, by one table.

Used by the S3 driver around every call. Looks at error codes and statuses, never at texts. The
danger is a code that means different things by what was sent: a 412 is `ObjectExists` for
If-None-Match and `ObjectChanged` for If-Match, so the condition comes along.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from botocore import exceptions as boto
from urllib3.exceptions import HTTPError

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

if TYPE_CHECKING:
    from collections.abc import Iterator

_BY_CODE: dict[str, tuple[type[StoreError], str]] = {
    "NoSuchKey": (ObjectNotFound, "no such object"),
    "NotFound": (ObjectNotFound, "no such object"),
    "NoSuchVersion": (ObjectNotFound, "no such version"),
    "NoSuchBucket": (ContainerNotFound, "no such bucket"),
    "NoSuchUpload": (NoSuchUpload, "the multipart upload is gone"),
    "AccessDenied": (AccessDenied, "the store denies this to these credentials"),
    "Forbidden": (AccessDenied, "the store denies this to these credentials"),
    "AllAccessDisabled": (AccessDenied, "the store has switched off all access"),
    "AccountProblem": (AccessDenied, "the store reports a problem with the account"),
    "InvalidAccessKeyId": (AccessDenied, "the store does not know this access key"),
    "InvalidClientTokenId": (AccessDenied, "the store does not know this access key"),
    "SignatureDoesNotMatch": (
        AccessDenied,
        "the signature does not match: the secret key is wrong, or a proxy changes the request",
    ),
    "AuthorizationHeaderMalformed": (
        AccessDenied,
        "the request was signed for another region: set --region",
    ),
    "IllegalLocationConstraintException": (
        AccessDenied,
        "the bucket is in another region: set --region",
    ),
    "PermanentRedirect": (
        AccessDenied,
        "the bucket is at another endpoint: set --region or --endpoint-url",
    ),
    "ExpiredToken": (AccessDenied, "the session token has expired: sign in again"),
    "ExpiredTokenException": (AccessDenied, "the session token has expired: sign in again"),
    "TokenRefreshRequired": (AccessDenied, "the session token must be refreshed: sign in again"),
    "InvalidToken": (AccessDenied, "the session token is not valid"),
    "RequestTimeTooSkewed": (
        AccessDenied,
        "the clocks of this machine and the store differ too much: set this machine's clock",
    ),
    "RequestExpired": (AccessDenied, "the request came too late: set this machine's clock"),
    "InvalidObjectState": (ObjectArchived, "the object is archived: restore it first"),
    "ObjectNotInActiveTierError": (ObjectArchived, "the object is archived: restore it first"),
    "InvalidRange": (InvalidRange, "the range begins past the end of the object"),
    "KeyTooLongError": (InvalidKey, "the key is too long for this store"),
    "KeyTooLong": (InvalidKey, "the key is too long for this store"),
    "InvalidURI": (InvalidKey, "the store does not take this key"),
    "XMinioInvalidObjectName": (InvalidKey, "the store does not take this key"),
    "EntityTooLarge": (ObjectTooLarge, "larger than this store takes"),
    "MaxMessageLengthExceeded": (ObjectTooLarge, "larger than this store takes"),
    "BadDigest": (ChecksumMismatch, "the store received other bytes than were sent"),
    "InvalidDigest": (ChecksumMismatch, "the store received other bytes than were sent"),
    "XAmzContentSHA256Mismatch": (ChecksumMismatch, "the store received other bytes"),
    "XAmzContentChecksumMismatch": (ChecksumMismatch, "the store received other bytes"),
    "NotImplemented": (Unsupported, "this store does not implement it"),
    "MethodNotAllowed": (Unsupported, "this store does not allow it"),
    "QuotaExceeded": (StoreFull, "the quota is used up"),
    "QuotaExceededException": (StoreFull, "the quota is used up"),
    "XMinioStorageFull": (StoreFull, "the store is full"),
    "InsufficientCapacity": (StoreFull, "the store is full"),
    "SlowDown": (Throttled, "the store asks for fewer requests"),
    "SlowDownRead": (Throttled, "the store asks for fewer requests"),
    "SlowDownWrite": (Throttled, "the store asks for fewer requests"),
    "Throttling": (Throttled, "the store asks for fewer requests"),
    "ThrottlingException": (Throttled, "the store asks for fewer requests"),
    "RequestLimitExceeded": (Throttled, "the store asks for fewer requests"),
    "TooManyRequests": (Throttled, "the store asks for fewer requests"),
    "RequestTimeout": (StoreUnavailable, "the store waited too long for the request"),
    "InternalError": (StoreUnavailable, "the store failed"),
    "ServiceUnavailable": (Throttled, "the store is busy"),
    "OperationAborted": (StoreUnavailable, "another operation on this is under way"),
}

_BY_STATUS: dict[int, tuple[type[StoreError], str]] = {
    301: _BY_CODE["PermanentRedirect"],
    307: (StoreUnavailable, "the store redirects for a while"),
    308: _BY_CODE["PermanentRedirect"],
    401: _BY_CODE["AccessDenied"],
    403: _BY_CODE["AccessDenied"],
    404: _BY_CODE["NoSuchKey"],
    405: _BY_CODE["MethodNotAllowed"],
    408: _BY_CODE["RequestTimeout"],
    413: _BY_CODE["EntityTooLarge"],
    414: _BY_CODE["KeyTooLong"],
    416: _BY_CODE["InvalidRange"],
    429: _BY_CODE["SlowDown"],
    501: _BY_CODE["NotImplemented"],
    503: _BY_CODE["ServiceUnavailable"],
    507: _BY_CODE["XMinioStorageFull"],
}

_CONFLICTS = {"PreconditionFailed", "ConditionalRequestConflict"}

_MISCONFIGURED = (
    boto.ProfileNotFound,
    boto.ConfigParseError,
    boto.ConfigNotFound,
    boto.PartialCredentialsError,
    boto.InvalidConfigError,
    boto.InvalidRegionError,
    boto.NoRegionError,
    boto.BaseEndpointResolverError,
    boto.EndpointProviderError,
    boto.UnsupportedS3ConfigurationError,
    boto.InvalidProxiesConfigError,
)

_UNANSWERED = (
    boto.HTTPClientError,  # connecting, reading, proxies, connections that were closed
    boto.ConnectionError,
    boto.IncompleteReadError,
)

_NO_CREDENTIALS = (
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.NoAuthTokenError,
    boto.MetadataRetrievalError,
)

NO_CREDENTIALS = (
    "no credentials: storefs looked at AWS_ACCESS_KEY_ID, the profile in ~/.aws, single sign-on, "
    "web identity and instance metadata; set one, or use --anonymous for a public bucket"
)


@contextlib.contextmanager
def translated(
    operation: str,
    key: str = "",
    *,
    if_match: str | None = None,
    if_none_match: str | None = None,
) -> Iterator[None]:
    """Around a call of boto3: what it raises leaves as one of ours, with its cause."""
    try:
        yield
    except boto.ClientError as exc:
        raise _of_answer(exc, operation, key, if_match, if_none_match) from exc
    except boto.BotoCoreError as exc:
        raise _of_failure(exc, operation, key) from exc
    except (OSError, HTTPError) as exc:
        # While a body streams down, the socket's own errors come through.
        raise StoreUnavailable(
            f"the connection broke: {exc}", key=key, operation=operation
        ) from exc


def _of_answer(
    exc: boto.ClientError, operation: str, key: str, if_match: str | None, if_none_match: str | None
) -> StorefsError:
    response: dict[str, Any] = {**exc.response}
    error: dict[str, Any] = response.get("Error", {})
    metadata: dict[str, Any] = response.get("ResponseMetadata", {})
    code, status = str(error.get("Code", "")), int(metadata.get("HTTPStatusCode", 0))
    about = {
        "key": key,
        "operation": operation,
        "request_id": str(metadata.get("RequestId", "")),
    }
    attempts = int(metadata.get("RetryAttempts", 0)) + 1
    if code in _CONFLICTS or status == 412:
        conflict: StoreError = ObjectChanged("another version is there", **about)
        if if_none_match is not None:
            conflict = ObjectExists("an object is there already", **about)
        conflict.attempts = attempts
        return conflict
    kind, text = _BY_CODE.get(code) or _BY_STATUS.get(status) or _unknown(status, code, error)
    if kind is ObjectNotFound and if_match is not None:
        return ObjectChanged("the version is gone, and so is the object", **about)
    region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    if region and status in (301, 307, 308, 400):
        kind, text = AccessDenied, f"the bucket is in region {region}: set --region {region}"
    failed = kind(text, **about)
    failed.attempts = attempts
    return failed


def error_of_code(
    code: str, message: str, *, key: str, operation: str, if_match: str | None
) -> StoreError:
    """The error of one key in an answer about many."""
    if code in _CONFLICTS or (if_match is not None and code == "NoSuchKey"):
        return ObjectChanged("another version is there", key=key, operation=operation)
    kind, text = _BY_CODE.get(code) or _unknown(0, code, {"Message": message})
    return kind(text, key=key, operation=operation)


def _unknown(status: int, code: str, error: dict[str, Any]) -> tuple[type[StoreError], str]:
    text = f"the store answered {status or ''} {code}: {error.get('Message', '')}".strip(": ")
    return (StoreUnavailable if status >= 500 else StoreError), text


def _of_failure(exc: boto.BotoCoreError, operation: str, key: str) -> StorefsError:
    cause = exc.kwargs.get("error")
    if isinstance(cause, StorefsError):
        return cause  # of the body that was being sent, wrapped by botocore
    if isinstance(exc, boto.NoCredentialsError):
        return AccessDenied(NO_CREDENTIALS, key=key, operation=operation)
    if isinstance(exc, _MISCONFIGURED):
        return ConfigError(str(exc))
    if isinstance(exc, boto.SSLError):
        return StoreUnavailable(
            f"no trusted connection: {exc}; see --ca-bundle", key=key, operation=operation
        )
    if isinstance(exc, boto.FlexibleChecksumError | boto.ChecksumError):
        return ChecksumMismatch(str(exc), key=key, operation=operation)
    if isinstance(exc, _UNANSWERED):
        return StoreUnavailable(str(exc), key=key, operation=operation)
    if isinstance(exc, _NO_CREDENTIALS):
        return AccessDenied(f"credentials: {exc}", key=key, operation=operation)
    return StoreError(str(exc), key=key, operation=operation)
