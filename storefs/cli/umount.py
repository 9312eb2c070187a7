"""`storefs umount`: take the mount off, wait until its daemon has stored all, name what it has not.

The daemon drains by itself once the mount is gone; this only watches it through the control socket
and by its process. The danger is to wait for a daemon that will never end: each question has a
time-out, and silence for `SILENT_SECONDS` ends the wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import Any

from storefs import control, mounttable
from storefs.cli import text
from storefs.cli.detach import MountBusy, describe_users, detach, users
from storefs.cli.mount import say
from storefs.cli.values import parse_seconds
from storefs.control import KnownMount, State
from storefs.errors import ConfigError

SILENT_SECONDS = 90.0
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0


def umount(directory: str, *, lazy: bool = False, stop_timeout: str | None = None) -> int:
    """0: unmounted and all stored; 1: unmounted, something is not stored. Raises ConfigError."""
    seconds = _stop_seconds(stop_timeout)
    mountpoint = mounttable.resolve(os.path.expanduser(directory))
    known = control.find(mountpoint)
    if known is None:
        raise ConfigError(_no_mount(mountpoint))
    if known.state is not State.DRAINING:
        os.chdir("/")  # lest this process itself keeps it busy
        try:
            detach(mountpoint, lazy=lazy or known.state is State.DEAD)
        except MountBusy:
            raise ConfigError(
                f"{mountpoint} is in use {describe_users(users(mountpoint))}: end them, or detach "
                "it with --lazy"
            ) from None
    if known.state is State.DEAD:
        say(f"{mountpoint}: its daemon was dead; unmounted what it left")
        return 0
    if known.record is None:
        say(f"{mountpoint} is unmounted; its daemon cannot be asked, and stores the rest")
        return 0
    if lazy:
        say(
            f"{mountpoint} is detached; pid {known.record.pid} serves what is still open and "
            "stores the rest"
        )
        return 0
    return _await_end(known, seconds)


def _stop_seconds(stop_timeout: str | None) -> float | None:
    if stop_timeout is None:
        return None
    try:
        return parse_seconds(stop_timeout)
    except ValueError as exc:
        raise ConfigError(f"--stop-timeout: {exc}") from exc


def _no_mount(mountpoint: str) -> str:
    entry = mounttable.find(mountpoint)
    if entry is not None:
        return (
            f"{mountpoint} is no mount of storefs: {entry.source} ({entry.fstype}) is mounted there"
        )
    around = mounttable.containing(mountpoint)
    if around is not None and around.is_storefs:
        return f"{mountpoint} lies in a mount: `storefs umount {around.mountpoint}` ends it"
    if not os.path.isdir(mountpoint):
        return f"there is no directory {mountpoint}"
    return f"nothing is mounted on {mountpoint}; `storefs status` shows what is"


def _await_end(known: KnownMount, seconds: float | None) -> int:
    """Watch the drain. With `seconds` the daemon is told to end it when they are over."""
    record = known.record
    assert record is not None
    progress = text.Progress(sys.stderr)
    asked_at = heard_at = time.monotonic()
    signals_at = None if seconds is None else asked_at + seconds
    last: dict[str, Any] = {}
    if seconds is not None:
        with contextlib.suppress(OSError):
            control.ask(known, "stop", timeout_seconds=2.0, stop_timeout=seconds)
    while record.is_alive():
        reply = _status(known)
        now = time.monotonic()
        if reply is not None:
            last, heard_at = reply, now
            progress.show(text.progress_line(reply))
        if signals_at is not None and now >= signals_at:
            if now >= asked_at + (seconds or 0) + _GRACE_SECONDS:
                break
            _hurry(record.pid)
            signals_at = now + _GRACE_SECONDS / 4
        if now - heard_at > SILENT_SECONDS:
            break
        time.sleep(_POLL_SECONDS)
    progress.clear()
    if record.is_alive():
        say(f"pid {record.pid} has not ended; what it still holds is kept in its state directory")
        return 1
    return _name_unsent(control.take_last_word(known) or {}, last)


def _status(known: KnownMount) -> dict[str, Any] | None:
    try:
        return control.ask(known, "status", timeout_seconds=2.0)
    except OSError:
        return None


def _hurry(pid: int) -> None:
    """SIGTERM: the first starts a drain, a second one ends it and names what is unsent.

    One at a time: two at once may arrive as one.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)


def _name_unsent(reply: dict[str, Any], last: dict[str, Any]) -> int:
    """One line for each file that is not in the bucket; the exit code."""
    unsent = text.files(reply, "failed") + text.files(reply, "pending")
    for each in unsent:
        say(f"not stored: {text.file_line(each)}")
    if unsent:
        mountpoint = reply.get("mountpoint") or last.get("mountpoint") or "the bucket"
        say(f"their bytes are kept in the state directory of the mount on {mountpoint}")
    return 1 if unsent else 0
