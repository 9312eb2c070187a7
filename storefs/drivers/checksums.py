"""Checksums by name, and what an ETag says about them.

Used by the drivers and by whoever compares a body with a store's answer; knows no store. All values
are lower-case hexadecimal. The danger: an ETag is an MD5 only of an object that was put in one
piece and not encrypted with a key of its own; `is_md5` sees the form, the driver knows the rest.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from typing import TYPE_CHECKING, Protocol

from storefs.errors import ConfigError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MD5 = re.compile(r"[0-9a-f]{32}")


class Checksum(Protocol):
    """A checksum that grows with the bytes it is fed."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Feed the next bytes."""

    def hexdigest(self) -> str:
        """The value so far."""


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def md5(data: bytes | bytearray | memoryview = b"") -> hashlib._Hash:
    """MD5 as stores use it, to name bytes: allowed also where a policy forbids it for secrets."""
    return hashlib.md5(data, usedforsecurity=False)


_KINDS: dict[str, Callable[[], Checksum]] = {
    "md5": md5,
    "crc32": _Crc32,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
}

# Known names without an implementation yet: Python's library has none, and one written in Python
# reaches 12 MiB/s.
_MISSING = ("crc32c", "crc64nvme", "crc64ecma")


def new(checksum_type: str) -> Checksum:
    """A fresh checksum of that kind.

    Raises Unsupported for a kind that needs a library storefs does not bring yet, ConfigError for a
    name that is none.
    """
    kind = _KINDS.get(checksum_type)
    if kind is not None:
        return kind()
    known = ", ".join(sorted(_KINDS))
    if checksum_type in _MISSING:
        raise Unsupported(
            f"checksum {checksum_type}: Python's standard library cannot compute it; use {known}"
        )
    raise ConfigError(f"{checksum_type!r} is no checksum: use {known}")


def maybe(checksum_type: str | None) -> Checksum | None:
    """`new`, or None where no checksum was asked for."""
    return None if checksum_type is None else new(checksum_type)


def of(checksum_type: str, data: bytes | bytearray | memoryview) -> str:
    """The checksum of bytes at hand."""
    checksum = new(checksum_type)
    checksum.update(data)
    return checksum.hexdigest()


def is_md5(etag: str) -> bool:
    """Whether an ETag has the form of an MD5 (of one piece, not of parts)."""
    return _MD5.fullmatch(etag) is not None


def multipart_etag(part_etags: Iterable[str]) -> str:
    """The ETag that S3 gives to an object completed from parts: MD5 of their MD5s, and their count.

    Empty where a part's ETag is no MD5, since nothing can be told then.
    """
    etags = list(part_etags)
    if not all(map(is_md5, etags)):
        return ""
    return f"{md5(b''.join(map(bytes.fromhex, etags))).hexdigest()}-{len(etags)}"


def to_base64(hexadecimal: str) -> str:
    """As the headers of S3 spell it."""
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def from_base64(text: str) -> str:
    """Back to hexadecimal."""
    return base64.b64decode(text).hex()
