"""A directory as a bucket: nothing outside it is reached, and nothing is lost when things fail."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from storefs.config import StoreConfig, StoreUrl
from storefs.drivers import open_driver
from storefs.drivers.local import LocalDriver
from storefs.drivers.local_connection import LocalConnection
from storefs.errors import (
    AccessDenied,
    ConfigError,
    ContainerNotFound,
    InvalidKey,
    NoSuchUpload,
    ObjectNotFound,
    StoreFull,
)
from tests.drivers.conftest import Place

if TYPE_CHECKING:
    from pathlib import Path


# -- nothing outside -----------------------------------------------------------------------------


def test_links_and_devices_are_no_objects_and_are_told_once(
    local: Place, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(outside / "secret")
    (root / "directory").symlink_to(outside)
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    (root / "file").write_bytes(b"bytes")

    with caplog.at_level(logging.WARNING):
        assert local.keys() == ["file"]
        local.page(delimiter="/")
    assert len(caplog.records) == 1
    for key in ("link", "directory/secret", "directory/", "pipe", "socket"):
        with pytest.raises(ObjectNotFound):
            local.head(key)
        with pytest.raises(ObjectNotFound):
            local.get(key)
        local.delete(key)
    with pytest.raises(InvalidKey):
        local.put("directory/planted", b"bytes")

    assert os.listdir(outside) == ["secret"]
    assert (root / "link").is_symlink()


def test_a_put_over_a_link_replaces_the_link(local: Place, root: Path) -> None:
    (root.parent / "outside").write_bytes(b"outside")
    (root / "key").symlink_to(root.parent / "outside")

    local.put("key", b"bytes")

    assert (root.parent / "outside").read_bytes() == b"outside"
    assert local.get("key") == b"bytes"


def test_a_name_that_is_not_utf8_is_skipped(local: Place, root: Path) -> None:
    with open(os.fsencode(root) + b"/\xff", "wb"):
        pass
    local.put("key", b"bytes")

    assert local.keys() == ["key"]


def test_an_upload_id_cannot_name_another_directory(local: Place) -> None:
    local.put("key", b"bytes")
    for upload_id in ("../tmp", "..", "", "0" * 32, "/etc"):
        with pytest.raises(NoSuchUpload):
            local.send("key", upload_id, 1, b"x")
        local.driver.abort_multipart_upload(local.connection, local.bucket, "key", upload_id)

    assert local.get("key") == b"bytes"


def test_a_bucket_is_an_absolute_directory_or_a_name_in_the_host(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    driver = LocalDriver()
    there = LocalConnection(str(tmp_path))

    driver.get_container(there, "bucket")
    for name in ("..", ".", "", "bucket/..", "absent"):
        with pytest.raises(ContainerNotFound):
            driver.get_container(there, name)
    with pytest.raises(ContainerNotFound):
        driver.get_container(LocalConnection(), "bucket")


def test_a_directory_that_does_not_exist_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    url = StoreUrl.parse(f"file://{tmp_path}/absent")
    with pytest.raises(ConfigError, match="make it first"):
        open_driver(StoreConfig(url))


# -- what goes wrong -----------------------------------------------------------------------------


def test_a_full_disk_is_said_and_leaves_nothing(
    local: Place, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put("key", b"old")

    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreFull):
        local.put("key", b"new")
    monkeypatch.undo()

    assert local.get("key") == b"old"
    assert os.listdir(root / ".storefs-bucket" / "tmp") == []


def test_a_directory_without_permission_is_said(
    local: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put("key", b"old")

    def denied(*args: object, **kwargs: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", denied)
    with pytest.raises(AccessDenied):
        local.put("key", b"new")
    monkeypatch.undo()

    assert local.get("key") == b"old"


def test_reading_writes_nothing_into_a_foreign_directory(local: Place, root: Path) -> None:
    (root / "file").write_bytes(b"bytes")
    local.keys()
    local.get("file")
    local.head("file")
    local.driver.list_multipart_uploads(local.connection, local.bucket)

    assert os.listdir(root) == ["file"]


def test_what_a_crash_left_is_removed_after_a_day(root: Path) -> None:
    temporary = root / ".storefs-bucket" / "tmp"
    temporary.mkdir(parents=True)
    for name, age in (("object-old", 100_000), ("object-new", 10)):
        (temporary / name).touch()
        stamp = time.time() - age
        os.utime(temporary / name, (stamp, stamp))

    Place("local", LocalDriver(), LocalConnection(), str(root)).put("key", b"bytes")

    assert os.listdir(temporary) == ["object-new"]


def test_a_newer_format_is_refused_by_name(root: Path) -> None:
    (root / ".storefs-bucket").mkdir()
    (root / ".storefs-bucket" / "format").write_text("2\n")

    with pytest.raises(ConfigError, match="format 2"):
        Place("local", LocalDriver(), LocalConnection(), str(root)).put("key", b"bytes")

    assert (root / ".storefs-bucket" / "format").read_text() == "2\n"


def test_a_damaged_record_makes_a_foreign_file(local: Place, root: Path) -> None:
    local.put("key", b"bytes")
    for record in (root / ".storefs-bucket" / "records").rglob("*"):
        if record.is_file():
            record.write_bytes(b'{"torn')

    assert local.head("key").etag.startswith("x-")
    assert local.get("key") == b"bytes"
