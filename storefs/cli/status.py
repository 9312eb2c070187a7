"""`storefs status`: every mount that can be seen from here, once or again and again.

A mount whose daemon is dead, hangs, or belongs to another user is shown as such; no mount is
touched, only the daemons' sockets.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from storefs import control, mounttable
from storefs.cli import text
from storefs.control import KnownMount, State
from storefs.errors import ConfigError

_WATCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A mount and what its daemon says; empty if it says nothing."""

    mount: KnownMount
    state: str
    reply: dict[str, Any]

    @property
    def is_bad(self) -> bool:
        """Dead, silent, or with a file that could not be stored."""
        silent = self.mount.record is not None and not self.reply
        failed = bool(text.files(self.reply, "failed"))
        return self.mount.state is State.DEAD or silent or failed

    def as_json(self) -> dict[str, Any]:
        """The reply, with what the registry and the mount table know."""
        known = {"mountpoint": self.mount.mountpoint, "url": self.mount.url}
        return {**self.reply, **known, "state": self.state}


def status(directory: str | None, *, as_json: bool = False, watch: bool = False) -> int:
    """0 if all is well, 1 if a mount is dead or silent or a file is not stored."""
    if not watch:
        return _show(directory, as_json=as_json)
    clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
    while True:
        sys.stdout.write(clear)
        _show(directory, as_json=as_json)
        sys.stdout.flush()
        time.sleep(_WATCH_SECONDS)


def _show(directory: str | None, *, as_json: bool) -> int:
    answers = collect(directory)
    if as_json:
        print(json.dumps([answer.as_json() for answer in answers], default=str))
    elif not answers:
        print("nothing is mounted")
    else:
        for answer in answers:
            mount = answer.mount
            lines = text.mount_lines(mount.mountpoint, mount.url, answer.state, answer.reply)
            print("\n".join(lines))
    return 1 if any(answer.is_bad for answer in answers) else 0


def collect(directory: str | None) -> list[Answer]:
    """Ask the daemon of each mount, or of the one at (or around) `directory`."""
    mounts = control.list_mounts()
    if directory is not None:
        mounts = _around(directory, mounts)
    return [_ask(mount) for mount in mounts]


def _around(directory: str, mounts: list[KnownMount]) -> list[KnownMount]:
    path = mounttable.resolve(os.path.expanduser(directory))
    at = [mount for mount in mounts if mounttable.is_inside(path, mount.mountpoint)]
    if not at:
        raise ConfigError(f"no storefs mount at {path}; `storefs status` shows what is mounted")
    longest = max(len(mount.mountpoint) for mount in at)
    return [mount for mount in at if len(mount.mountpoint) == longest]


def _ask(mount: KnownMount) -> Answer:
    state = {
        State.DEAD: "dead (its daemon is gone; `storefs umount` or a new mount cleans it)",
        State.UNKNOWN: _unknown(mount),
    }.get(mount.state, mount.state.value)
    if mount.record is None:
        return Answer(mount, state, {})
    try:
        reply = control.ask(mount, "status")
    except OSError as exc:
        return Answer(mount, f"{state}, but pid {mount.record.pid} does not answer: {exc}", {})
    if "error" in reply and "mountpoint" not in reply:
        return Answer(mount, f"{state}, status failed: {reply['error']}", {})
    return Answer(mount, state, reply)


def _unknown(mount: KnownMount) -> str:
    if mount.user_id not in (None, os.getuid()):
        return f"mounted by another user (uid {mount.user_id}), who sees more"
    return "mounted, its daemon cannot be asked"
