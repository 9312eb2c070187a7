"""A cache directory, and a time of day that tests move."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.cache.disks import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from storefs.cache.disk import ChunkDisk


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def disk(directory: Path) -> Iterator[ChunkDisk]:
    found = build(directory)
    found.open()
    yield found
    found.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Seconds that passed, for all who ask the time of day."""
    passed = 0.0
    began = time.time()

    def pass_time(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    monkeypatch.setattr(time, "time", lambda: began + passed)
    monkeypatch.setattr(time, "monotonic", lambda: passed)
    return pass_time
