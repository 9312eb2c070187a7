"""Handlers called directly, on all layers over the memory driver; no mount and no kernel."""

from __future__ import annotations

import errno
import os
import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyfuse3
import pytest

from storefs import errors
from storefs.cache import Cache
from storefs.config import CacheConfig, TreeConfig, WriteConfig
from storefs.drivers.models import ObjectAttributes
from storefs.fuse.operations import REQUESTS, Operations
from storefs.handle.table import OpenFiles
from storefs.tree.tree import Tree
from tests.support.layers import connection_of, inline_threads, keys, memory_store, put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio

    from storefs.store import Store

__all__ = ["inline_threads"]

CTX: Any = SimpleNamespace(uid=1000, gid=1000, pid=1, umask=0o022)
ROOT: Any = pyfuse3.ROOT_INODE


@pytest.fixture
def store() -> Store:
    return memory_store()


@pytest.fixture
async def ops(store: Store, tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Operations]:
    """Everything but the kernel."""
    cache = Cache(store, CacheConfig(directory=None), identity="test")
    await cache.start(nursery)
    files = OpenFiles(
        store,
        cache,
        WriteConfig(state_dir=tmp_path / "state"),
        nursery,
        identity="test",
        committed=lambda number, key, version: tree.committed(number, key, version),
        new_attributes=lambda key: ObjectAttributes(content_type="text/plain"),
    )
    await files.start()
    tree = Tree(store, TreeConfig(), files, nursery, give_back=lambda parent, name: None)
    yield Operations(tree, files)
    tree.table.check_invariants()
    await files.aclose()
    await cache.aclose()
    nursery.cancel_scope.cancel()


async def body_of(ops: Operations, name: bytes) -> bytes:
    """Look a file up and read it whole, as `cat` does."""
    entry = await ops.lookup(ROOT, name, CTX)
    info = await ops.open(entry.st_ino, os.O_RDONLY, CTX)  # type: ignore[arg-type]
    body = await ops.read(info.fh, 0, 1 << 20)
    await ops.flush(info.fh)
    await ops.release(info.fh)
    return body


async def write_new(ops: Operations, name: bytes, body: bytes) -> pyfuse3.EntryAttributes:
    flags: Any = os.O_WRONLY | os.O_CREAT
    mode: Any = 0o640
    info, entry = await ops.create(ROOT, name, mode, flags, CTX)
    assert await ops.write(info.fh, 0, body) == len(body)
    await ops.flush(info.fh)
    await ops.release(info.fh)
    return entry


async def test_a_file_is_created_written_closed_and_read_back_with_one_put(
    ops: Operations, store: Store
) -> None:
    await write_new(ops, b"new", b"hello")
    assert await body_of(ops, b"new") == b"hello"
    assert store.requests["put"] == 1
    assert store.requests["get"] == 0, "what was written here is in the cache"


async def test_who_creates_a_file_owns_it_with_its_mode(ops: Operations) -> None:
    entry = await write_new(ops, b"new", b"hello")
    assert (entry.st_uid, entry.st_gid) == (1000, 1000)
    assert stat.S_IMODE(entry.st_mode) == 0o640


async def test_reading_a_small_file_costs_one_get(ops: Operations, store: Store) -> None:
    put(store, "a", b"x" * 5000)
    await ops.lookup(ROOT, b"a", CTX)
    before = store.requests.copy()
    assert await body_of(ops, b"a") == b"x" * 5000
    assert store.requests - before == {"get": 1}


async def test_attributes_have_every_field_set(ops: Operations, store: Store) -> None:
    put(store, "a", b"x" * 5000)
    entry = await ops.lookup(ROOT, b"a", CTX)
    assert entry.st_blocks == 10
    assert entry.st_blksize == 1024 * 1024
    assert entry.st_nlink == 1
    assert 0 < entry.entry_timeout <= 5
    assert 0 < entry.attr_timeout <= 5


async def test_a_missing_name_is_answered_with_its_own_ttl(ops: Operations) -> None:
    entry = await ops.lookup(ROOT, b"missing", CTX)
    assert entry.st_ino == 0
    assert 0 < entry.entry_timeout <= 1


