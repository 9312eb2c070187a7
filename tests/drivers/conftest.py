"""The stores that the contract suite runs over, and what each of them was seen to do otherwise."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from storefs.drivers.local import LocalDriver
from storefs.drivers.local_connection import LocalConnection
from storefs.drivers.memory import MemoryConnection, MemoryDriver
from storefs.drivers.s3 import S3Driver
from storefs.drivers.s3_connection import S3Connection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from storefs.drivers.base import Connection, StorageDriver
    from storefs.drivers.models import Object, UploadResult
    from tests.support.servers import S3Server

# What a store does otherwise, as measured with the versions in the test environment (SeaweedFS
# 4.48, moto 5.2): a test that needs a trait listed here is skipped there, with this reason.
DIFFERENT: dict[str, dict[str, str]] = {
    "memory": {},
    "local": {
        "any-key": "a file system cannot hold every key",
    },
    "seaweedfs": {
        "any-key": "folds `//`, refuses `.` and `..`, has components of at most 255 bytes",
        "backslash": "stores a key with a backslash under one with a slash",
        "byte-order": "lists by path components: `b/1` before `b-`",
        "any-delimiter": "pages of a listing grouped by anything but `/` do not move on",
        "sent-again": "lists a part that was sent twice twice, in no order within a second",
        "no-phantom-prefixes": "shows the common prefix of a deleted object for a while",
        "complete-once": "answers a repeated completion with success while the object stands",
    },
    "moto": {
        "many-objects": "runs in this process, one request at a time: a thousand take 7 s",
        "newline": "does not find the bucket of a key with a line break",
        "grouped-start-after": "leaves out a common prefix that the start key lies in",
        "complete-once": "answers a repeated completion with success",
        "gone-upload": "answers 500 to whatever concerns an aborted upload",
        "conditional-complete": "does not look at If-Match of a completion",
        "conditional-part-copy": "does not look at the source's If-Match of a part copy",
        "conditional-copy": "copies over an existing object in spite of If-None-Match",
        "conditional-batch-delete": "does not look at the ETag of a key in DeleteObjects",
    },
}

_numbers = itertools.count(1)


@dataclass
class Place:
    """A driver, a connection and an empty bucket, with the shortest way to the common verbs."""

    kind: str
    driver: StorageDriver
    connection: Connection
    bucket: str

    def needs(self, trait: str) -> None:
        """Skip the test where the store is known not to have it."""
        reason = DIFFERENT[self.kind].get(trait)
        if reason is not None:
            pytest.skip(f"{self.kind}: {reason}")

    def put(self, key: str, body: Any = b"", **options: Any) -> UploadResult:
        return self.driver.upload_object_via_stream(
            self.connection, body, self.bucket, key, **options
        )

    def get(self, key: str, **options: Any) -> bytes:
        stream = self.driver.download_object_as_stream(self.connection, self.bucket, key, **options)
        return b"".join(stream)

    def head(self, key: str, **options: Any) -> Object:
        return self.driver.get_object_meta(self.connection, key, self.bucket, **options)

    def delete(self, key: str, **options: Any) -> None:
        self.driver.delete_object(self.connection, key, self.bucket, **options)

    def copy(self, src: str, dst: str, **options: Any) -> Any:
        return self.driver.copy_object(self.connection, self.bucket, src, dst, **options)

    def append(self, key: str, body: Any, position: int, **options: Any) -> Any:
        return self.driver.append_object(
            self.connection, body, self.bucket, key, position, **options
        )

    def page(self, prefix: str = "", **options: Any) -> tuple[list[Object], str | None]:
        return self.driver.list_container_objects(self.connection, self.bucket, prefix, **options)

    def keys(self, prefix: str = "") -> list[str]:
        found = self.driver.iterate_container_objects(self.connection, self.bucket, prefix)
        return [each.name for each in found]

    def begin(self, key: str, **options: Any) -> str:
        return self.driver.create_multipart_upload(self.connection, self.bucket, key, **options)

    def send(self, key: str, upload_id: str, number: int, body: Any, **options: Any) -> Any:
        return self.driver.upload_part(
            self.connection, self.bucket, key, upload_id, number, body, **options
        )

    def complete(self, key: str, upload_id: str, parts: Any, **options: Any) -> Any:
        return self.driver.complete_multipart_upload(
            self.connection, self.bucket, key, upload_id, parts, **options
        )


def s3_connection(server: S3Server, **options: Any) -> S3Connection:
    """As a mount has it: one attempt a call."""
    return S3Connection(
        server.endpoint_url,
        None,
        server.access_key,
        server.secret_key,
        sdk_retries=False,
        **options,
    )


@pytest.fixture(scope="session")
def s3_connections() -> Iterator[dict[str, S3Connection]]:
    """One connection for each server: clients are dear, and made to be shared."""
    made: dict[str, S3Connection] = {}
    yield made
    for connection in made.values():
        connection.close()


@pytest.fixture(params=["memory", "local", "seaweedfs", "moto"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, s3_connections: dict[str, S3Connection]
) -> Place:
    """An empty bucket of each kind of store."""
    kind: str = request.param
    bucket = f"contract-{next(_numbers)}"
    if kind == "memory":
        return Place(kind, MemoryDriver(), MemoryConnection(buckets=(bucket,)), bucket)
    if kind == "local":
        (tmp_path / "bucket").mkdir()
        connection = LocalConnection(durable=False)
        return Place(kind, LocalDriver(), connection, str(tmp_path / "bucket"))
    server: S3Server = request.getfixturevalue(kind)
    if kind not in s3_connections:
        s3_connections[kind] = s3_connection(server)
    s3_connections[kind].get_client().create_bucket(Bucket=bucket)
    return Place(kind, S3Driver(), s3_connections[kind], bucket)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty directory to be a bucket, in one that has nothing else."""
    (tmp_path / "bucket").mkdir()
    return tmp_path / "bucket"


@pytest.fixture
def local(root: Path) -> Place:
    """The local driver alone."""
    return Place("local", LocalDriver(), LocalConnection(durable=False), str(root))


def files(root: Path) -> set[str]:
    """What another program sees of a local bucket."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if ".storefs-bucket" not in path.parts
    }


def sent(connection: S3Connection) -> list[Any]:
    """The requests of a connection from now on, as botocore hands them to the socket."""
    requests: list[Any] = []
    connection.get_client().meta.events.register(
        "before-send.s3", lambda request, **_: requests.append(request)
    )
    return requests


def headers(request: Any) -> dict[str, str]:
    return {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
