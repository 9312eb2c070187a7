"""What happens to the cache directory, and that nobody gets a wrong byte of it."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storefs.cache import disk as disk_module
from storefs.cache import files, upkeep
from tests.cache.disks import (
    VERSION,
    build,
    chunk_files,
    data,
    full,
    get,
    have,
    put,
    sweep_all,
)
from tests.cache.sources import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.cache.disk import ChunkDisk


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


@pytest.mark.parametrize("what", [".", "chunks", "chunks/*", "index.sqlite3", "index.sqlite3-wal"])
def test_anything_may_be_deleted_while_it_is_in_use(
    disk: ChunkDisk, directory: Path, what: str
) -> None:
    put(disk, *range(20))
    for path in directory.glob(what) if "*" in what else [directory / what]:
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


def test_a_full_disk_at_the_start_is_a_warning_and_tried_again(
    directory: Path,
    clock: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = build(directory)
    with pytest.MonkeyPatch.context() as patch:
        full(patch, files, "make_directory")
        disk.open()
        assert put(disk, 1) == 0
        assert have(disk) == []
    clock(disk_module.PAUSE_SECONDS + 1)
    assert put(disk, 1) == 1
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


def test_files_that_no_row_counts_are_swept_after_an_hour(
    disk: ChunkDisk, directory: Path, clock: Callable[[float], None]
) -> None:
    put(disk, 1, 2)
    token, _ = disk.find(VERSION, 0, 10)
    stray = files.chunk_path(str(directory / "chunks"), token, 1)
    half = Path(stray).parent / ".aside-0"
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
