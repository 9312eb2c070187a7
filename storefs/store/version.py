"""Which bytes: the version of an object, and the ETag that bytes will get.

Pure; used by every layer above the drivers. The danger: an ETag is the MD5 of the bytes only for
plain and SSE-S3 objects, so a comparison that fails proves nothing by itself.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storefs.drivers.models import Part

_MD5 = re.compile(r"^[0-9a-f]{32}$")


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object; `mtime_ns` is 0 where the answer did not tell (as a PUT's)."""

    etag: str
    size: int
    mtime_ns: int = 0


def expected_etag(body: bytes | bytearray | memoryview) -> str:
    """The ETag of a plain PUT of these bytes (S3 and OSS: MD5 in hex)."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def expected_multipart_etag(parts: Sequence[Part]) -> str | None:
    """The ETag that S3 gives a completed upload, or None if the parts' ETags are no MD5s."""
    digest = hashlib.md5(usedforsecurity=False)
    for part in parts:
        if not _MD5.match(part.etag):
            return None
        digest.update(bytes.fromhex(part.etag))
    return f"{digest.hexdigest()}-{len(parts)}"


def is_md5(etag: str) -> bool:
    """True if the ETag may be the MD5 of the object's bytes."""
    return _MD5.match(etag) is not None
