"""Chunks on disk, called as the worker threads call it: no async, no store."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
import stat
import time
from typing import TYPE_CHECKING

import pytest

from storefs.cache import disk as disk_module
from storefs.cache import files, upkeep
from storefs.cache.chunks import ObjectVersion
from storefs.cache.disk import ChunkDisk
from storefs.errors import ConfigError
from tests.cache.sources import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VERSION = ObjectVersion("k", "e", 100 * CHUNK)
OTHER = ObjectVersion("other", "e", 100 * CHUNK)


def data(index: int) -> bytes:
    return bytes([index % 251]) * CHUNK


def build(directory: Path, *, chunks: int = 1000, min_free_bytes: int = 0) -> ChunkDisk:
    return ChunkDisk(
        directory,
        "test",
        chunk_bytes=CHUNK,
        size_bytes=chunks * CHUNK,
        min_free_bytes=min_free_bytes,
    )


def put(disk: ChunkDisk, *indexes: int, version: ObjectVersion = VERSION) -> int:
    return len(disk.write([(version, index, data(index)) for index in indexes]))


def get(disk: ChunkDisk, *indexes: int, version: ObjectVersion = VERSION) -> dict[int, bytes]:
    token, found = disk.find(version, 0, 1024)
    return disk.read(token, [(index, CHUNK) for index in indexes if index in found])


def have(disk: ChunkDisk, version: ObjectVersion = VERSION) -> list[int]:
    return disk.find(version, 0, 1024)[1]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def disk(directory: Path) -> Iterator[ChunkDisk]:
    found = build(directory)
    found.open()
    yield found
    found.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Seconds that passed, for all who ask the time of day."""
    passed = 0.0
    began = time.time()

    def pass_time(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    monkeypatch.setattr(time, "time", lambda: began + passed)
    monkeypatch.setattr(time, "monotonic", lambda: passed)
    return pass_time


def chunk_files(directory: Path) -> list[Path]:
    return [path for path in (directory / "chunks").rglob("*") if path.is_file()]


def test_what_was_written_is_read(disk: ChunkDisk) -> None:
    assert put(disk, 0, 3) == 2
    assert get(disk, 0, 1, 3) == {0: data(0), 3: data(3)}
    assert disk.size_bytes == 2 * CHUNK


def test_it_is_kept_across_mounts(disk: ChunkDisk, directory: Path) -> None:
    put(disk, 1)
    disk.close()
    again = build(directory)
    again.open()
    assert get(again, 1) == {1: data(1)}
    assert again.size_bytes == CHUNK
    again.close()


def test_another_bucket_finds_nothing_of_this_one(disk: ChunkDisk, directory: Path) -> None:
    put(disk, 1)
    other = ChunkDisk(
        directory, "other", chunk_bytes=CHUNK, size_bytes=10 * CHUNK, min_free_bytes=0
    )
    other.open()
    assert have(other) == []
    other.close()


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_nobody_else_can_read_it_whatever_the_umask(directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        disk = build(directory)
        disk.open()
        put(disk, 1, 2, 3)
    finally:
        os.umask(before)
    for path in [directory, *directory.rglob("*")]:
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
    assert len(chunk_files(directory)) == 3
    disk.close()


def test_an_empty_directory_is_closed_to_others(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o755)
    disk = build(directory)
    disk.open()
    disk.close()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_directory_with_other_things_in_it_keeps_its_mode(directory: Path) -> None:
    """`--cache-dir /tmp` must not take /tmp from everybody."""
    directory.mkdir()
    directory.chmod(0o777)
    (directory / "letter").write_text("mine")
    disk = build(directory)
    disk.open()
    put(disk, 1)
    disk.close()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o777
    assert (directory / "letter").read_text() == "mine"
    assert stat.S_IMODE((directory / "chunks").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"x",
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
        lambda raw: bytes([raw[0] ^ 1]) + raw[1:],
        lambda raw: raw[:30],
        lambda raw: b"",
    ],
    ids=["short", "long", "a bit of the data", "a bit of the header", "header cut", "empty"],
)
def test_a_bad_chunk_is_dropped_and_said(
    disk: ChunkDisk,
    directory: Path,
    spoil: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(disk, 1, 2)
    token, _ = disk.find(VERSION, 0, 10)
    path = directory / "chunks" / files.chunk_path("", token, 1).lstrip("/")
    path.write_bytes(spoil(path.read_bytes()))
    assert get(disk, 1, 2) == {2: data(2)}
    assert "fetched again" in caplog.text
    assert not path.exists()
    assert have(disk) == [2]
    assert put(disk, 1) == 1
    assert get(disk, 1) == {1: data(1)}


def test_a_chunk_under_another_chunks_name_is_not_believed(
    disk: ChunkDisk, directory: Path
) -> None:
    put(disk, 1, 2)
    token, _ = disk.find(VERSION, 0, 10)
    chunks = str(directory / "chunks")
    shutil.copy(files.chunk_path(chunks, token, 1), files.chunk_path(chunks, token, 2))
    assert get(disk, 1, 2) == {1: data(1)}


@pytest.mark.parametrize("what", [".", "chunks", "tmp", "index.sqlite3", "index.sqlite3-wal"])
def test_anything_may_be_deleted_while_it_is_in_use(
    disk: ChunkDisk, directory: Path, what: str
) -> None:
    put(disk, *range(20))
    path = directory / what
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for index, found in get(disk, *range(20)).items():
        assert found == data(index)
    for _ in range(2):  # the first may find out, the second must work
        put(disk, 50)
    assert get(disk, 50) == {50: data(50)}
    assert all(found == data(index) for index, found in get(disk, *range(20)).items())


def test_chunks_that_lost_their_index_are_swept_away(disk: ChunkDisk, directory: Path) -> None:
    put(disk, *range(5))
    (directory / "index.sqlite3").unlink()
    put(disk, 50)
    disk.maintain()
    assert len(chunk_files(directory)) == 1
    assert not list(directory.glob("trash-*"))
    assert disk.size_bytes == CHUNK


def test_a_damaged_index_is_made_anew(
    disk: ChunkDisk, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(disk, 1)
    disk.close()
    (directory / "index.sqlite3").write_bytes(b"no database at all" * 1000)
    again = build(directory)
    again.open()
    assert "damaged" in caplog.text
    assert have(again) == []
    assert put(again, 1) == 1
    assert get(again, 1) == {1: data(1)}
    again.close()


def test_an_index_damaged_while_in_use_raises_nothing_and_heals(
    disk: ChunkDisk, directory: Path
) -> None:
    put(disk, *range(50))
    for name in ("index.sqlite3", "index.sqlite3-wal"):
        path = directory / name
        with path.open("r+b") as file:
            file.write(b"\xff" * path.stat().st_size)
    for _ in range(4):
        put(disk, 60)
        assert all(found == data(index) for index, found in get(disk, 1, 2, 60).items())
    disk.close()
    again = build(directory)
    again.open()
    assert put(again, 60) == 1
    assert get(again, 60) == {60: data(60)}
    again.close()


@pytest.mark.parametrize("found", ["2\n", "99", "nonsense"])
def test_a_format_that_is_not_ours_is_refused_by_name_and_kept(directory: Path, found: str) -> None:
    directory.mkdir()
    (directory / "format").write_text(found)
    (directory / "chunks").mkdir()
    with pytest.raises(ConfigError, match=str(directory)):
        build(directory).open()
    assert (directory / "format").read_text() == found
    assert (directory / "chunks").is_dir()


def test_a_file_in_the_directorys_place_is_the_users_mistake(directory: Path) -> None:
    directory.write_text("a file")
    with pytest.raises(ConfigError, match="--cache-dir"):
        build(directory).open()


def test_a_full_disk_at_the_start_is_a_warning_and_tried_again(
    directory: Path,
    clock: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    full(monkeypatch, files, "make_directory")
    disk = build(directory)
    disk.open()
    assert put(disk, 1) == 0
    assert have(disk) == []
    monkeypatch.undo()
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1


def test_a_full_disk_stops_the_caching_with_one_warning_until_there_is_room(
    disk: ChunkDisk,
    clock: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    put(disk, 1)
    with pytest.MonkeyPatch.context() as patch:
        full(patch, files, "write_chunk")
        for index in range(10, 20):
            assert put(disk, index) == 0
            clock(disk_module.PAUSE_SECONDS + 1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "No space left" in caplog.text
    assert put(disk, 2) == 1
    assert get(disk, 1, 2) == {1: data(1), 2: data(2)}
    assert "again" in caplog.text
    assert disk.size_bytes == 2 * CHUNK


def test_the_least_recently_used_chunks_are_evicted_first(
    directory: Path, clock: Callable[[float], None]
) -> None:
    disk = build(directory, chunks=10)
    disk.open()
    for index in range(10):
        put(disk, index)
        clock(1)
    get(disk, 0, 1)
    put(disk, 20, 21, 22)
    assert have(disk) == [0, 1, 5, 6, 7, 8, 9, 20, 21, 22]
    assert disk.size_bytes == 10 * CHUNK
    assert len(chunk_files(directory)) == 10
    disk.close()


def test_the_limit_counts_what_all_mounts_have_stored(directory: Path) -> None:
    one, two = build(directory, chunks=10), build(directory, chunks=10)
    one.open()
    two.open()
    for index in range(20):
        put(one, index)
        put(two, index, version=OTHER)
    assert len(chunk_files(directory)) == 10
    one.maintain()
    two.maintain()
    assert one.size_bytes == two.size_bytes == 10 * CHUNK
    one.close()
    two.close()


def test_two_mounts_find_each_others_chunks(disk: ChunkDisk, directory: Path) -> None:
    two = build(directory)
    two.open()
    put(disk, 1)
    assert get(two, 1) == {1: data(1)}
    assert put(two, 1) == 1
    assert disk.size_bytes == two.size_bytes == CHUNK
    two.close()


def test_one_mount_goes_on_after_the_other_has_made_the_index_anew(
    disk: ChunkDisk, directory: Path
) -> None:
    two = build(directory)
    two.open()
    put(disk, 1)
    put(two, 2)
    shutil.rmtree(directory)
    put(two, 3)
    put(disk, 4)
    assert get(disk, 3, 4) == get(two, 3, 4) == {3: data(3), 4: data(4)}
    two.close()


def test_nothing_is_kept_when_too_little_is_free(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = build(directory, min_free_bytes=1 << 60)
    disk.open()
    assert put(disk, 1) == 0
    assert put(disk, 2) == 0
    assert chunk_files(directory) == []
    assert caplog.text.count("--cache-min-free") == 1
    disk.close()


def test_chunks_make_room_when_others_fill_the_disk(
    disk: ChunkDisk, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(disk, *range(10))
    disk.close()
    free = os.statvfs(directory)
    tight = build(directory, min_free_bytes=free.f_bavail * free.f_frsize)
    tight.open()
    monkeypatch.setattr(
        os,
        "statvfs",
        lambda path: os.statvfs_result(
            (*free[:4], free.f_bavail - 3 * CHUNK // free.f_frsize, *free[5:])
        ),
    )
    tight.maintain()
    assert len(chunk_files(directory)) == 7
    tight.close()


def test_a_chunk_evicted_by_the_other_mount_is_a_miss(disk: ChunkDisk, directory: Path) -> None:
    put(disk, 1)
    token, found = disk.find(VERSION, 0, 10)
    two = build(directory)
    two.open()
    two.drop_nowait(VERSION)
    two.maintain()
    assert found == [1]
    assert disk.read(token, [(1, CHUNK)]) == {}
    two.close()


def test_a_renamed_version_keeps_its_chunks_when_the_old_name_is_dropped(disk: ChunkDisk) -> None:
    put(disk, 1)
    disk.rename_nowait(VERSION, OTHER)
    disk.drop_nowait(VERSION)
    assert get(disk, 1, version=OTHER) == {1: data(1)}
    disk.drop_nowait(OTHER)
    assert have(disk, OTHER) == []


def test_a_dropped_version_leaves_no_file(disk: ChunkDisk, directory: Path) -> None:
    put(disk, *range(10))
    disk.drop_nowait(VERSION)
    disk.maintain()
    assert chunk_files(directory) == []
    assert disk.size_bytes == 0


def test_files_that_no_row_counts_are_swept_after_an_hour(
    disk: ChunkDisk, directory: Path, clock: Callable[[float], None]
) -> None:
    put(disk, 1, 2)
    token, _ = disk.find(VERSION, 0, 10)
    stray = files.chunk_path(str(directory / "chunks"), token, 1)
    half = directory / "tmp" / "half"
    half.write_bytes(b"x")
    with sqlite3.connect(directory / "index.sqlite3") as db:
        db.execute("DELETE FROM chunks WHERE number = 1")
    db.close()
    sweep_all(disk, directory)
    assert os.path.exists(stray)
    clock(upkeep.LEFT_OVER_SECONDS + 60)
    sweep_all(disk, directory)
    assert not os.path.exists(stray)
    assert not half.exists()
    assert get(disk, 2) == {2: data(2)}


def test_a_row_whose_file_is_gone_is_removed_once_it_is_no_longer_new(
    disk: ChunkDisk, directory: Path, clock: Callable[[float], None]
) -> None:
    put(disk, 1)
    for path in chunk_files(directory):
        path.unlink()
    get(disk, 1)
    assert have(disk) == [1]  # another mount may be writing it
    clock(3600)
    get(disk, 1)
    assert have(disk) == []


def test_a_closed_disk_is_a_miss_and_closes_again(disk: ChunkDisk) -> None:
    put(disk, 1)
    disk.close()
    disk.close()
    assert have(disk) == []


def sweep_all(disk: ChunkDisk, directory: Path) -> None:
    disk.maintain()
    index, _ = upkeep.open_index(directory)
    for shard in range(files.SHARDS):
        upkeep.sweep_shard(index, directory / "chunks", shard)
    index.close()


def full(patch: pytest.MonkeyPatch, module: object, name: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(module, name, fail)
