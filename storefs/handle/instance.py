"""The state directory on disk: one directory of our own under a lock, and what the dead left.

Used by the handle table at its start and end. A running mount holds a lock on its instance
directory; a directory without one belongs to a process that died, and what it had not stored goes
to lost+found, with its key. The danger: a directory of a mount that is just starting looks
dead until it is locked, so starting and sweeping happen under one lock for all. All of this blocks;
callers go through a thread.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storefs.errors import ConfigError
from storefs.handle.lost import LostAndFound, LostFile
from storefs.handle.record import parse_log

if TYPE_CHECKING:
    from pathlib import Path

    from storefs.handle.record import Record

log = logging.getLogger(__name__)

FORMAT = "1"


@dataclass(slots=True)
class Instance:
    """Our own directory, and what dead ones of this store left.

    `adopted`: bytes, now in lost+found; `uploads` (id, key) and `scratch` (keys): to be removed
    from the store.
    """

    path: Path
    lock: int
    lost_and_found: LostAndFound
    adopted: list[LostFile] = field(default_factory=list)
    uploads: list[tuple[str, str]] = field(default_factory=list)
    scratch: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Give the lock back and, if nothing unsent is in it, the directory; may be repeated."""
        if self.lock < 0:
            return
        if not any(path.stat().st_size for path in self.path.glob("*.log")):
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)
        self.lock = -1


def claim(state_dir: Path, store: str) -> Instance:
    """An instance directory for this process, and the orphans of dead ones of the same store.

    Raises ConfigError if the state directory has a newer format, or cannot be used.
    """
    try:
        for path in (state_dir, state_dir / "instances", state_dir / "lost+found"):
            _make(path)
        guard = os.open(state_dir / "starting", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            _check_format(state_dir)
            return _claim(state_dir, store)
        finally:
            os.close(guard)
    except OSError as exc:
        raise ConfigError(f"cannot use the state directory {state_dir}: {exc}") from exc


def _claim(state_dir: Path, store: str) -> Instance:
    lost_and_found = LostAndFound(state_dir / "lost+found")
    path = state_dir / "instances" / uuid.uuid4().hex
    _make(path)
    instance = Instance(path, _lock(path), lost_and_found)
    owner = {"store": store, "pid": os.getpid(), "started": time.time()}
    _write(path / "owner.json", json.dumps(owner))
    for other in sorted((state_dir / "instances").iterdir()):
        if other != path and _belongs_to(other, store):
            _adopt(other, instance)
    return instance


def _make(path: Path) -> None:
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)


def _write(path: Path, text: str) -> None:
    """A small file for its owner only, written aside and renamed."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(aside, path)


def _check_format(state_dir: Path) -> None:
    path = state_dir / "format"
    if not path.exists():
        _write(path, FORMAT + "\n")
    found = path.read_text(encoding="utf-8").strip()
    if found != FORMAT:
        raise ConfigError(
            f"{state_dir} has state format {found!r}, and this storefs knows {FORMAT}: "
            "use the newer storefs, or another --state-dir"
        )


def _lock(path: Path) -> int:
    """A descriptor that holds the lock; BlockingIOError if somebody lives there."""
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _belongs_to(path: Path, store: str) -> bool:
    try:
        owner = json.loads((path / "owner.json").read_text(encoding="utf-8"))
        return bool(owner["store"] == store)
    except FileNotFoundError:
        # It died between making its directory and naming itself: there is nothing in it.
        return not any(path.glob("*.log"))
    except (OSError, ValueError, TypeError, KeyError) as exc:
        log.warning("%s is nobody's: %s", path, exc)
        return False


def _adopt(path: Path, instance: Instance) -> None:
    try:
        lock = _lock(path)
    except BlockingIOError:
        return
    try:
        complete = True
        for log_path in sorted(path.glob("*.log")):
            record = parse_log(log_path.read_bytes())
            data_path = log_path.with_suffix(".data")
            if record is None or not data_path.exists():
                continue
            try:
                _rescue(data_path, record, instance)
            except OSError as exc:
                log.error("%s of %s stays in %s: %s", record.header.key, path.name, path, exc)
                complete = False
        if complete:
            shutil.rmtree(path)
    finally:
        os.close(lock)


def _rescue(data_path: Path, record: Record, instance: Instance) -> None:
    instance.uploads += record.uploads.items()
    if record.scratch is not None:
        instance.scratch.append(record.scratch)
    if record.is_unlinked:
        return
    lost = instance.lost_and_found.keep(data_path, record, "storefs ended before this was stored")
    instance.adopted.append(lost)
    log.error(
        "%s was not stored when storefs ended: %d bytes written are in %s",
        lost.key,
        sum(stop - start for start, stop in lost.ranges),
        lost.data,
    )
