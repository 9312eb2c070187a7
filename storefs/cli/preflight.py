"""What the machine must have before a mount is tried, each lack one clear line.

Used by `mount`, in the parent and in the daemon. Looks, makes the local directories, and cleans a
mount point whose daemon is dead; asks nothing of the store. The danger it keeps away is a mount
that waits for itself: bucket, cache or state inside the mounted directory.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from storefs import control, mounttable
from storefs.cli.detach import detach
from storefs.errors import ConfigError

if TYPE_CHECKING:
    from storefs.config import MountConfig

FUSE_DEVICE = Path("/dev/fuse")
FUSE_CONF = Path("/etc/fuse.conf")
_MAX_STACKED = 16


def check(config: MountConfig) -> list[str]:
    """Raises ConfigError if this mount cannot work; returns what was cleaned, as sentences."""
    check_fuse()
    if config.allow_other and os.getuid() != 0:
        check_allow_other()
    check_places(config)
    notices = clear_mountpoint(str(config.mountpoint))
    check_mountpoint(config.mountpoint)
    check_bucket(config)
    check_files(config)
    check_own_directory(config.write.state_dir, "--state-dir")
    if config.cache.directory is not None:
        check_own_directory(config.cache.directory, "--cache-dir")
    return notices


def check_fuse() -> None:
    """/dev/fuse and, for a user, fusermount3."""
    if not FUSE_DEVICE.exists():
        raise ConfigError(
            f"{FUSE_DEVICE} is missing: run `modprobe fuse` as root, or give a container "
            f"--device {FUSE_DEVICE} --cap-add SYS_ADMIN"
        )
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        raise ConfigError(
            f"you may not open {FUSE_DEVICE}: run as root, or let root `chmod 666 {FUSE_DEVICE}`"
        )
    if os.getuid() != 0 and shutil.which("fusermount3") is None:
        raise ConfigError("fusermount3 is missing: install the package fuse3")


def check_allow_other() -> None:
    """A user needs leave to let others in."""
    try:
        text = FUSE_CONF.read_text(errors="replace")
    except OSError:
        text = ""
    if re.search(r"(?m)^\s*user_allow_other\s*(#.*)?$", text) is None:
        raise ConfigError(
            f"--allow-other needs a line `user_allow_other` in {FUSE_CONF}: let root add it, "
            "or leave the option out"
        )


def clear_mountpoint(mountpoint: str) -> list[str]:
    """Unmount what dead daemons left there. Raises ConfigError if something alive is mounted."""
    notices: list[str] = []
    for _ in range(_MAX_STACKED):
        entry = mounttable.find(mountpoint)
        if entry is None:
            break
        known = control.find(mountpoint) if entry.is_storefs else None
        if known is None or known.state is not control.State.DEAD:
            raise ConfigError(_already_mounted(entry, known))
        detach(mountpoint, lazy=True)
        notices.append(
            f"{mountpoint} was left by a daemon that is dead (it had {entry.source}): unmounted it"
        )
    return notices


def _already_mounted(entry: mounttable.MountEntry, known: control.KnownMount | None) -> str:
    if known is None:
        return (
            f"{entry.mountpoint} is busy: {entry.source} ({entry.fstype}) is mounted there; "
            "choose another directory"
        )
    daemon = f" by pid {known.record.pid}" if known.record is not None else ""
    return (
        f"{entry.mountpoint} is busy: {known.url} is mounted there already{daemon}; "
        f"`storefs umount {entry.mountpoint}` ends it"
    )


def check_mountpoint(mountpoint: Path) -> None:
    """An empty directory that we may use."""
    try:
        found = mountpoint.stat()
    except FileNotFoundError:
        raise ConfigError(
            f"there is no directory {mountpoint}: make it with `mkdir -p {mountpoint}`"
        ) from None
    except OSError as exc:
        raise ConfigError(f"cannot mount on {mountpoint}: {exc.strerror}") from exc
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"cannot mount on {mountpoint}: it is not a directory")
    if os.getuid() != 0 and not os.access(mountpoint, os.W_OK):
        raise ConfigError(f"cannot mount on {mountpoint}: it belongs to somebody else")
    try:
        with os.scandir(mountpoint) as entries:
            used = next(entries, None)
    except OSError as exc:
        raise ConfigError(f"cannot mount on {mountpoint}: {exc.strerror}") from exc
    if used is not None:
        raise ConfigError(
            f"cannot mount on {mountpoint}: it is not empty, and the mount would hide "
            f"{used.name!r}; choose an empty directory"
        )


def check_places(config: MountConfig) -> None:
    """Nothing that the mount needs lies in the mount, and nothing of its own in the bucket."""
    mountpoint = str(config.mountpoint)
    own = {"--state-dir": config.write.state_dir, "--cache-dir": config.cache.directory}
    places = {name: mounttable.resolve(str(path)) for name, path in own.items() if path}
    logged = {"--log-file": config.log.file} if config.log.file is not None else {}
    files = {name: mounttable.resolve(str(path)) for name, path in logged.items()}
    for name, path in {**places, **files}.items():
        if mounttable.is_inside(path, mountpoint):
            raise ConfigError(
                f"{name} {path} lies in the mounted directory {mountpoint}: the mount would wait "
                "for itself; choose a place outside"
            )
    state, cache = places["--state-dir"], places.get("--cache-dir")
    if cache is not None and (
        mounttable.is_inside(state, cache) or mounttable.is_inside(cache, state)
    ):
        raise ConfigError(
            f"--cache-dir {cache} and --state-dir {state} must be apart: the one may be deleted, "
            "the other never"
        )
    if config.store.url.scheme != "file":
        return
    bucket = mounttable.resolve(config.store.url.bucket)
    if mounttable.is_inside(bucket, mountpoint) or mounttable.is_inside(mountpoint, bucket):
        raise ConfigError(
            f"the bucket {bucket} and the mounted directory {mountpoint} must lie apart: the mount "
            "would wait for itself"
        )
    for name, path in {**places, **files}.items():
        if mounttable.is_inside(path, bucket):
            raise ConfigError(f"{name} {path} lies in the bucket {bucket}: choose a place outside")


def check_bucket(config: MountConfig) -> None:
    """A bucket that is a directory exists."""
    url = config.store.url
    if url.scheme != "file":
        return
    bucket = Path(url.bucket)
    if not bucket.exists():
        raise ConfigError(f"there is no directory {bucket}: make the bucket with `mkdir {bucket}`")
    if not bucket.is_dir():
        raise ConfigError(f"{bucket} is not a directory, so it is no bucket")
    wanted = os.R_OK | os.X_OK | (0 if config.read_only else os.W_OK)
    if not os.access(bucket, wanted):
        raise ConfigError(
            f"you may not {'read' if config.read_only else 'write'} the bucket {bucket}"
            + ("" if config.read_only else ": change its owner, or mount with --read-only")
        )


def check_files(config: MountConfig) -> None:
    """Files that are named exist."""
    bundle = config.store.ca_bundle
    if bundle is not None and not os.access(bundle, os.R_OK):
        raise ConfigError(f"--ca-bundle: cannot read {bundle}")
    log_file = config.log.file
    if log_file is not None and not log_file.parent.is_dir():
        raise ConfigError(f"--log-file: there is no directory {log_file.parent}")
    if log_file is not None and log_file.is_dir():
        raise ConfigError(f"--log-file: {log_file} is a directory")


def check_own_directory(directory: Path, name: str) -> None:
    """Made if missing (0700), ours, and not for others to write."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as exc:
        raise ConfigError(
            f"{name}: cannot make {directory}: {exc.strerror}; name another directory"
        ) from exc
    if found.st_uid != os.getuid():
        raise ConfigError(
            f"{name}: {directory} belongs to another user (uid {found.st_uid}); name a directory "
            "of your own"
        )
    if found.st_mode & 0o022:
        raise ConfigError(
            f"{name}: others may write {directory}; name a directory that only you can write"
        )
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(f"{name}: cannot write {directory}; name another directory")
