"""The cache directory as files: one chunk a file, written aside and renamed, checked when read.

Used by `cache.disk` alone, in worker threads. Knows no index and no limit. Layout below the cache
directory:

    format          the number of this layout; an unknown one is refused, never discarded
    lock            flock, held while the index is opened or made anew
    index.sqlite3   see `cache.index`
    chunks/3f/...   one file a chunk, spread over 256 directories; `.aside-*` is half-written
    trash-*         what lost its index; deleted in the background

The danger is bytes of another chunk under this chunk's name (a lost index, a copy by hand, a torn
write): each file begins with what it claims to be and a checksum over claim and bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import struct
import zlib
from typing import TYPE_CHECKING

from storefs.errors import ChunkCorrupt, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = 1
SHARDS = 256
"""Directories of chunks: some 4,000 files in each at a million chunks."""

_CLAIM = struct.Struct(">8s16sQQ")  # magic, token, number, length
_CHECKSUM = struct.Struct(">I")  # CRC-32 of claim and bytes
_MAGIC = b"storefs1"
_ASIDE = ".aside-"
_HEADER_BYTES = _CLAIM.size + _CHECKSUM.size


def make_directory(path: Path) -> None:
    """Make a directory that is ours alone, whatever the umask; one that is there stays as it is."""
    try:
        path.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(0o700)


def make_root(directory: Path) -> None:
    """Make the cache directory and close it to others.

    One that is there is closed too if it is empty or a cache already; a directory with other
    things in it (somebody said `--cache-dir /tmp`) keeps its mode, and what we put there is closed.
    """
    make_directory(directory)
    ours = not any(directory.iterdir()) or (directory / "format").exists()
    if ours and directory.stat().st_uid == os.geteuid():
        directory.chmod(0o700)


def create_private(path: Path) -> None:
    """Make an empty file of mode 0600, whatever the umask, if there is none."""
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(fd, 0o600)
        finally:
            os.close(fd)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; another mount waits, for the milliseconds that opening takes."""
    create_private(path)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def check_format(directory: Path) -> None:
    """Write the format's number, or compare it. Raises ConfigError naming the directory."""
    path = directory / "format"
    try:
        text = path.read_text("ascii", "replace").strip()
    except FileNotFoundError:
        text = ""
    if not text:  # new, or its writer died with the machine
        aside = directory / f"format.{secrets.token_hex(8)}"
        create_private(aside)
        aside.write_text(f"{FORMAT}\n")
        aside.replace(path)
    elif text != str(FORMAT):
        raise ConfigError(
            f"the cache directory {directory} has format {text[:20]!r}, this storefs knows"
            f" {FORMAT}: use the newer storefs, or give another --cache-dir"
        )


def shard_of(token: bytes, number: int) -> int:
    """The directory in which a chunk lies: chunks of one large object spread over all."""
    return (int.from_bytes(token[:4], "big") + number) % SHARDS


def chunk_path(chunks: str, token: bytes, number: int) -> str:
    """Where a chunk lies below the directory `chunks`."""
    return f"{chunks}/{shard_of(token, number):02x}/{token.hex()}-{number:x}"


def parse_name(name: str) -> tuple[bytes, int] | None:
    """Token and number in a chunk's file name; None for a name that is none."""
    token, dash, number = name.partition("-")
    try:
        return (bytes.fromhex(token), int(number, 16)) if dash and len(token) == 32 else None
    except ValueError:
        return None


def read_chunk(chunks: str, token: bytes, number: int, length: int) -> bytes:
    """The chunk's bytes. Raises OSError if it is not there, ChunkCorrupt if it is not what we need.

    Two reads, so that the bytes come without a copy.
    """
    path = chunk_path(chunks, token, number)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = os.read(fd, _HEADER_BYTES)
        data = os.read(fd, length + 1)
    finally:
        os.close(fd)
    claim = _CLAIM.pack(_MAGIC, token, number, length)
    expected = claim + _CHECKSUM.pack(zlib.crc32(data, zlib.crc32(claim)))
    if len(data) != length or header != expected:
        raise ChunkCorrupt(f"{path}: checksum or length is wrong")
    return data


def write_chunk(chunks: str, token: bytes, number: int, data: bytes) -> None:
    """Put a chunk in place, whole or not at all. Raises OSError; nothing is left aside then.

    No fsync: what a power cut tears, the checksum finds. It is written aside in its own directory,
    where creating a file costs a third of what it costs in one directory for all (ext4).
    """
    claim = _CLAIM.pack(_MAGIC, token, number, len(data))
    header = claim + _CHECKSUM.pack(zlib.crc32(data, zlib.crc32(claim)))
    path = chunk_path(chunks, token, number)
    shard = os.path.dirname(path)
    aside = f"{shard}/{_ASIDE}{secrets.token_hex(12)}"
    try:
        fd = _create(aside)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(shard, 0o700)
        os.chmod(shard, 0o700)
        fd = _create(aside)
    try:
        try:
            os.fchmod(fd, 0o600)
            done = os.writev(fd, (header, data)) - len(header)
            while done < len(data):  # a nearly full disk takes less, then says so
                done += os.write(fd, memoryview(data)[max(done, 0) :])
        finally:
            os.close(fd)
        os.rename(aside, path)
    except BaseException:
        remove_file(aside)
        raise


def is_aside(name: str) -> bool:
    """Is this the name of a chunk that is being written, or was when its writer died?"""
    return name.startswith(_ASIDE)


def _create(path: str) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)


def remove_file(path: str) -> None:
    """Delete a file that may be gone already."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)
