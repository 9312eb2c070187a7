"""What is looked at before a mount is tried: each lack is one line that says what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from storefs import control, mounttable
from storefs.cli import preflight
from storefs.cli.options import mount_config
from storefs.cli.sources import gather
from storefs.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from storefs.config import MountConfig


@pytest.fixture(autouse=True)
def a_machine_with_fuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "fuse"
    device.touch()
    monkeypatch.setattr(preflight, "FUSE_DEVICE", device)


@pytest.fixture
def places(tmp_path: Path) -> Path:
    for name in ("bucket", "mountpoint"):
        (tmp_path / name).mkdir()
    return tmp_path


def configure(places: Path, url: str | None = None, **flags: Any) -> MountConfig:
    said = {name.replace("_", "-"): str(value) for name, value in flags.items()}
    return mount_config(
        gather(
            url=url or f"file://{places}/bucket",
            directory=str(places / "mountpoint"),
            flags=said,
            environ={},
        )
    )


def complaint(config: MountConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        preflight.check(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_mount_passes_and_its_directories_are_made(places: Path, home: Path) -> None:
    assert preflight.check(configure(places)) == []
    for name in ("cache", "state"):
        assert (home / name).stat().st_mode & 0o777 == 0o700


def test_fuse_must_be_there(places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "FUSE_DEVICE", tmp_path / "none")
    assert "is missing: run `modprobe fuse`" in complaint(configure(places))


def test_fuse_must_be_ours_to_open(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.os, "access", lambda path, mode: False)
    assert "you may not open" in complaint(configure(places))


def test_a_user_needs_fusermount(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure(places)
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match="fusermount3 is missing: install the package fuse3"):
        preflight.check_fuse()
    del config


@pytest.mark.parametrize(
    ("conf", "allowed"),
    [("user_allow_other\n", True), ("# user_allow_other\n", False), ("", False)],
)
def test_a_user_needs_leave_to_let_others_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conf: str, allowed: bool
) -> None:
    path = tmp_path / "fuse.conf"
    path.write_text(conf)
    monkeypatch.setattr(preflight, "FUSE_CONF", path)
    if allowed:
        preflight.check_allow_other()
    else:
        with pytest.raises(ConfigError, match="needs a line `user_allow_other` in"):
            preflight.check_allow_other()


def test_the_mountpoint_must_exist(places: Path) -> None:
    (places / "mountpoint").rmdir()
    said = complaint(configure(places))
    assert "there is no directory" in said and "mkdir -p" in said


def test_the_mountpoint_must_be_a_directory(places: Path) -> None:
    (places / "mountpoint").rmdir()
    (places / "mountpoint").touch()
    assert "it is not a directory" in complaint(configure(places))


def test_the_mountpoint_must_be_empty(places: Path) -> None:
    (places / "mountpoint" / "precious").touch()
    assert "not empty, and the mount would hide 'precious'" in complaint(configure(places))


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[mounttable.MountEntry]:
    entries: list[mounttable.MountEntry] = []
    monkeypatch.setattr(mounttable, "read", lambda: list(entries))
    return entries


def test_a_mountpoint_in_use_is_busy(places: Path, mounted: list[mounttable.MountEntry]) -> None:
    mounted.append(mounttable.MountEntry(f"{places}/mountpoint", "/dev/sdb", "ext4", (8, 1)))
    assert "is busy: /dev/sdb (ext4) is mounted there" in complaint(configure(places))


def test_a_mountpoint_with_a_living_mount_of_storefs_says_how_to_end_it(
    places: Path, mounted: list[mounttable.MountEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    mountpoint = f"{places}/mountpoint"
    mounted.append(mounttable.MountEntry(mountpoint, "s3://b", "fuse.storefs", (0, 9)))
    monkeypatch.setattr(mounttable, "is_dead", lambda mountpoint: False)
    said = complaint(configure(places))
    assert f"s3://b is mounted there already; `storefs umount {mountpoint}` ends it" in said


def test_a_dead_mount_is_cleaned_and_said(
    places: Path, mounted: list[mounttable.MountEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    mountpoint = f"{places}/mountpoint"
    dead = mounttable.MountEntry(mountpoint, "s3://b", "fuse.storefs", (0, 9))
    mounted += [dead, dead]
    monkeypatch.setattr(mounttable, "is_dead", lambda mountpoint: True)
    monkeypatch.setattr(preflight, "detach", lambda mountpoint, lazy: mounted.pop())
    notices = preflight.check(configure(places))
    assert len(notices) == 2
    assert "was left by a daemon that is dead (it had s3://b): unmounted it" in notices[0]
    assert control.list_mounts() == []


def test_a_bucket_that_does_not_exist_is_named(places: Path) -> None:
    (places / "bucket").rmdir()
    assert "make the bucket with `mkdir" in complaint(configure(places))


def test_a_bucket_that_is_a_file_is_none(places: Path) -> None:
    (places / "bucket").rmdir()
    (places / "bucket").touch()
    assert "is not a directory, so it is no bucket" in complaint(configure(places))


@pytest.mark.parametrize("inside", ["", "/sub", "/.."])
def test_a_bucket_inside_or_around_the_mountpoint_is_refused(places: Path, inside: str) -> None:
    """Each request of such a mount would wait for another one."""
    url = f"file://{places}/mountpoint{inside}"
    assert "must lie apart" in complaint(configure(places, url))


def test_a_bucket_reached_by_a_link_is_seen_through(places: Path) -> None:
    (places / "link").symlink_to("mountpoint")
    assert "must lie apart" in complaint(configure(places, f"file://{places}/link"))


@pytest.mark.parametrize("flag", ["cache_dir", "state_dir", "log_file"])
def test_what_the_mount_needs_may_not_lie_in_it(places: Path, flag: str) -> None:
    config = configure(places, **{flag: places / "mountpoint" / "x"})
    assert "lies in the mounted directory" in complaint(config)


@pytest.mark.parametrize("flag", ["cache_dir", "state_dir"])
def test_what_the_mount_keeps_may_not_lie_in_the_bucket(places: Path, flag: str) -> None:
    config = configure(places, **{flag: places / "bucket" / "x"})
    assert "lies in the bucket" in complaint(config)


@pytest.mark.parametrize("below", ["", "/below"])
def test_cache_and_state_must_be_apart(places: Path, below: str) -> None:
    config = configure(places, cache_dir=places / "c", state_dir=f"{places}/c{below}")
    assert "the one may be deleted, the other never" in complaint(config)


@pytest.mark.parametrize("flag", ["cache_dir", "state_dir"])
def test_a_local_directory_must_be_possible(places: Path, flag: str) -> None:
    (places / "file").touch()
    said = complaint(configure(places, **{flag: places / "file" / "x"}))
    assert said.startswith(f"--{flag.replace('_', '-')}: cannot make")


@pytest.mark.parametrize("flag", ["cache_dir", "state_dir"])
def test_a_local_directory_must_be_ours_alone(places: Path, flag: str) -> None:
    (places / "shared").mkdir()
    (places / "shared").chmod(0o777)
    assert "others may write" in complaint(configure(places, **{flag: places / "shared"}))


def test_a_local_directory_of_another_user_is_refused(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = places.stat().st_uid
    monkeypatch.setattr("os.getuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        preflight.check_own_directory(places, "--state-dir")


def test_files_that_are_named_must_exist(places: Path) -> None:
    said = complaint(configure(places, "s3://b", ca_bundle=places / "none"))
    assert said.startswith("--ca-bundle: cannot read")
    assert "there is no directory" in complaint(configure(places, log_file=places / "no" / "log"))
    assert "is a directory" in complaint(configure(places, log_file=places))


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_bucket_that_may_not_be_written_needs_read_only(places: Path) -> None:
    (places / "bucket").chmod(0o500)
    assert "or mount with --read-only" in complaint(configure(places))
    preflight.check_bucket(configure(places, read_only="yes"))
