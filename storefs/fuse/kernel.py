"""What a mount asks of the kernel beside FUSE's own protocol: larger queues, read-ahead, detaching.

All of it is a wish: without root it is not granted and the mount works with the kernel's defaults.
"""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)

MAX_BACKGROUND = 512
"""The kernel's default is 12: twelve reads that wait for the store then stop the whole mount (a
cached file took 15 s behind 14 stuck ones, 0.04 s with a larger queue)."""

READ_AHEAD_KIB = 4096
"""128 KiB by default: too little to keep several ranged requests in flight."""

CONNECTIONS = Path("/sys/fs/fuse/connections")


def tune(mountpoint: Path) -> list[str]:
    """Raise the queues and the read-ahead of a mount; the answer names what was not granted."""
    refused: list[str] = []
    if os.getuid() != 0:
        return ["max_background and read-ahead (only root may raise them)"]
    device = os.stat(mountpoint).st_dev
    connection = CONNECTIONS / str(os.minor(device) | (os.major(device) << 20))
    if not connection.exists():
        _mount_control()
    for name, value in (
        ("max_background", MAX_BACKGROUND),
        ("congestion_threshold", MAX_BACKGROUND * 3 // 4),
    ):
        _write(connection / name, value, refused)
    bdi = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    _write(bdi, READ_AHEAD_KIB, refused)
    return refused


def _write(path: Path, value: int, refused: list[str]) -> None:
    try:
        path.write_text(str(value))
    except OSError as exc:
        log.debug("%s: %s", path, exc)
        refused.append(path.name)


def _mount_control() -> None:
    """The control file system is mounted by systemd; elsewhere by us."""
    if not CONNECTIONS.is_dir():
        return
    subprocess.run(
        ["mount", "-t", "fusectl", "fusectl", str(CONNECTIONS)],
        check=False,
        capture_output=True,
        timeout=10,
    )


def detach(mountpoint: Path) -> bool:
    """Take the mount out of the name space at once; who has files open goes on."""
    command = ["umount", "-l"] if os.getuid() == 0 else ["fusermount3", "-u", "-z", "--"]
    try:
        done = subprocess.run(
            [*command, str(mountpoint)], check=False, capture_output=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        log.warning("detaching %s: %s", mountpoint, exc)
        return False
    return done.returncode == 0
