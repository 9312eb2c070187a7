"""What a process that died had not stored: found, named, in lost+found, byte for byte."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from storefs.errors import ConfigError, ObjectChanged
from storefs.handle import instance as instances
from storefs.handle import unlinked
from storefs.handle.ranges import Content
from storefs.handle.record import Header, Record, parse_log, whole_log
from storefs.handle.staging import LOG_LINES, MAPPED_BYTES, Staging
from storefs.units import KIB, ByteRange, InodeNumber

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.handle.conftest import Make, Setup

HEADER = Header("dir/a", "memory", "etag", 100, 1.0)


def die(mount: Setup) -> None:
    """As `kill -9`: the locks are gone, the files stay."""
    instance = mount.files._instance
    assert instance is not None
    os.close(instance.lock)
    instance.lock = -1


async def test_bytes_of_a_dead_mount_go_to_lost_and_found_with_their_key(
    make: Make, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with make(aclose=False) as dead:
        dead.put("edited", b"0123456789" * 10)
        new = await dead.open("dir/new", "w", number=1)
        await dead.files.write(new, 0, b"never stored")
        edited = await dead.open("edited", number=2)
        await dead.files.write(edited, 5, b"ABC")
        await dead.files.write(edited, 50, b"DEF")
        await dead.files.truncate(InodeNumber(2), "edited", None, 52, edited)
        stored = await dead.open("stored", "w", number=3)
        await dead.files.write(stored, 0, b"in the bucket")
        await dead.files.flush(stored)
        die(dead)
    async with make(dead.store) as mount:
        lost = {entry.key: entry for entry in mount.files.lost_and_found()}
        assert set(lost) == {"dir/new", "edited"}
        assert lost["dir/new"].whole
        assert Path(lost["dir/new"].data).read_bytes() == b"never stored"
        edit = lost["edited"]
        assert (edit.whole, edit.ranges, edit.size) == (False, [(5, 8), (50, 52)], 52)
        assert (edit.base_limit, edit.base_size) == (52, 100)
        assert edit.etag == mount.version("edited").etag  # type: ignore[union-attr]
        assert Path(edit.data).read_bytes()[5:8] == b"ABC"
    assert sum("was not stored" in record.getMessage() for record in caplog.records) == 2
    assert list((mount.state_dir / "instances").iterdir()) == []


async def test_a_living_mount_keeps_what_is_its_own(make: Make, autojump_clock: MockClock) -> None:
    async with make() as one:
        handle = await one.open("a", "w")
        await one.files.write(handle, 0, b"abc")
        async with make(one.store) as two:
            assert two.lost() == []
        await one.close(handle)
        assert one.body("a") == b"abc"


async def test_what_belongs_to_another_store_is_left_alone(
    make: Make, autojump_clock: MockClock
) -> None:
    async with make(aclose=False, identity="one") as dead:
        handle = await dead.open("a", "w")
        await dead.files.write(handle, 0, b"abc")
        die(dead)
    async with make(identity="two") as other:
        assert other.lost() == []
    async with make(identity="one") as mount:
        assert mount.lost() == ["a"]


async def test_uploads_and_copies_of_a_dead_mount_are_removed_from_the_store(
    make: Make, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlinked, "FETCHED_BYTES", 1 * KIB)
    async with make(aclose=False) as dead:
        handle = await dead.open("a", "w")
        for index in range(40):
            await dead.files.write(handle, index * 16 * KIB, bytes(16 * KIB))
        dead.put("removed", bytes(100 * KIB))
        await dead.open("removed", number=2)
        await dead.files.keep_unlinked(InodeNumber(2))
        await dead.store.delete("removed")
        await trio.testing.wait_all_tasks_blocked()
        assert dead.uploads() == 1
        assert len(dead.bucket.bucket("bucket").objects) == 1
        die(dead)
    async with make(dead.store) as mount:
        await mount.files.drain(5)
        assert mount.uploads() == 0
        assert mount.bucket.bucket("bucket").objects == {}
        assert mount.lost() == ["a"]


async def test_a_file_that_was_in_lost_and_found_already_is_there_once(
    make: Make, autojump_clock: MockClock
) -> None:
    async with make(aclose=False) as dead:
        handle = await dead.open("a")
        await dead.files.write(handle, 0, b"ours")
        dead.put("a", b"theirs")
        with pytest.raises(ObjectChanged):
            await dead.files.flush(handle)
        await dead.files.write(handle, 4, b" and more")
        die(dead)
    async with make(dead.store) as mount:
        (lost,) = mount.files.lost_and_found()
        assert Path(lost.data).read_bytes() == b"ours and more"
        assert lost.ranges == [(0, 13)]


async def test_a_newer_state_directory_is_refused_by_name(
    make: Make, tmp_path: Path, autojump_clock: MockClock
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "format").write_text("2\n")
    with pytest.raises(ConfigError, match="state format '2'"):
        instances.claim(tmp_path / "state", "memory")


async def test_only_the_owner_may_look(mount: Setup) -> None:
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"secret")
    for path in mount.state_dir.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0 or path.name in ("format", "owner.json"), path
        if path.is_dir():
            assert mode == 0o700
    await mount.close(handle)


async def test_what_lost_and_found_holds_is_not_used_for_other_files(
    autojump_clock: MockClock, mount: Setup
) -> None:
    handle = await mount.open("a")
    await mount.files.write(handle, 0, b"ours")
    mount.put("a", b"theirs")
    with pytest.raises(ObjectChanged):
        await mount.close(handle)
    await mount.store_file("a", b"decided")
    await mount.files.write(await mount.open("b", number=2), 0, b"another")
    (lost,) = mount.files.lost_and_found()
    assert Path(lost.data).read_bytes() == b"ours"


# -- the staging file and its log ------------------------------------------------------------------


def staging(tmp_path: Path) -> Staging:
    return Staging(tmp_path, "1", HEADER, trio.CapacityLimiter(1))


async def test_a_log_says_again_what_was_written(tmp_path: Path) -> None:
    staged = staging(tmp_path)
    await staged.write(10, b"abc")
    await staged.write(200, b"x" * 10)
    await staged.truncate(205)
    staged.upload("u1", "dir/a", begun=True)
    staged.upload("u2", "dir/a", begun=True)
    staged.upload("u1", "dir/a", begun=False)
    staged.kept_as("stem")
    record = parse_log(staged.log_path.read_bytes())
    assert record == staged.record
    assert record is not None and record.uploads == {"u2": "dir/a"}
    staged.remove()
    assert list(tmp_path.iterdir()) == []


async def test_a_line_that_was_cut_off_is_as_if_never_written(tmp_path: Path) -> None:
    staged = staging(tmp_path)
    await staged.write(0, b"abc")
    data = staged.log_path.read_bytes() + b"w 10 9"
    record = parse_log(data)
    assert record is not None and list(record.content.staged) == [ByteRange(0, 3)]
    assert parse_log(b'{"format": 1') is None
    assert parse_log(json.dumps({"format": 9}).encode() + b"\n") is None
    staged.remove()


async def test_a_log_of_many_writes_stays_short(tmp_path: Path) -> None:
    staged = staging(tmp_path)
    for offset in range(3 * LOG_LINES):
        await staged.write(offset, b"x")
    assert len(staged.log_path.read_bytes().splitlines()) <= LOG_LINES + 10
    assert parse_log(staged.log_path.read_bytes()) == staged.record
    staged.remove()


def test_the_shortest_log_says_the_same() -> None:
    content = Content.stored(100)
    content.truncate(50)
    content.truncate(80)
    content.write(ByteRange(70, 75))
    record = Record(HEADER, content, {"u": "k"}, "stem", True, ".storefs/unlinked/x")
    assert parse_log(whole_log(record).encode()) == record


async def test_a_mapped_part_stays_valid_when_the_file_is_cut(tmp_path: Path) -> None:
    staged = staging(tmp_path)
    await staged.write(0, b"begin")
    await staged.write(MAPPED_BYTES, b"end")
    view = await staged.view(ByteRange(0, MAPPED_BYTES + 4096))
    await staged.truncate(3)
    assert bytes(view[:5]) == b"begin"
    assert bytes(view[MAPPED_BYTES : MAPPED_BYTES + 4]) == b"end\0"
    assert await staged.read(ByteRange(0, 8)) == b"beg\0\0\0\0\0"
    staged.remove()
