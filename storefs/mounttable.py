"""The kernel's mount table, read without touching what is mounted.

Used by `control` and by the commands. Knows /proc/self/mountinfo and nothing of storefs's daemons.
The danger is a mount whose daemon is stuck: one `stat` on it may never return, not even to SIGKILL,
so `resolve` follows links without entering a mount and `probe` asks from a process of its own, and
with statfs: a `stat` of a dead mount is answered from the kernel's cache while its time-out lasts.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FSTYPE = "fuse.storefs"
MOUNTINFO = Path("/proc/self/mountinfo")
PROBE_SECONDS = 2.0
_MAX_LINKS = 40  # as the kernel's MAXSYMLINKS
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_PROBE = """\
import os, sys
try: os.statvfs(sys.argv[1])
except OSError as exc: sys.exit(exc.errno or 1)
"""


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of the table. `device` is (major, minor), as in `st_dev` and /proc/PID/maps."""

    mountpoint: str
    source: str
    fstype: str
    device: tuple[int, int]
    user_id: int | None = None

    @property
    def is_storefs(self) -> bool:
        """Mounted by storefs."""
        return self.fstype == FSTYPE


def _unescape(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), field))


def parse(text: bytes) -> list[MountEntry]:
    """The entries of a mountinfo file, in the order in which they were mounted."""
    entries = []
    for line in text.splitlines():
        fields = line.split(b" ")
        try:
            dash = fields.index(b"-", 6)
            major, _, minor = fields[2].partition(b":")
            device = (int(major), int(minor))
            fstype, source = fields[dash + 1], fields[dash + 2]
        except (ValueError, IndexError):
            continue  # a line of a form that this kernel alone knows
        user = re.search(rb"(?:^|,)user_id=(\d+)", fields[-1])
        entries.append(
            MountEntry(
                mountpoint=_unescape(fields[4]),
                source=_unescape(source),
                fstype=os.fsdecode(fstype),
                device=device,
                user_id=int(user[1]) if user else None,
            )
        )
    return entries


def read() -> list[MountEntry]:
    """The table of this process's mount namespace; empty where there is no /proc."""
    try:
        return parse(MOUNTINFO.read_bytes())
    except FileNotFoundError:
        return []


def find(mountpoint: str, table: list[MountEntry] | None = None) -> MountEntry | None:
    """What is mounted at exactly this resolved path; the uppermost where there are several."""
    for entry in reversed(read() if table is None else table):
        if entry.mountpoint == mountpoint:
            return entry
    return None


def containing(path: str, table: list[MountEntry] | None = None) -> MountEntry | None:
    """The mount that a resolved path lies in: the longest mount point that is a prefix of it."""
    best: MountEntry | None = None
    for entry in read() if table is None else table:
        longest = len(best.mountpoint) if best is not None else 0
        if is_inside(path, entry.mountpoint) and len(entry.mountpoint) >= longest:
            best = entry
    return best


def is_inside(path: str, directory: str) -> bool:
    """True for the directory itself and all below it; both resolved."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def resolve(path: str, table: list[MountEntry] | None = None) -> str:
    """The absolute path without links, never looking inside a mount of storefs.

    Names below such a mount, and names that do not exist, are kept as they are.
    """
    mounts = {
        entry.mountpoint for entry in (read() if table is None else table) if entry.is_storefs
    }
    absolute = os.path.join(os.getcwd(), path) if not os.path.isabs(path) else path
    done, rest = "/", _components(absolute)
    links = 0
    while rest:
        name = rest.pop(0)
        if name == "..":
            done = os.path.dirname(done)
            continue
        here = os.path.join(done, name)
        if any(is_inside(here, mount) for mount in mounts):
            done = here
            continue
        try:
            target = os.readlink(here)
        except OSError:  # no link, or nothing there
            done = here
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        rest = _components(target) + rest
        if target.startswith("/"):
            done = "/"
    return done


def _components(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def probe(mountpoint: str, timeout_seconds: float = PROBE_SECONDS) -> int | None:
    """The errno that statfs gives there, 0 if it answers well, None if it does not answer.

    A stuck probe is left behind: it ends when the mount answers or goes.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROBE, mountpoint],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        return process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return None


def is_dead(mountpoint: str) -> bool:
    """True for "Transport endpoint is not connected": the daemon is gone, the mount is not."""
    return probe(mountpoint) in (errno.ENOTCONN, errno.ECONNABORTED)
