"""Real mounts of both buckets, shared where tests do not disturb one another."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.buckets import LocalBucket, S3Bucket
from tests.support.commands import eventually
from tests.support.mounting import Mount, is_mounted
from tests.support.places import Place, Probed, assert_no_traceback
from tests.support.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.support.buckets import Bucket
    from tests.support.servers import S3Server

HERE = Path(__file__).parent
LOG_TAIL = 12_000
C_LOCALE = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SHORT_TTL = ["--metadata-ttl", "1", "--negative-ttl", "1"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this directory mounts; where that cannot be, it is skipped, but never in CI."""
    missing = not os.path.exists("/dev/fuse")
    in_ci = os.environ.get("CI", "").lower() in ("1", "true")
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        item.add_marker(pytest.mark.mounted)
        if missing and not in_ci:
            item.add_marker(pytest.mark.skip(reason="there is no /dev/fuse"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """A failing test shows what the daemons logged meanwhile."""
    report = yield
    for mount in list(Mount.live):
        text = mount.new_log()
        if report.failed and text:
            report.sections.append((f"log of {mount!r}", text[-LOG_TAIL:]))
    return report


@pytest.fixture(scope="session")
def new_bucket(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], tuple[Bucket, Relay | None]]]:
    """Make buckets: `local`, or `s3` behind a relay of its own."""
    relays: list[Relay] = []

    def make(kind: str) -> tuple[Bucket, Relay | None]:
        if kind == "local":
            return LocalBucket(tmp_path_factory.mktemp("bucket")), None
        server: S3Server = request.getfixturevalue("seaweedfs")
        relay = Relay(server.endpoint_url)
        relays.append(relay)
        return S3Bucket(server, relay.endpoint_url), relay

    yield make
    for relay in relays:
        relay.close()


@pytest.fixture(scope="session", params=["local", "s3", "local-in-c-locale"])
def shared(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_bucket: Callable[[str], tuple[Bucket, Relay | None]],
) -> Iterator[Place]:
    """One mount of each bucket for all tests that leave it as it was; use `place`.

    And one whose daemon lives where the locale knows no UTF-8, as under cron or in a container.
    """
    kind, _, locale = request.param.partition("-in-")
    bucket, relay = new_bucket(kind)
    directory = tmp_path_factory.mktemp(f"mount-{request.param}")
    mount = Mount(
        bucket.url,
        directory,
        env=bucket.env,
        daemon_env=C_LOCALE if locale else None,
        flags=[*bucket.flags, *SHORT_TTL],
    )
    mount.mount()
    yield Place(mount, bucket, relay=relay)
    crashed = not mount.pids()
    if not crashed:
        mount.umount()
    mount.close()
    assert not crashed, "the shared mount's daemon has ended before its time"
    assert_no_traceback(mount)


@pytest.fixture
def place(shared: Place, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A directory of this test's own in the shared mount of each bucket."""
    mount = shared.mount
    if not is_mounted(mount.path) or not mount.pids():
        mount.close()
        mount.mount()
    name = re.sub(r"\W+", "-", request.node.name)[:80].strip("-")
    yield Place(mount, shared.bucket, name, shared.relay)
    if shared.relay is not None:
        shared.relay.heal()


@pytest.fixture(scope="session")
def probed(
    tmp_path_factory: pytest.TempPathFactory,
    new_bucket: Callable[[str], tuple[Bucket, Relay | None]],
) -> Probed:
    """As on a machine that has written to this store before; the first mount does it when idle."""
    bucket, relay = new_bucket("s3")
    assert isinstance(bucket, S3Bucket)
    assert relay is not None
    mount = Mount(bucket.url, tmp_path_factory.mktemp("probe"), env=bucket.env, flags=bucket.flags)
    try:
        mount.mount()
        mount.sh("echo first > file; mkdir a; echo second > a/file")
        noted = mount.state_dir / "stores.json"
        eventually(noted.exists, within=30, what="the note of what the store can do")
        mount.umount()
    finally:
        mount.close()
    return Probed(bucket, relay, noted)


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Make mounts for one test alone: `own("s3", "--timeout", "3")`, not mounted yet.

    With `like=` another mount of the same bucket. The mount of an S3 bucket is of a prefix of its
    own, and knows the store's conditional writes.
    """
    made: list[Place] = []

    def bucket_of(kind: str) -> tuple[Bucket, Relay | None]:
        if kind == "local":
            return LocalBucket(tmp_path / f"bucket{len(made)}"), None
        probed: Probed = request.getfixturevalue("probed")
        probed.relay.forget()
        prefix = f"{tmp_path.parent.name}/{tmp_path.name}/{len(made)}/"
        whole = probed.bucket
        return S3Bucket(whole.server, whole.endpoint_url, name=whole.name, prefix=prefix), (
            probed.relay
        )

    def make(kind: str, *flags: str, like: Place | None = None) -> Place:
        bucket, relay = (like.bucket, like.relay) if like is not None else bucket_of(kind)
        mount = Mount(
            bucket.url, tmp_path / f"{len(made)}", env=bucket.env, flags=[*bucket.flags, *flags]
        )
        if relay is not None:
            mount.state_dir.mkdir(mode=0o700)
            shutil.copy(request.getfixturevalue("probed").noted, mount.state_dir)
        made.append(Place(mount, bucket, relay=relay))
        return made[-1]

    yield make
    for one in made:
        if one.relay is not None:
            one.relay.heal()
    for one in made:
        one.mount.close()
    for one in made:
        assert_no_traceback(one.mount)


@pytest.fixture(params=["local", "s3"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of bucket, for tests with mounts of their own."""
    name: str = request.param
    return name
