"""Take a mount off its directory, and tell who keeps it busy.

Used by `umount` and, for a mount whose daemon is dead, by `mount`. It reads /proc only by its links
and never enters the mount, so that a stuck daemon cannot stop it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from storefs import mounttable
from storefs.errors import ConfigError

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
_FUSERMOUNT_SECONDS = 30


class MountBusy(Exception):
    """Processes still use the mount."""


@dataclass(frozen=True, slots=True)
class User:
    """A process that keeps a mount busy, and by what: `directory`, `file`, `program`, `mapping`."""

    pid: int
    name: str
    by: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}, {self.by})"


def detach(mountpoint: str, *, lazy: bool) -> None:
    """Unmount. With `lazy` the name goes at once and the rest when nobody uses it any more.

    Raises MountBusy, or ConfigError with the reason.
    """
    if os.geteuid() == 0:
        _detach_as_root(mountpoint, lazy=lazy)
    else:
        _detach_as_user(mountpoint, lazy=lazy)


def _detach_as_root(mountpoint: str, *, lazy: bool) -> None:
    # Not umount(8): it would look for helpers, and one of them may have called us.
    libc = ctypes.CDLL(None, use_errno=True)
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    if libc.umount2(os.fsencode(mountpoint), flags) == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EBUSY:
        raise MountBusy(mountpoint)
    raise ConfigError(f"cannot unmount {mountpoint}: {os.strerror(number)}")


def _detach_as_user(mountpoint: str, *, lazy: bool) -> None:
    entry = mounttable.find(mountpoint)
    if entry is not None and entry.user_id not in (None, os.getuid()):
        who = "root" if entry.user_id == 0 else f"another user (uid {entry.user_id})"
        raise ConfigError(f"{mountpoint} was mounted by {who}: unmount it with sudo")
    program = shutil.which("fusermount3") or shutil.which("fusermount")
    if program is None:
        raise ConfigError("fusermount3 is missing: install the package fuse3")
    command = [program, "-u", *(["-z"] if lazy else []), "--", mountpoint]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_FUSERMOUNT_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"{mountpoint} does not answer: try again with --lazy, or end its daemon"
        ) from None
    if done.returncode == 0 or mounttable.find(mountpoint) is None:
        return
    said = " ".join(os.fsdecode(done.stderr).split())
    if os.strerror(errno.EBUSY) in said or "Device or resource busy" in said:
        raise MountBusy(mountpoint)
    raise ConfigError(f"cannot unmount {mountpoint}: {said or 'fusermount3 gave no reason'}")


def users(mountpoint: str) -> list[User]:
    """Processes that use it, as far as we may look: another user's are hidden from all but root.

    Memory maps are read only if nothing else was found: the read waits for a process that is stuck
    in a page of the mount.
    """
    entry = mounttable.find(mountpoint)
    processes = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    found = [user for pid in sorted(processes) for user in _uses(pid, mountpoint)]
    if found or entry is None:
        return found
    return [user for pid in sorted(processes) for user in _maps(pid, entry.device)]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _uses(pid: int, mountpoint: str) -> list[User]:
    """One entry at most: the first thing that points into the mount."""
    base = f"/proc/{pid}"
    try:
        handles = os.listdir(f"{base}/fd")
    except OSError:
        handles = []
    links = [("cwd", "directory"), ("root", "directory"), ("exe", "program")]
    links += [(f"fd/{number}", "file") for number in handles]
    for link, by in links:
        target = _link(f"{base}/{link}").removesuffix(" (deleted)")
        if target and mounttable.is_inside(target, mountpoint):
            return [User(pid, _name(pid), by)]
    return []


def _maps(pid: int, device: tuple[int, int]) -> list[User]:
    wanted = f"{device[0]:02x}:{device[1]:02x}".encode()
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            for line in file:
                if line.split(None, 5)[3:4] == [wanted]:
                    return [User(pid, _name(pid), "mapping")]
    except OSError:
        pass
    return []


def describe_users(found: list[User]) -> str:
    """Their names in one phrase, or where to look if none may be seen."""
    if not found:
        return "by processes of other users (look as root)" if os.geteuid() else "by the kernel"
    shown = ", ".join(str(user) for user in found[:5])
    return f"by {shown}" + (f" and {len(found) - 5} more" if len(found) > 5 else "")
