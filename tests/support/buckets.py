"""The two buckets that mounts are tested on, seen from outside the mount.

A local bucket (a directory, through the library's own driver) and one on a real S3 server (through
plain boto3). Both answer the same few questions, so that a scenario is written once. The danger:
asking through the mount's eyes; nothing here may go through the mount, its caches or its relay.
"""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from storefs.drivers.models import ObjectAttributes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import S3Server


@dataclass(frozen=True, slots=True)
class Stored:
    """What the bucket says of one object."""

    size: int
    content_type: str
    metadata: dict[str, str]
    etag: str


class Bucket(Protocol):
    """A bucket as a test sees it. Keys are whole keys; hidden names of storefs are left out."""

    kind: str

    @property
    def url(self) -> str:
        """What `storefs mount` is given."""

    @property
    def flags(self) -> list[str]:
        """Flags that a mount of it needs."""

    @property
    def env(self) -> dict[str, str]:
        """Credentials, where a user has them."""

    def put(
        self,
        key: str,
        body: bytes = b"",
        *,
        content_type: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Write an object, as another program would."""

    def get(self, key: str) -> bytes:
        """All bytes of an object; KeyError if there is none."""

    def head(self, key: str) -> Stored:
        """Its attributes; KeyError if there is none."""

    def all_keys(self, prefix: str = "") -> list[str]:
        """All keys under a prefix, sorted."""

    def delete(self, key: str) -> None:
        """Remove an object."""

    def put_many(self, bodies: dict[str, bytes]) -> None:
        """Write many objects quickly."""


def is_ours(key: str) -> bool:
    """Whether a key holds something that storefs keeps for itself."""
    return any(part.startswith(".storefs") for part in key.split("/"))


@dataclass(slots=True)
class S3Bucket:
    """A bucket on a server, new unless named, or what is under a prefix of it.

    The mount reaches it at `endpoint_url`, which may be a relay's; the test goes past that.
    """

    server: S3Server
    endpoint_url: str
    kind: str = "s3"
    name: str = ""
    prefix: str = ""
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.server.client()
        self.name = self.name or self.server.make_bucket(f"bucket-{uuid.uuid4().hex[:12]}")

    @property
    def url(self) -> str:
        """What `storefs mount` is given."""
        return f"s3://{self.name}/{self.prefix}".rstrip("/")

    @property
    def flags(self) -> list[str]:
        """Flags that a mount of it needs."""
        return ["--endpoint-url", self.endpoint_url, "--region", "us-east-1"]

    @property
    def env(self) -> dict[str, str]:
        """Credentials, where a user has them."""
        return self.server.environment()

    def put(
        self,
        key: str,
        body: bytes = b"",
        *,
        content_type: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """One PUT."""
        more: dict[str, Any] = {}
        if content_type is not None:
            more["ContentType"] = content_type
        if metadata is not None:
            more["Metadata"] = metadata
        self.client.put_object(Bucket=self.name, Key=self.prefix + key, Body=body, **more)

    def get(self, key: str) -> bytes:
        """One GET."""
        try:
            body = self.client.get_object(Bucket=self.name, Key=self.prefix + key)["Body"]
        except self.client.exceptions.NoSuchKey:
            raise KeyError(key) from None
        data: bytes = body.read()
        return data

    def head(self, key: str) -> Stored:
        """One HEAD."""
        try:
            told = self.client.head_object(Bucket=self.name, Key=self.prefix + key)
        except self.client.exceptions.ClientError:
            raise KeyError(key) from None
        return Stored(
            told["ContentLength"],
            told.get("ContentType", ""),
            told["Metadata"],
            told["ETag"].strip('"'),
        )

    def all_keys(self, prefix: str = "") -> list[str]:
        """As many LISTs as it takes."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=self.prefix + prefix
        )
        found = [
            one["Key"].removeprefix(self.prefix)
            for page in pages
            for one in page.get("Contents", [])
        ]
        return sorted(key for key in found if not is_ours(key))

    def delete(self, key: str) -> None:
        """One DELETE."""
        self.client.delete_object(Bucket=self.name, Key=self.prefix + key)

    def put_many(self, bodies: dict[str, bytes]) -> None:
        """Sixteen at a time."""
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: self.put(key, bodies[key]), bodies))


@dataclass(slots=True)
class LocalBucket:
    """A directory that is a bucket."""

    directory: Path
    kind: str = "local"
    env: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    _driver: Any = field(init=False)
    _connection: Any = field(init=False)

    def __post_init__(self) -> None:
        from storefs.drivers.local import LocalDriver

        self.directory.mkdir(parents=True, exist_ok=True)
        self._driver = LocalDriver()
        self._connection = self._driver.create_connection_manager(None, None, None, None)

    @property
    def name(self) -> str:
        """The container's name for the driver: the directory."""
        return str(self.directory)

    @property
    def url(self) -> str:
        """What `storefs mount` is given."""
        return f"file://{self.directory}"

    def put(
        self,
        key: str,
        body: bytes = b"",
        *,
        content_type: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Through the driver, as another storefs would."""
        attributes = ObjectAttributes(content_type=content_type, metadata=metadata or {})
        self._driver.upload_object_via_stream(
            self._connection, body, self.name, key, attributes=attributes
        )

    def get(self, key: str) -> bytes:
        """As another program would: objects are plain files."""
        try:
            return (self.directory / key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None

    def head(self, key: str) -> Stored:
        """Through the driver."""
        from storefs.errors import ObjectNotFound

        try:
            found = self._driver.get_object_meta(self._connection, key, self.name)
        except ObjectNotFound:
            raise KeyError(key) from None
        kept = found.attributes or ObjectAttributes()
        return Stored(found.size, kept.content_type or "", dict(kept.metadata), found.etag)

    def all_keys(self, prefix: str = "") -> list[str]:
        """Through the driver."""
        found = self._driver.iterate_container_objects(self._connection, self.name, prefix or None)
        return sorted(one.name for one in found if not is_ours(one.name))

    def delete(self, key: str) -> None:
        """Through the driver."""
        self._driver.delete_object(self._connection, key, self.name)

    def put_many(self, bodies: dict[str, bytes]) -> None:
        """As plain files, which is what another program would leave there."""
        for key, body in bodies.items():
            path = self.directory / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
