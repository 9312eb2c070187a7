"""Where log lines go, and what never stands in them."""

from __future__ import annotations

import io
import logging
import socket
import warnings
from typing import TYPE_CHECKING

import pytest

from storefs import log
from storefs.config import LogConfig
from storefs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.raiseExceptions)
    yield
    logging.captureWarnings(False)
    for handler in set(root.handlers) - set(before[1]):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(before[0])
    logging.raiseExceptions = before[2]


@pytest.fixture
def no_loggers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(log, "JOURNAL_SOCKET", tmp_path / "journal")
    monkeypatch.setattr(log, "SYSLOG_SOCKET", tmp_path / "log")
    return tmp_path


def receiver(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(path))
    listening.settimeout(5)
    return listening


def test_the_foreground_logs_to_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    assert log.configure(LogConfig()) == "stderr"
    logging.getLogger("storefs.x").warning("hello %d", 1)
    assert stream.getvalue().endswith("WARNING storefs.x: hello 1\n")


def test_under_systemd_each_line_has_its_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(log, "stderr_is_journal", lambda: True)
    log.configure(LogConfig())
    logging.getLogger("x").error("two\nlines")
    assert stream.getvalue() == "<3>x: two\n<3>lines\n"


def test_a_foreign_journal_stream_is_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("1:2", "", "nonsense"):
        monkeypatch.setenv("JOURNAL_STREAM", value)
        assert not log.stderr_is_journal()


def test_a_log_file_survives_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert log.configure(LogConfig(file=path)) == str(path)
    logging.getLogger("x").warning("before")
    path.rename(tmp_path / "log.1")
    logging.getLogger("x").warning("after")
    assert "before" in (tmp_path / "log.1").read_text()
    assert "after" in path.read_text()


def test_a_log_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write the log file .*: No such file"):
        log.configure(LogConfig(file=tmp_path / "none" / "log"))


def test_a_daemon_logs_to_the_journal_in_its_own_form(no_loggers: Path) -> None:
    with receiver(log.JOURNAL_SOCKET) as journal:
        assert "journalctl" in log.configure(LogConfig(foreground=False))
        logging.getLogger("storefs.mount").info("two\nlines")
        datagram = journal.recv(4096)
    assert b"PRIORITY=6\n" in datagram
    assert b"SYSLOG_IDENTIFIER=storefs\n" in datagram
    text = b"storefs.mount: two\nlines"
    assert datagram.endswith(b"MESSAGE\n" + len(text).to_bytes(8, "little") + text + b"\n")


def test_a_daemon_without_a_journal_logs_to_syslog(no_loggers: Path) -> None:
    with receiver(log.SYSLOG_SOCKET) as syslog:
        assert log.configure(LogConfig(foreground=False)) == "syslog"
        logging.getLogger("x").warning("hello")
        datagram = syslog.recv(4096)
    assert datagram.startswith(b"<28>storefs[")
    assert datagram.endswith(b"]: x: hello")


def test_a_restarted_logger_is_found_again(no_loggers: Path) -> None:
    with receiver(log.SYSLOG_SOCKET):
        log.configure(LogConfig(foreground=False))
        logging.getLogger("x").warning("first")
    log.SYSLOG_SOCKET.unlink()
    with receiver(log.SYSLOG_SOCKET) as again:
        logging.getLogger("x").warning("second")
        assert again.recv(4096).endswith(b"second")


def test_a_daemon_without_any_logger_writes_to_the_state_directory(no_loggers: Path) -> None:
    config = LogConfig(foreground=False, fallback_dir=no_loggers)
    assert log.configure(config) == str(no_loggers / "storefs.log")
    logging.getLogger("x").warning("hello")
    assert "hello" in (no_loggers / "storefs.log").read_text()


def test_the_level_is_that_of_the_configuration_and_sdks_stay_quiet(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log.configure(LogConfig(level="debug", file=path))
    logging.getLogger("storefs.x").debug("ours")
    logging.getLogger("botocore.auth").debug("CanonicalRequest")
    log.configure(LogConfig(level="error", file=path))
    logging.getLogger("storefs.x").warning("too little")
    assert "ours" in path.read_text()
    assert "CanonicalRequest" not in path.read_text()
    assert "too little" not in path.read_text()


def test_configuring_twice_does_not_write_twice(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(2):
        log.configure(LogConfig(file=path))
    logging.getLogger("x").warning("once")
    assert path.read_text().count("once") == 1


def test_warnings_of_python_are_logged(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log.configure(LogConfig(file=path))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old thing", stacklevel=1)
    assert "old thing" in path.read_text()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("GET /k?X-Amz-Signature=abc123&x=1", "abc123"),
        ("GET /k?X-Amz-Credential=AKIA%2F2026", "AKIA"),
        ("{'Authorization': 'AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=abc'}", "AKIA"),
        ("X-Amz-Security-Token: tok/en==", "tok/en"),
        ("aws_secret_access_key = wJalr/x", "wJalr"),
        ("proxy http://user:pw@proxy:3128 refused", "pw@"),
    ],
)
def test_secrets_never_reach_the_log(tmp_path: Path, text: str, secret: str) -> None:
    path = tmp_path / "log"
    log.configure(LogConfig(file=path))
    try:
        raise RuntimeError(text)
    except RuntimeError:
        logging.getLogger("x").exception("failed: %s", text)
    assert secret not in path.read_text()
    assert "failed" in path.read_text()


def record(message: str, at: float, level: int = logging.WARNING) -> logging.LogRecord:
    made = logging.LogRecord("x", level, "", 0, message, (), None)
    made.created = at
    return made


def test_repeated_warnings_are_counted_instead_of_written() -> None:
    repeats = log.RepeatFilter()
    passed = [repeats.filter(record("slow", at)) for at in range(50)]
    assert sum(passed) == log.BURST
    later = record("slow", log.WINDOW_SECONDS + 1)
    assert repeats.filter(later)
    assert log._Formatter("%(message)s").format(later) == "slow (40 like this one were not shown)"


def test_other_warnings_and_all_errors_pass_meanwhile() -> None:
    repeats = log.RepeatFilter()
    for at in range(50):
        repeats.filter(record("slow", at))
    assert repeats.filter(record("other", 51))
    assert all(repeats.filter(record("lost", 52, logging.ERROR)) for _ in range(50))
