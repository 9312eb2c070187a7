"""An error as one line that says what is wrong and what to do.

Used by every command that reaches a store. It looks at what the user could change: variables,
files, flags; never at a value that is secret.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from storefs.errors import (
    AccessDenied,
    ConfigError,
    ContainerNotFound,
    ObjectNotFound,
    StoreError,
    StorefsError,
    StoreUnavailable,
)
from storefs.log import redact

if TYPE_CHECKING:
    from storefs.config import StoreConfig


def one_line(text: str) -> str:
    """The text without line breaks and without secrets."""
    return redact(" ".join(text.split()))


def explain(error: StorefsError, store: StoreConfig | None) -> str:
    """What went wrong in one line, with a hint where there is one for this class of error."""
    said = one_line(_said(error)) or type(error).__name__
    if store is None or isinstance(error, ConfigError):
        return said
    hint = _hint(error, store)
    return f"{store.url}: {said}" + (f"; {hint}" if hint else "")


def _said(error: StorefsError) -> str:
    """The message, without the operation and the key that are of use in a log."""
    if not isinstance(error, StoreError):
        return str(error)
    request = f" (request {error.request_id})" if error.request_id else ""
    return error.message + request


def _hint(error: StorefsError, store: StoreConfig) -> str:
    if store.url.scheme != "s3":
        return ""
    endpoint = store.endpoint_url or "Amazon S3"
    if isinstance(error, AccessDenied):
        if error.__cause__ is not None and not hasattr(error.__cause__, "response"):
            return ""  # no server said so: there were no credentials, and the message tells it
        if store.anonymous:
            return "the bucket is not public: leave --anonymous out and give credentials"
        return f"credentials were looked for in {_credential_places(store)}"
    if isinstance(error, ContainerNotFound):
        region = f" in region {store.region}" if store.region else ""
        return (
            f"looked for bucket {store.url.bucket!r} at {endpoint}{region}: check its name, "
            "--region and --endpoint-url"
        )
    if isinstance(error, ObjectNotFound):
        return f"{endpoint} does not answer like an S3 server: check --endpoint-url"
    if isinstance(error, StoreUnavailable):
        proxies = [name for name in ("HTTPS_PROXY", "HTTP_PROXY") if _variable(name)]
        through = f" through {' and '.join(proxies)}" if proxies else ""
        return f"no good answer from {endpoint}{through}: check --endpoint-url and the network"
    return ""


def _variable(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(name.lower()))


def _credential_places(store: StoreConfig) -> str:
    """Where the SDK looks, in its order, and what is there."""
    places = []
    if store.profile is None:
        key = "set" if os.environ.get("AWS_ACCESS_KEY_ID") else "not set"
        places.append(f"AWS_ACCESS_KEY_ID ({key})")
    profile = store.profile or os.environ.get("AWS_PROFILE") or "default"
    shared = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
    shared = shared.expanduser()
    present = "" if os.access(shared, os.R_OK) else ", which cannot be read"
    places.append(f"profile {profile!r} of {shared}{present}")
    places.append("the machine's role")
    return ", ".join(places)