@pytest.mark.parametrize("name", [b"security.selinux", b"system.posix_acl_access", b"trusted.x"])
async def test_attributes_of_other_namespaces_are_not_supported_and_cost_nothing(
    ops: Operations, store: Store, name: Any
) -> None:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await ops.getxattr(ROOT, name, CTX)
    assert caught.value.errno == errno.EOPNOTSUPP
    assert not store.requests


async def test_user_attributes_are_no_data_without_a_request(ops: Operations, store: Store) -> None:
    name: Any = b"user.x"
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await ops.getxattr(ROOT, name, CTX)
    assert caught.value.errno == errno.ENODATA
    assert not store.requests


async def test_a_hard_link_is_refused_so_that_programs_fall_back(
    ops: Operations, store: Store
) -> None:
    put(store, "a", b"1")
    entry = await ops.lookup(ROOT, b"a", CTX)
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await ops.link(entry.st_ino, ROOT, b"b", CTX)
    assert caught.value.errno == errno.EPERM


async def test_an_error_of_the_store_reaches_close(ops: Operations, store: Store) -> None:
    def deny(verb: str, key: str) -> None:
        if verb == "put_object":
            raise errors.AccessDenied("no", key=key)

    connection_of(store).before = deny
    flags: Any = os.O_WRONLY | os.O_CREAT
    mode: Any = 0o644
    info, _ = await ops.create(ROOT, b"new", mode, flags, CTX)
    await ops.write(info.fh, 0, b"x")
    for _ in range(2):
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await ops.flush(info.fh)
        assert caught.value.errno == errno.EACCES
    await ops.release(info.fh)


async def test_readdir_tells_attributes_and_goes_on_where_the_buffer_was_full(
    ops: Operations, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        put(store, f"{number}", b"x" * number)
    told: list[tuple[bytes, int, int]] = []
    room = 4

    def reply(token: object, name: bytes, attr: Any, next_id: int) -> bool:
        if len(told) % (room + 1) == room:
            told.append((b"", 0, 0))  # the buffer is full: this entry is told again
            return False
        told.append((name, attr.st_size, next_id))
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    handle = await ops.opendir(ROOT, CTX)
    token: Any = None
    position = 0
    while True:
        before = len(told)
        await ops.readdir(handle, position, token)
        new = [each for each in told[before:] if each[0]]
        if not new:
            break
        position = new[-1][2]
    await ops.releasedir(handle)
    assert [(name, size) for name, size, _ in told if name] == [
        (str(number).encode(), number) for number in range(10)
    ]


async def test_statfs_says_much_room(ops: Operations) -> None:
    data = await ops.statfs(CTX)
    assert data.f_bsize * data.f_bavail == 1024**5
    assert data.f_namemax == 255


async def test_every_request_of_the_kernel_is_counted(ops: Operations, store: Store) -> None:
    before = REQUESTS.copy()
    await write_new(ops, b"new", b"hello")
    assert REQUESTS - before == {"create": 1, "write": 1, "flush": 1, "release": 1}


async def test_an_open_handle_of_a_replaced_object_never_reads_a_mixture(
    ops: Operations, store: Store
) -> None:
    put(store, "a", b"old bytes")
    entry = await ops.lookup(ROOT, b"a", CTX)
    info = await ops.open(entry.st_ino, os.O_RDONLY, CTX)  # type: ignore[arg-type]
    put(store, "a", b"new bytes")
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await ops.read(info.fh, 0, 100)
    assert caught.value.errno == errno.ESTALE
    await ops.release(info.fh)


async def test_mknod_makes_a_file_and_nothing_else(ops: Operations, store: Store) -> None:
    mode: Any = stat.S_IFREG | 0o644
    await ops.mknod(ROOT, b"made", mode, 0, CTX)
    assert keys(store) == ["made"]
    fifo: Any = stat.S_IFIFO | 0o644
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await ops.mknod(ROOT, b"fifo", fifo, 0, CTX)
    assert caught.value.errno == errno.EPERM
