"""The disk of a cache as tests use it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from storefs.cache import files, upkeep
from storefs.cache.chunks import ObjectVersion
from storefs.cache.disk import ChunkDisk
from tests.cache.sources import CHUNK

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

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


def chunk_files(directory: Path) -> list[Path]:
    return [path for path in (directory / "chunks").rglob("*") if path.is_file()]


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
