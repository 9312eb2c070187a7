"""A user's mistakes: one clear line each, exit code 2, nothing left mounted."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.commands import run
from tests.support.mounting import Mount, is_mounted
from tests.support.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.places import Place
    from tests.support.servers import S3Server


def is_one_clear_line(done: Any, mount: Mount, *mentions: str) -> None:
    """The user sees one line with these words in it, and nothing is left."""
    told = (done.stdout + done.stderr).strip()
    assert done.returncode == 2, f"exit code {done.returncode}\n{told}"
    assert told and "Traceback" not in told, told
    assert len(told.splitlines()) == 1, told
    for mention in mentions:
        assert mention.lower() in told.lower(), f"{mention!r} is not in: {told}"
    assert not is_mounted(mount.path), told
    assert not mount.pids(), told


@pytest.fixture
def s3(own: Callable[..., Place]) -> Place:
    """A mount of a bucket that is well, not mounted yet."""
    return own("s3")


def test_a_bucket_that_does_not_exist(s3: Place) -> None:
    s3.mount.url = "s3://there-is-no-such-bucket"
    is_one_clear_line(s3.mount.try_mount(), s3.mount, "there-is-no-such-bucket")


def test_a_local_bucket_that_does_not_exist(own: Callable[..., Place], tmp_path: Path) -> None:
    place = own("local")
    place.mount.url = f"file://{tmp_path}/none"
    is_one_clear_line(place.mount.try_mount(), place.mount, f"{tmp_path}/none")


def test_a_wrong_access_key(s3: Place) -> None:
    s3.mount.env["AWS_ACCESS_KEY_ID"] = "AKIAWRONGWRONGWRONG1"
    is_one_clear_line(s3.mount.try_mount(), s3.mount)


def test_a_wrong_secret_key(s3: Place) -> None:
    s3.mount.env["AWS_SECRET_ACCESS_KEY"] = "wrong" * 8
    done = s3.mount.try_mount()
    is_one_clear_line(done, s3.mount)
    assert "wrongwrong" not in done.stdout + done.stderr + s3.mount.log()


def test_no_credentials_at_all(s3: Place) -> None:
    del s3.mount.env["AWS_ACCESS_KEY_ID"], s3.mount.env["AWS_SECRET_ACCESS_KEY"]
    is_one_clear_line(s3.mount.try_mount(), s3.mount, "credentials")


def test_no_permission(s3: Place) -> None:
    assert s3.relay is not None
    s3.relay.answer(403, code="AccessDenied")
    is_one_clear_line(s3.mount.try_mount(), s3.mount)


def test_an_endpoint_that_cannot_be_reached_is_told_within_fifteen_seconds(
    own: Callable[..., Place], seaweedfs: S3Server
) -> None:
    """Four at once: refused, silent, of no known name, and answering nothing but 500."""

    def seconds_to_give_up(endpoint_url: str, mention: str) -> float:
        mount = mounts[endpoint_url]
        mount.flags[mount.flags.index("--endpoint-url") + 1] = endpoint_url
        started = time.monotonic()
        done = mount.try_mount()
        taken = time.monotonic() - started
        is_one_clear_line(done, mount, mention)
        return taken

    with (
        Relay(seaweedfs.endpoint_url) as refusing,
        Relay(seaweedfs.endpoint_url) as silent,
        Relay(seaweedfs.endpoint_url) as failing,
        ThreadPoolExecutor(4) as pool,
    ):
        refusing.refuse()
        silent.stall()
        failing.answer(500)
        urls = {
            refusing.endpoint_url: refusing.endpoint_url,
            silent.endpoint_url: silent.endpoint_url,
            failing.endpoint_url: failing.endpoint_url,
            "http://no-such-host.invalid:9": "no-such-host.invalid",
        }
        mounts = {url: own("s3").mount for url in urls}
        taken = list(pool.map(seconds_to_give_up, urls, urls.values()))
    assert max(taken) < 15, taken


def test_an_endpoint_that_is_no_url(s3: Place) -> None:
    s3.mount.flags[s3.mount.flags.index("--endpoint-url") + 1] = "not a url"
    is_one_clear_line(s3.mount.try_mount(), s3.mount, "not a url")


@pytest.mark.parametrize(
    ("flags", "mentions"),
    [
        (["--no-such-option"], ["--no-such-option"]),
        (["--cache-size", "many"], ["cache-size", "many"]),
        (["--memory-limit", "12 parsecs"], ["memory-limit", "12 parsecs"]),
        (["--memory-limit", "10M"], ["memory-limit", "256"]),
        (["--metadata-ttl", "soon"], ["metadata-ttl", "soon"]),
        (["--timeout", "-1"], ["timeout"]),
        (["--addressing", "sideways"], ["addressing", "sideways"]),
        (["--file-mode", "9z"], ["file-mode", "9z"]),
        (["--log-level", "loud"], ["log-level", "loud"]),
        (["--uid", "nobody-of-this-name"], ["uid"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_an_option_or_value_that_is_none(
    own: Callable[..., Place], flags: list[str], mentions: list[str]
) -> None:
    place = own("local")
    is_one_clear_line(place.mount.try_mount(*flags), place.mount, *mentions)


@pytest.mark.parametrize("url", ["ftp://bucket", "bucket", "s3://", "file://relative", "s3://b?x"])
def test_a_url_that_cannot_be_mounted(own: Callable[..., Place], url: str) -> None:
    place = own("local")
    place.mount.url = url
    is_one_clear_line(place.mount.try_mount(), place.mount, url)


def test_a_url_with_credentials_is_refused_without_repeating_them(
    own: Callable[..., Place],
) -> None:
    place = own("local")
    place.mount.url = "s3://AKIAKEYINURL:secretinurl@bucket"
    done = place.mount.try_mount()
    is_one_clear_line(done, place.mount, "credentials")
    assert "secretinurl" not in done.stdout + done.stderr


def test_a_mount_point_that_is_missing(own: Callable[..., Place]) -> None:
    mount = own("local").mount
    mount.path.rmdir()
    is_one_clear_line(mount.try_mount(), mount, str(mount.path))


def test_a_mount_point_that_is_a_file(own: Callable[..., Place]) -> None:
    mount = own("local").mount
    mount.path.rmdir()
    mount.path.write_text("")
    is_one_clear_line(mount.try_mount(), mount, str(mount.path))


def test_a_mount_point_with_something_in_it(own: Callable[..., Place]) -> None:
    mount = own("local").mount
    (mount.path / "hidden-by-the-mount").write_text("")
    is_one_clear_line(mount.try_mount(), mount, str(mount.path), "hidden-by-the-mount")


def test_a_mount_point_that_is_taken_by_another_storefs(own: Callable[..., Place]) -> None:
    first = own("local").mount
    first.mount()
    first.sh("echo kept > file")
    second = own("local").mount
    second.path = first.path
    done = second.try_mount()
    told = (done.stdout + done.stderr).strip()
    assert (done.returncode, len(told.splitlines())) == (2, 1), told
    assert str(first.path) in told
    assert first.sh("cat file").stdout == "kept\n"
    assert not second.pids()
    second.path = second.directory / "mnt"


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts a tmpfs")
def test_a_mount_point_that_is_taken_by_another_file_system(own: Callable[..., Place]) -> None:
    mount = own("local").mount
    run(["mount", "-t", "tmpfs", "none", str(mount.path)], env=mount.env)
    try:
        done = mount.try_mount()
        told = (done.stdout + done.stderr).strip()
        assert (done.returncode, len(told.splitlines())) == (2, 1), told
        assert str(mount.path) in told
        assert not mount.pids()
    finally:
        run(["umount", str(mount.path)], env=mount.env)


@pytest.mark.parametrize(
    ("text", "mention"),
    [
        ("this is no TOML", "line 1"),
        ('no-such-key = "x"\n', "no-such-key"),
        ('cache-size = "many"\n', "many"),
        ("timeout = [1]\n", "timeout"),
    ],
)
def test_a_configuration_file_that_is_wrong(
    own: Callable[..., Place], tmp_path: Path, text: str, mention: str
) -> None:
    place = own("local")
    config = tmp_path / "bad.conf"
    config.write_text(text)
    done = place.mount.try_mount("--config", str(config))
    is_one_clear_line(done, place.mount, mention, str(config))


def test_a_configuration_file_that_is_missing(own: Callable[..., Place], tmp_path: Path) -> None:
    place = own("local")
    done = place.mount.try_mount("--config", str(tmp_path / "none.conf"))
    is_one_clear_line(done, place.mount, str(tmp_path / "none.conf"))


def test_a_wrong_value_in_the_environment(own: Callable[..., Place]) -> None:
    place = own("local")
    place.mount.env["STOREFS_CACHE_SIZE"] = "many"
    is_one_clear_line(place.mount.try_mount(), place.mount, "many")


def test_a_state_directory_that_cannot_be_written(own: Callable[..., Place]) -> None:
    place = own("local")
    (place.mount.directory / "state").write_text("a file")
    is_one_clear_line(place.mount.try_mount(), place.mount, str(place.mount.directory / "state"))
