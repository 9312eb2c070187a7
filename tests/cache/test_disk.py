"""Chunks on disk, called as the worker threads call it: no async, no store."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from storefs.cache.disk import ChunkDisk
from storefs.errors import ConfigError
from tests.cache.disks import (
    OTHER,
    VERSION,
    build,
    chunk_files,
    data,
    get,
    have,
    put,
)
from tests.cache.sources import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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


def test_a_closed_disk_is_a_miss_and_closes_again(disk: ChunkDisk) -> None:
    put(disk, 1)
    disk.close()
    disk.close()
    assert have(disk) == []
