"""Where log lines go, and what may not stand in them.

Used by the commands before a mount starts; the layers just use `logging`. A daemon writes to the
journal, else to syslog, else to a file; in the foreground lines go to stderr. The danger is a line
that holds a secret: every line passes `redact`, tracebacks and other people's loggers included.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import socket
import struct
import sys
from pathlib import Path
from typing import TextIO

from storefs.config import LogConfig, default_state_dir
from storefs.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error")
JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
SYSLOG_SOCKET = Path("/dev/log")
IDENTIFIER = "storefs"

# These tell each request and header at DEBUG; INFO already names where credentials were found.
_NOISY = ("boto3", "botocore", "s3transfer", "urllib3", "asyncio")

_SECRETS = re.compile(
    r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)|Signature|AWSAccessKeyId|authorization"
    r"|aws_secret_access_key|aws_session_token|secret_?key|password|security-?token)"
    r"(['\"]?\s*[=:]\s*['\"]?)([^\s'\"&,;]+(?:\s+Credential=[^\n]*)?)"
)
_USERINFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@]+@")

# A burst passes whole, so that the first minute of trouble can be read; a store that is down for a
# night then costs a line a minute for each kind. Guesses, not measured.
BURST = 10
WINDOW_SECONDS = 60.0


def redact(text: str) -> str:
    """The text without the values of anything that signs a request."""
    text = _USERINFO.sub(r"\1***@", text)
    return _SECRETS.sub(lambda found: f"{found[1]}{found[2]}***", text)


class _Formatter(logging.Formatter):
    """Redacts the finished text, and adds what the rate limit has swallowed."""

    def __init__(self, fmt: str, *, priorities: bool = False) -> None:
        super().__init__(fmt)
        self.priorities = priorities

    def format(self, record: logging.LogRecord) -> str:
        text = redact(super().format(record))
        suppressed = getattr(record, "suppressed", 0)
        if suppressed:
            text += f" ({suppressed} like this one were not shown)"
        if not self.priorities:
            return text
        prefix = f"<{priority(record.levelno)}>"  # sd-daemon(3); each line is an entry of its own
        return "\n".join(prefix + line for line in text.splitlines() or [""])


class RepeatFilter(logging.Filter):
    """Lets `BURST` warnings of one kind pass in `WINDOW_SECONDS` and counts the others.

    A kind is a logger and a message before its arguments are filled in. Errors always pass: each
    may name another file whose bytes are at risk.
    """

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}  # start, seen since

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        if hasattr(record, "suppressed"):  # seen by another handler already
            return bool(record.suppressed >= 0)
        kind = (record.name, str(record.msg))
        start, seen = self._windows.get(kind, (record.created, 0))
        suppressed = 0
        if record.created - start >= WINDOW_SECONDS:
            suppressed = max(0, seen - BURST)
            start, seen = record.created, 0
        if len(self._windows) > 1000:  # messages made of their arguments: forget, do not grow
            self._windows.clear()
        self._windows[kind] = (start, seen + 1)
        record.suppressed = suppressed if seen < BURST else -1
        return seen < BURST


def priority(level: int) -> int:
    """syslog's number for a level of `logging`."""
    for bound, number in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4)):
        if level >= bound:
            return number
    return 6 if level >= logging.INFO else 7


class DatagramHandler(logging.Handler):
    """Sends each record as one datagram to the journal or to syslog; never waits for either."""

    def __init__(self, path: Path, *, journal: bool) -> None:
        super().__init__()
        self.path = path
        self.journal = journal
        self._socket: socket.socket | None = None

    def __repr__(self) -> str:
        return f"<DatagramHandler {self.path} ({'journal' if self.journal else 'syslog'})>"

    def encode(self, record: logging.LogRecord) -> bytes:
        """The record in the journal's native form, or in RFC 3164's."""
        message = self.format(record).encode("utf-8", "surrogateescape")
        number = priority(record.levelno)
        if not self.journal:
            head = f"<{(3 << 3) | number}>{IDENTIFIER}[{os.getpid()}]: "  # facility 3: daemon
            return head.encode() + message.replace(b"\n", b" | ")
        fields = (
            f"PRIORITY={number}\nSYSLOG_IDENTIFIER={IDENTIFIER}\nSYSLOG_PID={os.getpid()}\n"
            f"LOGGER={record.name}\n"
        )
        return fields.encode() + b"MESSAGE\n" + struct.pack("<Q", len(message)) + message + b"\n"

    def emit(self, record: logging.LogRecord) -> None:
        try:
            datagram = self.encode(record)
            try:
                self._send(datagram)
            except (ConnectionError, FileNotFoundError):  # the logger was restarted
                self._disconnect()
                self._send(datagram)
        except BlockingIOError:
            pass  # its queue is full: a line is lost rather than the mount stopped
        except Exception:
            self._disconnect()
            self.handleError(record)

    def _send(self, datagram: bytes) -> None:
        if self._socket is None:
            sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            sender.setblocking(False)
            try:
                sender.connect(str(self.path))
            except BaseException:
                sender.close()
                raise
            self._socket = sender
        self._socket.send(datagram)

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self._disconnect()
        super().close()


def stderr_is_journal() -> bool:
    """True if systemd connected stderr to the journal, which then reads `<N>` prefixes."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(2)
        return (found.st_dev, found.st_ino) == (int(device), int(inode))
    except (OSError, ValueError):
        return False


def _fallback_file(config: LogConfig) -> Path:
    return (config.fallback_dir or default_state_dir()) / "storefs.log"


def _is_socket(path: Path) -> bool:
    try:
        return path.is_socket()
    except OSError:
        return False


def describe(config: LogConfig) -> str:
    """Where lines of this configuration are found, for people."""
    if config.file is not None:
        return str(config.file)
    if config.foreground:
        return "stderr"
    if _is_socket(JOURNAL_SOCKET):
        return f"the journal (journalctl -t {IDENTIFIER})"
    if _is_socket(SYSLOG_SOCKET):
        return "syslog"
    return str(_fallback_file(config))


def _file_handler(path: Path) -> logging.Handler:
    try:
        handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8", errors="replace")
    except OSError as exc:
        raise ConfigError(f"cannot write the log file {path}: {exc.strerror}") from exc
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


def _stream_handler(stream: TextIO) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    if stderr_is_journal():
        handler.setFormatter(_Formatter("%(name)s: %(message)s", priorities=True))
    else:
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


def _handler(config: LogConfig) -> logging.Handler:
    if config.file is not None:
        return _file_handler(config.file)
    if config.foreground:
        return _stream_handler(sys.stderr)
    for path, journal in ((JOURNAL_SOCKET, True), (SYSLOG_SOCKET, False)):
        if _is_socket(path):
            handler = DatagramHandler(path, journal=journal)
            handler.setFormatter(_Formatter("%(name)s: %(message)s"))
            return handler
    return _file_handler(_fallback_file(config))


def configure(config: LogConfig) -> str:
    """Send the process's log lines there, Python's warnings too; answers `describe(config)`.

    May be called again: what an earlier call installed is replaced. Raises ConfigError if the file
    cannot be written.
    """
    handler = _handler(config)
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    for old in [each for each in root.handlers if getattr(each, "of_storefs", False)]:
        root.removeHandler(old)
        old.close()
    handler.of_storefs = True  # type: ignore[attr-defined]  # our mark, read just above
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[config.level.upper()]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)
    logging.raiseExceptions = config.foreground  # a daemon has nowhere to report a lost line
    return describe(config)
