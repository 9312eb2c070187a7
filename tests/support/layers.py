"""Layers on the memory driver, for tests that need neither kernel nor threads.

Calls into the driver run in place: with trio's autojump clock a real worker thread would be an idle
moment, and every time-out would fire.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from storefs import threads
from storefs.config import StoreConfig, StoreUrl
from storefs.drivers.memory import MemoryConnection, MemoryDriver
from storefs.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from storefs.store.version import Version
    from storefs.units import InodeNumber


@pytest.fixture(autouse=True)
def inline_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run what goes to a thread in place, under its limiter."""

    async def run(limit: trio.CapacityLimiter, fn: Callable[..., Any], /, *args: Any) -> Any:
        async with limit:
            await trio.lowlevel.checkpoint()
            return fn(*args)

    monkeypatch.setattr(threads, "run", run)
    monkeypatch.setattr(threads, "run_abandonable", run)
    yield


def memory_store(prefix: str = "", *, timeout_seconds: float = 10.0) -> Store:
    """A store on an empty bucket in memory."""
    url = StoreUrl("memory", "bucket", prefix)
    config = StoreConfig(url=url, timeout_seconds=timeout_seconds)
    return Store(MemoryDriver(), MemoryConnection(buckets=("bucket",)), "bucket", config)


def connection_of(store: Store) -> MemoryConnection:
    """The memory driver's connection, with its hooks."""
    return MemoryConnection.of(store.connection)


def put(store: Store, key: str, body: bytes = b"") -> None:
    """Somebody else puts an object; not counted among the store's requests."""
    store.driver.upload_object_via_stream(store.connection, body, store.container, key)


def delete(store: Store, key: str) -> None:
    """Somebody else removes an object."""
    store.driver.delete_object(store.connection, key, store.container)


def keys(store: Store) -> list[str]:
    """All keys of the bucket."""
    found = store.driver.iterate_container_objects(store.connection, store.container)
    return [each.name for each in found]


class NoFiles:
    """Open files, as the tree knows them: none, unless a test says so."""

    def __init__(self) -> None:
        self.locals: dict[InodeNumber, Any] = {}
        self.open: set[InodeNumber] = set()
        self.kept: list[InodeNumber] = []
        self.moves: list[tuple[InodeNumber, str, Version]] = []

    def local(self, number: InodeNumber) -> Any:
        return self.locals.get(number)

    def has_handles(self, number: InodeNumber) -> bool:
        return number in self.open

    @asynccontextmanager
    async def held(self, number: InodeNumber) -> AsyncIterator[None]:
        self.locals.pop(number, None)
        yield

    def moved(self, number: InodeNumber, key: str, version: Version) -> None:
        self.moves.append((number, key, version))

    @asynccontextmanager
    async def removing(self, number: InodeNumber) -> AsyncIterator[None]:
        yield
        self.locals.pop(number, None)
        if number in self.open:
            self.kept.append(number)
