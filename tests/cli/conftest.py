"""What the tests of the command line share: a home of their own, and a way to run commands."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from storefs.cli.app import run

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Ran:
    """What a command said and answered."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines on stderr."""
        return self.err.splitlines()


class Commands:
    """Runs `storefs` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Ran:
        self._capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)


@pytest.fixture
def storefs(capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(capsys)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of this machine's settings, and nothing left in its directories."""
    for name in [name for name in os.environ if name.startswith(("STOREFS_", "AWS_"))]:
        monkeypatch.delenv(name)
    for name in ("NOTIFY_SOCKET", "JOURNAL_STREAM"):
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "home"
    directory.mkdir()
    monkeypatch.setenv("HOME", str(directory))
    runtime = directory / "run"
    monkeypatch.setattr("storefs.control.runtime_dir", lambda: runtime)
    monkeypatch.setattr("storefs.cli.options.default_cache_dir", lambda: directory / "cache")
    monkeypatch.setattr("storefs.cli.options.default_state_dir", lambda: directory / "state")
    monkeypatch.setattr(
        "storefs.control._directories", lambda: [runtime] if runtime.is_dir() else []
    )
    return directory
