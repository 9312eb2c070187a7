"""A mount's status as lines for people.

Used by `status`, `umount` and `ls`. Pure, but for `Progress`. It takes what a daemon of another
version may leave out or add: every field may be missing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TextIO

from storefs.units import format_size

Fields = Mapping[str, Any]


def printable(name: str) -> str:
    """The name on one line: control characters and lone surrogates are escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )


def number(value: Any) -> int:
    """A count that may be missing."""
    return int(value) if isinstance(value, int | float) else 0


def files(reply: Fields, kind: str) -> list[dict[str, Any]]:
    """The entries of `pending`, `failed` or `lost_found` that are entries."""
    found = reply.get(kind)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def file_line(entry: Fields) -> str:
    """Name, progress and error of a file that waits."""
    name = printable(str(entry.get("path") or entry.get("key") or "?"))
    total, sent = entry.get("bytes_total", entry.get("bytes")), entry.get("bytes_sent")
    parts = [name]
    if total is not None and sent is not None:
        parts.append(f"{format_size(number(sent))} of {format_size(number(total))}")
    elif total is not None:
        parts.append(format_size(number(total)))
    if entry.get("state"):
        parts.append(str(entry["state"]))
    if entry.get("error"):
        parts.append(printable(str(entry["error"])))
    return ", ".join(parts)


def progress_line(reply: Fields) -> str:
    """What a drain still has to do; empty if nothing."""
    pending = files(reply, "pending")
    if not pending:
        return ""
    total = sum(number(each.get("bytes_total")) for each in pending)
    sent = sum(number(each.get("bytes_sent")) for each in pending)
    many = "1 file" if len(pending) == 1 else f"{len(pending)} files"
    return f"storing {many}: {format_size(sent)} of {format_size(total)}"


def when(value: Any) -> str:
    """A time in seconds since the epoch (or text that is one already) in local time."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value).strftime("%Y-%m-%d %H:%M:%S")
    return str(value) if value else "?"


def mount_lines(mountpoint: str, url: str, state: str, reply: Fields) -> list[str]:
    """One mount, over several lines."""
    lines = [f"{printable(url)} on {printable(mountpoint)}: {_state(state, reply)}"]
    if reply.get("pid"):
        lines.append(f"  pid {reply['pid']}, since {when(reply.get('since'))}")
    how = [str(reply[key]) for key in ("conditions",) if reply.get(key)]
    if reply.get("write_mode"):
        how.insert(0, f"writes {reply['write_mode']}")
    if how:
        lines.append("  " + ", ".join(how))
    requests = reply.get("requests")
    if isinstance(requests, dict) and requests:
        shown = ", ".join(f"{verb} {count}" for verb, count in sorted(requests.items()))
        lines.append(f"  requests: {shown}")
    cache = reply.get("cache")
    if isinstance(cache, dict):
        limit = number(cache.get("limit_bytes"))
        held = format_size(number(cache.get("bytes")))
        lines.append(f"  cache: {held}" + (f" of {format_size(limit)}" if limit else ""))
    if "inodes" in reply:
        lines.append(f"  inodes: {number(reply['inodes'])}")
    if number(reply.get("hidden_keys")):
        lines.append(f"  keys that are no path, not shown: {number(reply['hidden_keys'])}")
    titles = {"pending": "waiting to be stored", "failed": "NOT STORED", "lost_found": "lost+found"}
    for kind, title in titles.items():
        lines += [f"  {title}: {file_line(each)}" for each in files(reply, kind)]
    return lines


def _state(state: str, reply: Fields) -> str:
    words = ["draining" if reply.get("draining") else state]
    if reply.get("read_only"):
        words.append("read-only")
    return ", ".join(words)


class Progress:
    """One line that is written over on a terminal; elsewhere a line now and then."""

    EVERY_SECONDS = 10.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._shown = ""
        self._written_at = float("-inf")

    def show(self, line: str) -> None:
        """Show this line instead of the last one."""
        if line == self._shown:
            return
        if self._terminal:
            self._stream.write(f"\r\x1b[K{line}")
        elif not line or time.monotonic() - self._written_at < self.EVERY_SECONDS:
            return
        else:
            self._stream.write(f"{line}\n")
            self._written_at = time.monotonic()
        self._shown = line
        self._stream.flush()

    def clear(self) -> None:
        """Leave an empty line for what comes next."""
        if self._terminal and self._shown:
            self.show("")
