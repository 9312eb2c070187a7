"""The datagrams that systemd is sent."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from storefs import notify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@storefs-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listening


def test_ready_status_stopping_and_alive_are_told(manager: socket.socket) -> None:
    assert notify.ready("s3://b on /m")
    assert notify.status("2 files\nto store")
    assert notify.stopping()
    assert notify.alive()
    assert notify.extend_timeout(1.5)
    assert [manager.recv(4096) for _ in range(5)] == [
        b"READY=1\nSTATUS=s3://b on /m",
        b"STATUS=2 files to store",
        b"STOPPING=1",
        b"WATCHDOG=1",
        b"EXTEND_TIMEOUT_USEC=1500000",
    ]


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.ready()


def test_a_manager_that_is_gone_fails_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    assert not notify.ready()


def test_the_watchdog_is_fed_at_half_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert notify.watchdog_seconds() == 30
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert notify.watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert notify.watchdog_seconds() is None
