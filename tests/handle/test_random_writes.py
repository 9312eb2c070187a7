"""Random operations on one file, against a bytearray: every read, every commit, byte for byte."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storefs import threads
from storefs.drivers.memory_connection import CAPABILITIES
from storefs.errors import StoreUnavailable
from storefs.units import KIB, InodeNumber
from tests.handle.conftest import maker, small_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.units import HandleNumber
    from tests.handle.conftest import Setup

ONE = InodeNumber(1)
MOST = 400 * KIB

offsets = st.one_of(
    st.integers(0, MOST),
    st.sampled_from([0, 16 * KIB, 64 * KIB, 128 * KIB, 192 * KIB, 256 * KIB]),
)
sizes = st.one_of(
    st.integers(0, 300), st.integers(0, 200 * KIB), st.sampled_from([16 * KIB, 64 * KIB])
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), offsets, sizes),
        st.tuples(st.just("run_of_writes"), offsets, st.integers(1, 14)),
        st.tuples(st.just("truncate"), offsets, st.just(0)),
        st.tuples(st.just("read"), offsets, sizes),
        st.tuples(st.just("flush"), st.just(0), st.just(0)),
        st.tuples(st.just("fail"), st.just(0), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
        st.tuples(st.just("rename"), st.just(0), st.just(0)),
        st.tuples(st.just("replace"), st.just(0), st.just(0)),
    ),
    max_size=14,
)


class Session:
    """One file, opened and closed, and what it should hold."""

    def __init__(self, mount: Setup, body: bytes) -> None:
        self.mount = mount
        self.model = bytearray(body)
        self.key = "file-0"
        self.renamed = 0
        self.handle: HandleNumber
        mount.put(self.key, body)

    async def run(self, todo: list[tuple[str, int, int]]) -> None:
        self.handle = await self.mount.open(self.key)
        for count, (verb, first, second) in enumerate(todo):
            await getattr(self, verb)(first, second, count)
        await self.read(0, MOST * 2, 0)
        await self.mount.close(self.handle)
        await self.mount.files.settle(ONE)
        assert self.mount.body(self.key) == bytes(self.model)

    async def write(self, offset: int, size: int, count: int) -> None:
        data = bytes([count + 1]) * size
        await self.mount.files.write(self.handle, offset, data)
        if data:
            self.model.extend(bytes(max(0, offset + size - len(self.model))))
            self.model[offset : offset + size] = data

    async def run_of_writes(self, offset: int, pieces: int, count: int) -> None:
        for piece in range(pieces):
            await self.write(offset + piece * 16 * KIB, 16 * KIB, count + piece)

    async def truncate(self, size: int, _: int, count: int) -> None:
        await self.mount.files.truncate(ONE, self.key, None, size, self.handle)
        self.model.extend(bytes(max(0, size - len(self.model))))
        del self.model[size:]

    async def read(self, offset: int, size: int, count: int) -> None:
        found = await self.mount.files.read(self.handle, offset, size)
        assert found == bytes(self.model[offset : offset + size])

    async def flush(self, *_: int) -> None:
        await self.mount.files.fsync(self.handle)
        assert self.mount.body(self.key) == bytes(self.model)

    async def fail(self, *_: int) -> None:
        self.mount.failing("put_object", "upload_part", "copy_part", error=StoreUnavailable)
        with suppress(StoreUnavailable):
            await self.mount.files.fsync(self.handle)
        self.mount.well()

    async def reopen(self, *_: int) -> None:
        await self.mount.close(self.handle)
        self.handle = await self.mount.open(self.key)

    async def replace(self, *_: int) -> None:
        await self.mount.close(self.handle)
        self.handle = await self.mount.open(self.key, truncate=True)
        self.model.clear()

    async def rename(self, *_: int) -> None:
        self.renamed += 1
        new = f"file-{self.renamed}"
        async with self.mount.files.held(ONE):
            version = await self.mount.store.copy(self.key, new)
            await self.mount.store.delete(self.key)
            self.mount.files.moved(ONE, new, version)
        self.key = new


async def inline(limit: trio.CapacityLimiter, fn: Callable[..., Any], *args: Any) -> Any:
    async with limit:
        await trio.lowlevel.checkpoint()
        return fn(*args)


@given(st.one_of(st.integers(0, 1000), st.integers(0, MOST)), steps)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_file_is_what_was_written_to_it(
    monkeypatch: Any, size: int, todo: list[tuple[str, int, int]]
) -> None:
    monkeypatch.setattr(threads, "run", inline)
    monkeypatch.setattr(threads, "run_abandonable", inline)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            mount = await stack.enter_async_context(make())
            await Session(mount, bytes(range(251)) * (size // 251 + 1)).run(todo)
            assert await mount.files.drain(5) == []
            assert mount.uploads() == 0
            assert mount.staged() == []
            assert mount.lost() == []

    with tempfile.TemporaryDirectory() as directory:
        make = maker(Path(directory), small_parts(CAPABILITIES))
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
