"""What keeps the cache directory in order: opening its index, evicting, sweeping.

Plain functions over an `Index` and the directory, used by `cache.disk` alone, under its lock. Each
leaves the directory usable wherever it is interrupted. The danger is deleting what another mount
has just written: a file without a row is left alone for an hour.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import sqlite3
import time
from typing import TYPE_CHECKING

from storefs.cache import files
from storefs.cache.index import Index

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

SWEEP_SHARDS = 1
"""Directories looked through at a time: 20-40 ms at a million chunks, all of them in 4 hours."""
LEFT_OVER_SECONDS = 3600


def index_path(directory: Path) -> Path:
    """The index's file."""
    return directory / "index.sqlite3"


def index_files(directory: Path) -> tuple[int, ...]:
    """Which files the index is in now: they differ once somebody has deleted one.

    Raises OSError if one is missing. While the index is open its log stays the same file.
    """
    path = index_path(directory)
    found = [os.stat(f"{path}{suffix}") for suffix in ("", "-wal")]
    return tuple(number for file in found for number in (file.st_dev, file.st_ino))


def open_index(directory: Path) -> tuple[Index, tuple[int, ...]]:
    """Open the index below `directory`, making what is missing; its `index_files` too.

    An index that is damaged, or was deleted, is made anew, and the chunks that it counted go to
    the trash. Raises OSError, sqlite3.Error, or ConfigError for a format that is not ours.
    """
    files.make_root(directory)
    with files.locked(directory / "lock"):
        files.check_format(directory)
        path = index_path(directory)
        if not path.exists():
            _start_over(directory)
        try:
            index = _create(directory)
        except sqlite3.DatabaseError as exc:
            if isinstance(exc, sqlite3.OperationalError):  # busy, full, no permission: not damage
                raise
            log.warning("the index of the cache in %s is damaged (%s): made anew", directory, exc)
            _start_over(directory)
            index = _create(directory)
        return index, index_files(directory)


def _create(directory: Path) -> Index:
    files.make_directory(directory / "chunks")
    files.create_private(index_path(directory))
    index = Index(index_path(directory))
    try:
        index.create()
    except sqlite3.Error:
        index.close()
        raise
    return index


def _start_over(directory: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        files.remove_file(f"{index_path(directory)}{suffix}")
    with contextlib.suppress(FileNotFoundError):
        (directory / "chunks").rename(directory / f"trash-{secrets.token_hex(8)}")


def evict(index: Index, chunks: str, excess_bytes: int, limit: int) -> int:
    """Remove the least recently used chunks, at most `limit` of them; how many bytes that freed."""
    freed = 0
    victims = []
    for row in index.oldest(limit):
        if freed >= excess_bytes:
            break
        victims.append((row.token, row.number))
        freed += row.length
    _remove(index, chunks, victims)
    return freed


def drop(index: Index, chunks: str, digest: bytes) -> None:
    """Remove the chunks that only `digest` names."""
    while victims := index.forget(digest, 1000):
        _remove(index, chunks, victims)


def _remove(index: Index, chunks: str, victims: list[tuple[bytes, int]]) -> None:
    for token, number in victims:
        files.remove_file(files.chunk_path(chunks, token, number))
    index.remove(victims)


def sweep(index: Index, directory: Path) -> None:
    """Delete what no row counts: half-written files, the trash, chunks whose row was lost.

    A part of the directory at a time, a random one, because many mounts are short.
    """
    for trash in directory.glob("trash-*"):
        shutil.rmtree(trash, ignore_errors=True)
    first = secrets.randbelow(files.SHARDS // SWEEP_SHARDS) * SWEEP_SHARDS
    for shard in range(first, first + SWEEP_SHARDS):
        sweep_shard(index, directory / "chunks", shard)
    index.remove_idle_aliases()


def sweep_shard(index: Index, chunks: Path, shard: int) -> None:
    """Delete what no row counts from one directory of chunks."""
    directory = chunks / f"{shard:02x}"
    named = []
    for name in _left_over(directory):
        parsed = files.parse_name(name)
        if parsed is not None:
            named.append(parsed)
        elif files.is_aside(name):
            files.remove_file(f"{directory}/{name}")
    for token, number in index.missing(named):
        files.remove_file(files.chunk_path(str(chunks), token, number))


def _left_over(directory: Path) -> list[str]:
    """Names of the files that nobody has written to for an hour."""
    old = time.time() - LEFT_OVER_SECONDS
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.stat().st_mtime < old]
    except FileNotFoundError:
        return []
