"""From what the tree says of an inode to pyfuse3's `EntryAttributes`.

Every field is set: pyfuse3's defaults (no blocks, time-outs of 300 s) make `tar -S` archive zeros
and listings stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyfuse3

from storefs.units import MIB

if TYPE_CHECKING:
    from storefs.tree.tree import Stat

BLOCK_BYTES = 512


def attributes_of(stat: Stat) -> pyfuse3.EntryAttributes:
    """All fields, with what is left of the TTL as time-outs."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(stat.number)
    entry.generation = 0
    entry.entry_timeout = stat.ttl_seconds
    entry.attr_timeout = stat.ttl_seconds
    entry.st_mode = pyfuse3.ModeT(stat.mode)
    entry.st_nlink = stat.nlink
    entry.st_uid = stat.uid
    entry.st_gid = stat.gid
    entry.st_rdev = 0
    entry.st_size = stat.size
    entry.st_blksize = MIB
    entry.st_blocks = -(-stat.size // BLOCK_BYTES)
    entry.st_atime_ns = stat.mtime_ns
    entry.st_mtime_ns = stat.mtime_ns
    entry.st_ctime_ns = stat.ctime_ns
    return entry


def negative(ttl_seconds: float) -> pyfuse3.EntryAttributes:
    """Nothing has the name; the kernel may believe that so long."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.entry_timeout = ttl_seconds
    entry.attr_timeout = ttl_seconds
    return entry


def statfs() -> pyfuse3.StatvfsData:
    """A bucket has no size: 1 PiB, all free, so that `df` shows it and installers agree."""
    data = pyfuse3.StatvfsData()
    data.f_bsize = 4096
    data.f_frsize = 4096
    data.f_blocks = data.f_bfree = data.f_bavail = 1024**5 // 4096
    data.f_files = data.f_ffree = data.f_favail = 1 << 40
    data.f_namemax = 255
    return data
