"""Files that are removed while they are open: read on, never stored again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storefs.errors import StoreUnavailable
from storefs.handle import unlinked
from storefs.units import KIB, InodeNumber

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.handle.conftest import Setup

ONE = InodeNumber(1)
BODY = bytes(range(256)) * 300


async def remove(mount: Setup, key: str) -> None:
    """As the tree does it."""
    await mount.files.discard(ONE)
    if mount.body(key) is not None:
        await mount.files.keep_unlinked(ONE)
        await mount.store.delete(key)


async def test_an_unlinked_file_reads_on_and_is_never_stored_again(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", BODY)
    handle = await mount.open("a")
    await mount.files.write(handle, 3, b"changed")
    await remove(mount, "a")
    expected = BODY[:3] + b"changed" + BODY[10:]
    assert await mount.files.read(handle, 0, 100_000) == expected
    await mount.files.write(handle, 0, b"on")
    await mount.files.truncate(ONE, "a", None, 100, handle)
    assert await mount.files.read(handle, 0, 1000) == b"on" + expected[2:100]
    local = mount.files.local(ONE)
    assert local is not None and local.size == 100 and not local.exists_in_store
    await mount.files.fsync(handle)
    await mount.close(handle)
    assert mount.body("a") is None
    await mount.files.drain(5)
    assert mount.staged() == [] and mount.files.local(ONE) is None


async def test_a_new_file_removed_before_its_close_never_reaches_the_store(
    autojump_clock: MockClock, mount: Setup
) -> None:
    handle = await mount.open("a", "r+")
    await mount.files.write(handle, 0, b"temporary")
    await remove(mount, "a")
    assert await mount.files.read(handle, 0, 100) == b"temporary"
    await mount.close(handle)
    assert mount.body("a") is None and mount.asked() == {}


async def test_a_large_unlinked_file_is_served_by_a_copy_until_its_last_release(
    autojump_clock: MockClock, mount: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlinked, "FETCHED_BYTES", 10 * KIB)
    mount.put("a", BODY)
    handle = await mount.open("a")
    await mount.files.write(handle, 0, b"new")
    await remove(mount, "a")
    assert len(keys(mount)) == 1 and keys(mount)[0].startswith(".storefs/unlinked/")
    assert await mount.files.read(handle, 0, 100_000) == b"new" + BODY[3:]
    await mount.close(handle)
    await mount.files.drain(5)
    assert keys(mount) == []


async def test_a_huge_unlinked_file_is_copied_in_parts(
    autojump_clock: MockClock, mount: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlinked, "FETCHED_BYTES", 10 * KIB)
    monkeypatch.setattr("storefs.handle.parts.COPY_BYTES", 50 * KIB)
    body = BODY * 4
    mount.put("a", body)
    handle = await mount.open("a", "r")
    await remove(mount, "a")
    assert mount.asked()["copy_part"] > 1
    assert await mount.files.read(handle, 0, 1_000_000) == body
    await mount.close(handle)
    await mount.files.drain(5)
    assert keys(mount) == [] and mount.uploads() == 0


@pytest.mark.parametrize("fetched_bytes", [10 * KIB, 1000 * KIB])
@pytest.mark.parametrize("writes", [True, False])
async def test_a_file_whose_delete_was_refused_goes_on_as_before(
    autojump_clock: MockClock,
    mount: Setup,
    monkeypatch: pytest.MonkeyPatch,
    fetched_bytes: int,
    writes: bool,
) -> None:
    monkeypatch.setattr(unlinked, "FETCHED_BYTES", fetched_bytes)
    mount.put("a", BODY)
    handle = await mount.open("a")
    if writes:
        await mount.files.write(handle, 0, b"new")
    await mount.files.keep_unlinked(ONE)
    await mount.files.restore_unlinked(ONE)
    expected = (b"new" if writes else BODY[:3]) + BODY[3:]
    assert await mount.files.read(handle, 0, 100_000) == expected
    await mount.files.write(handle, len(BODY), b"tail")
    await mount.close(handle)
    assert mount.body("a") == expected + b"tail"
    await mount.files.drain(5)
    assert keys(mount) == ["a"]


async def test_if_the_bytes_cannot_be_kept_the_file_is_as_it_was(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", BODY)
    handle = await mount.open("a")
    mount.failing("download_object_as_stream", error=StoreUnavailable)
    with pytest.raises(StoreUnavailable):
        await mount.files.keep_unlinked(ONE)
    mount.well()
    await mount.files.write(handle, 0, b"new")
    await mount.close(handle)
    assert mount.body("a") == b"new" + BODY[3:]


async def test_a_pending_file_is_removed_while_it_is_open(
    autojump_clock: MockClock, mount: Setup
) -> None:
    handle = await mount.open("a", "r+")
    await mount.files.write(handle, 0, b"first")
    mount.failing("put_object", error=StoreUnavailable)
    with pytest.raises(StoreUnavailable):
        await mount.files.flush(handle)
    await remove(mount, "a")
    mount.well()
    assert await mount.files.read(handle, 0, 100) == b"first"
    await mount.close(handle)
    assert mount.body("a") is None and mount.files.pending() == []


def keys(mount: Setup) -> list[str]:
    return sorted(mount.bucket.bucket("bucket").objects)


async def test_a_file_removed_while_it_is_committed_behind_its_release_meets_no_conflict(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", b"old")
    await mount.close(await mount.open("a", "w"))
    async with mount.files.removing(ONE):
        version = mount.version("a")
        assert version is not None
        await mount.store.delete("a", if_match=version.etag)
    await mount.files.drain(5)
    assert mount.body("a") is None
    assert mount.files.pending() == [] and mount.lost() == []


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_removal_that_is_refused_leaves_the_file_as_it_was(
    autojump_clock: MockClock, mount: Setup, is_open: bool
) -> None:
    mount.put("a", b"old")
    handle = await mount.open("a")
    await mount.files.write(handle, 0, b"NEW")
    if not is_open:
        await mount.files.release(handle)
    with pytest.raises(StoreUnavailable):
        async with mount.files.removing(ONE):
            raise StoreUnavailable("as the test wants it")
    if is_open:
        await mount.close(handle)
    await mount.files.drain(5)
    assert mount.body("a") == b"NEW"
