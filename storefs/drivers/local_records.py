"""What a local bucket knows of an object beside its bytes: its ETag and attributes.

Used by the local driver. One small file per key in `.storefs-bucket/records`. The bytes belong to
everybody, so a record says for which file (inode, size, time of change) it holds; a file that
another program changed has no valid record and gets an ETag made of those three. A new version's
record is written before its file takes the name, beside the old one's, so that at any moment the
file that has the name has a record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from storefs.drivers.models import ObjectAttributes

if TYPE_CHECKING:
    from collections.abc import Sequence

_CACHED = 20_000
"""ETags kept in memory, so that listing a directory again opens no record: about 5 MiB."""

_KEPT_VERSIONS = 2
"""The one that has the name, and the one that is about to."""


class Signature(NamedTuple):
    """Which file, and in which state."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Signature:
        """Out of a stat."""
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)

    def etag(self) -> str:
        """For files that we did not write: changes whenever the file does, and needs no reading."""
        return f"x-{self.inode:x}-{self.size:x}-{self.mtime_ns:x}"


@dataclass(frozen=True, slots=True)
class Version:
    """What is known of one state of one file."""

    signature: Signature
    etag: str
    attributes: ObjectAttributes = ObjectAttributes()  # noqa: RUF009  (frozen)

    def to_json(self) -> dict[str, Any]:
        """Only what is not the default."""
        record: dict[str, Any] = {"file": list(self.signature), "etag": self.etag}
        kept = {
            field.name: value
            for field in dataclasses.fields(self.attributes)
            if (value := getattr(self.attributes, field.name)) != _DEFAULTS[field.name]
        }
        if kept:
            record["attributes"] = kept
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Version:
        """Names that a later storefs wrote are left out."""
        known = {k: v for k, v in record.get("attributes", {}).items() if k in _DEFAULTS}
        return cls(Signature(*record["file"]), str(record["etag"]), ObjectAttributes(**known))


_DEFAULTS = {
    field.name: getattr(ObjectAttributes(), field.name)
    for field in dataclasses.fields(ObjectAttributes)
}


class Records:
    """The records of one bucket; `private` is its directory of our own."""

    def __init__(self, private: bytes) -> None:
        self._directory = os.path.join(private, b"records")
        self._temporary = os.path.join(private, b"tmp")
        self._lock = threading.Lock()
        self._etags: OrderedDict[str, tuple[Signature, str]] = OrderedDict()

    def find(self, key: str, signature: Signature) -> Version | None:
        """What is known of this state of the key's file, or None for a foreign one."""
        for version in self.read(key):
            if version.signature == signature:
                return version
        return None

    def etag(self, key: str, signature: Signature) -> str:
        """Of this state of the key's file; cheap when it was asked before."""
        with self._lock:
            cached = self._etags.get(key)
        if cached is not None and cached[0] == signature:
            return cached[1]
        wanted = list(signature)
        etag = next((v["etag"] for v in self._load(key) if v.get("file") == wanted), None)
        if etag is None:
            # Not remembered: its record may be about to be written.
            return signature.etag()
        with self._lock:
            self._etags[key] = (signature, etag)
            while len(self._etags) > _CACHED:
                self._etags.popitem(last=False)
        return str(etag)

    def read(self, key: str) -> list[Version]:
        """All versions on record, the newest first; none where the record is missing or damaged."""
        try:
            return [Version.from_json(version) for version in self._load(key)]
        except (KeyError, TypeError):
            return []

    def _load(self, key: str) -> list[dict[str, Any]]:
        # Bare system calls: a listing does this for each of its objects.
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            text = os.read(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        try:
            versions = json.loads(text)["versions"]
        except (ValueError, KeyError, TypeError):
            # Torn by a crash: the file is then as good as a foreign one.
            return []
        return [v for v in versions if isinstance(v, dict) and "etag" in v]

    def write(self, key: str, versions: Sequence[Version], *, durable: bool) -> None:
        """Replace the record, in one step."""
        path = self._path(key)
        record = {"key": key, "versions": [v.to_json() for v in versions[:_KEPT_VERSIONS]]}
        aside = os.path.join(self._temporary, b"record-" + secrets.token_hex(8).encode())
        with open(aside, "wb") as file:
            file.write(json.dumps(record, separators=(",", ":")).encode())
            if durable:
                file.flush()
                os.fsync(file.fileno())
        try:
            os.rename(aside, path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.rename(aside, path)

    def remove(self, key: str) -> None:
        """Forget the key."""
        with self._lock:
            self._etags.pop(key, None)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(self._path(key))

    def exists(self, key: str) -> bool:
        """Whether there is a record: of a marker, that its directory is to stay."""
        return os.path.exists(self._path(key))

    def _path(self, key: str) -> bytes:
        name = hashlib.sha256(key.encode()).hexdigest()[:40].encode()
        return os.path.join(self._directory, name[:2], name)
