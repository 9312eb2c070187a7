"""Open files on the memory driver, with everything that a test wants to look at."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import trio

from storefs.cache import Cache
from storefs.config import CacheConfig, WriteConfig
from storefs.drivers.memory_connection import CAPABILITIES
from storefs.drivers.models import Capabilities, ObjectAttributes
from storefs.handle.table import OpenFiles
from storefs.store.version import Version
from storefs.units import KIB, MIB, HandleNumber, InodeNumber
from tests.support.layers import connection_of, inline_threads, memory_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from storefs.drivers.memory_connection import MemoryConnection
    from storefs.store import Store

    Make = Callable[..., AbstractAsyncContextManager["Setup"]]

__all__ = ["inline_threads"]

PART = 64 * KIB


@dataclass
class Setup:
    """One mount's write path, and the bucket behind it."""

    state_dir: Path
    store: Store
    cache: Cache
    files: OpenFiles
    committed: list[tuple[int, str, Version]] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)

    @property
    def bucket(self) -> MemoryConnection:
        return connection_of(self.store)

    def body(self, key: str) -> bytes | None:
        """What the bucket has."""
        found = self.bucket.bucket("bucket").objects.get(key)
        return found.body if found else None

    def attributes(self, key: str) -> ObjectAttributes:
        return self.bucket.bucket("bucket").objects[key].attributes

    def uploads(self) -> int:
        """Multipart uploads that were neither completed nor aborted."""
        return len(self.bucket.bucket("bucket").uploads)

    def put(self, key: str, body: bytes, **attributes: object) -> Version:
        """Somebody else puts an object."""
        result = self.store.driver.upload_object_via_stream(
            self.store.connection,
            body,
            "bucket",
            key,
            attributes=ObjectAttributes(**attributes),  # type: ignore[arg-type]
        )
        return Version(result.extra["etag"], len(body), 1)

    def version(self, key: str) -> Version | None:
        found = self.bucket.bucket("bucket").objects.get(key)
        return Version(found.etag, len(found.body), found.mtime_ns) if found else None

    async def open(
        self, key: str, mode: str = "r+", *, number: int = 1, truncate: bool = False
    ) -> HandleNumber:
        """`r`, `r+`, `w` (truncates) or `a`; a key that is not there is created."""
        return await self.files.open(
            InodeNumber(number),
            key,
            self.version(key),
            readable=mode in ("r", "r+"),
            writable=mode != "r",
            append=mode == "a",
            truncate=mode == "w" or truncate,
        )

    async def close(self, handle: HandleNumber) -> None:
        """As a program does it: flush, then release."""
        try:
            await self.files.flush(handle)
        finally:
            await self.files.release(handle)

    async def store_file(self, key: str, body: bytes, *, number: int = 1) -> None:
        """`cp` of a file into the mount."""
        handle = await self.open(key, "w", number=number)
        for start in range(0, len(body), 16 * KIB):
            await self.files.write(handle, start, body[start : start + 16 * KIB])
        await self.close(handle)

    def asked(self) -> dict[str, int]:
        """Requests since the last call, by verb of the store."""
        asked = dict(self.store.requests)
        self.store.requests.clear()
        return asked

    def staged(self) -> list[str]:
        """Staging files in use: the log of one that is merely ready is empty."""
        logs = self.state_dir.glob("instances/*/*.log")
        return sorted(path.name for path in logs if path.stat().st_size)

    def lost(self) -> list[str]:
        """Keys in lost+found."""
        return [lost.key for lost in self.files.lost_and_found()]

    def failing(self, *verbs: str, error: type[Exception]) -> None:
        """From now on these verbs of the driver (all, if none is named) raise."""

        def before(verb: str, key: str) -> None:
            if not verbs or verb in verbs:
                raise error("as the test wants it")

        self.bucket.before = before

    def well(self) -> None:
        """The store works again."""
        self.bucket.before = self.bucket.after = None


@pytest.fixture
def capabilities() -> Capabilities:
    """The store's; a test module may ask for others by parametrising this."""
    return small_parts(CAPABILITIES)


def small_parts(capabilities: Capabilities) -> Capabilities:
    """Limits at which kilobytes behave like megabytes."""
    return replace(
        capabilities,
        min_part_bytes=40 * KIB,
        max_part_bytes=1 * MIB,
        max_object_bytes=64 * MIB,
    )


@pytest.fixture
def make(tmp_path: Path, capabilities: Capabilities) -> Make:
    """Make a mount's write path; again for a second mount on the same bucket and state."""
    return maker(tmp_path, capabilities)


def maker(tmp_path: Path, capabilities: Capabilities) -> Make:
    """See `make`."""

    @asynccontextmanager
    async def make(
        store: Store | None = None, *, aclose: bool = True, identity: str = "memory"
    ) -> AsyncIterator[Setup]:
        store = store or memory_store(timeout_seconds=10.0)
        connection_of(store).capabilities = capabilities
        store.capabilities = capabilities
        async with trio.open_nursery() as nursery:
            cache = Cache(
                store,
                CacheConfig(None, memory_bytes=4 * MIB, chunk_bytes=16 * KIB),
                identity=identity,
            )
            await cache.start(nursery)
            committed: list[tuple[int, str, Version]] = []
            given_up: list[int] = []
            files = OpenFiles(
                store,
                cache,
                WriteConfig(tmp_path / "state", backlog_bytes=4 * PART, part_bytes=PART),
                nursery,
                committed=lambda number, key, version: committed.append((number, key, version)),
                new_attributes=lambda key: ObjectAttributes(content_type="text/x-new"),
                identity=identity,
                given_up=given_up.append,
            )
            await files.start()
            setup = Setup(tmp_path / "state", store, cache, files, committed, given_up)
            yield setup
            setup.well()
            if aclose:
                await files.drain(5)
                await files.aclose()
            nursery.cancel_scope.cancel()

    return make


@pytest.fixture
async def mount(make: Make) -> AsyncIterator[Setup]:
    """A mount's write path on an empty bucket."""
    async with make() as setup:
        yield setup
