"""A directory as a bucket: what other programs may do to it, and what must never leave it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from storefs.drivers.local import LocalDriver
from storefs.drivers.local_connection import LocalConnection
from storefs.drivers.models import ObjectAttributes
from storefs.errors import (
    InvalidKey,
    ObjectChanged,
    ObjectNotFound,
)
from tests.drivers.conftest import Place, files

if TYPE_CHECKING:
    from pathlib import Path

EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"


# -- plain files ---------------------------------------------------------------------------------


def test_an_object_is_a_plain_file_under_its_key(local: Place, root: Path) -> None:
    local.put("a/b.txt", b"bytes")

    assert (root / "a" / "b.txt").read_bytes() == b"bytes"
    assert files(root) == {"a", "a/b.txt"}


def test_a_foreign_file_is_an_object_with_an_etag_of_its_own(local: Place, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "foreign").write_bytes(b"bytes")

    found = local.head("d/foreign")

    assert local.page("d/")[0][0].etag == found.etag
    assert found.etag.startswith("x-")
    assert local.get("d/foreign", if_match=found.etag) == b"bytes"


def test_listing_a_large_foreign_file_does_not_read_it(local: Place, root: Path) -> None:
    with open(root / "sparse", "wb") as file:
        file.truncate(1 << 40)

    assert local.page()[0][0].size == 1 << 40
    assert local.head("sparse").size == 1 << 40


@pytest.mark.parametrize("content", [b"shorter", b"same size!", b"a longer one than before"])
def test_an_edit_in_place_is_another_version(local: Place, root: Path, content: bytes) -> None:
    etag = local.put("key", b"0123456789").extra["etag"]
    (root / "key").write_bytes(content)

    assert local.head("key").etag != etag
    with pytest.raises(ObjectChanged):
        local.get("key", if_match=etag)
    with pytest.raises(ObjectChanged):
        local.put("key", b"lost update", if_match=etag)
    assert local.get("key") == content


def test_a_file_replaced_by_another_program_loses_what_belonged_to_the_old_one(
    local: Place, root: Path
) -> None:
    local.put("key", b"old", attributes=ObjectAttributes(metadata={"a": "b"}))
    (root / "new").write_bytes(b"new bytes")
    os.rename(root / "new", root / "key")

    assert local.head("key").metadata == {}
    assert local.keys() == ["key"]


def test_a_file_that_changes_while_it_is_read_is_no_mixture(local: Place, root: Path) -> None:
    local.put("key", b"a" * 100)
    stream = local.driver.download_object_as_stream(local.connection, local.bucket, "key", 10)
    next(stream)
    with open(root / "key", "r+b") as file:
        file.write(b"b" * 100)

    with pytest.raises(ObjectChanged):
        b"".join(stream)


def test_a_file_replaced_while_it_is_read_is_read_to_its_end(local: Place) -> None:
    local.put("key", b"a" * 100)
    stream = local.driver.download_object_as_stream(local.connection, local.bucket, "key", 10)
    first = next(stream)
    local.put("key", b"b" * 100)

    assert first + b"".join(stream) == b"a" * 100


def test_a_file_removed_by_another_program_is_gone(local: Place, root: Path) -> None:
    local.put("d/key", b"bytes")
    os.unlink(root / "d" / "key")

    with pytest.raises(ObjectNotFound):
        local.head("d/key")
    local.delete("d/key")


def test_a_new_file_has_the_permissions_that_the_umask_leaves(local: Place, root: Path) -> None:
    before = os.umask(0o027)
    try:
        local.put("key", b"bytes")
    finally:
        os.umask(before)

    assert (root / "key").stat().st_mode & 0o777 == 0o640


# -- directories ---------------------------------------------------------------------------------


def test_a_foreign_empty_directory_is_a_marker(local: Place, root: Path) -> None:
    (root / "d" / "e").mkdir(parents=True)

    assert local.keys() == ["d/e/"]
    assert local.head("d/e/").etag == EMPTY_MD5
    with pytest.raises(ObjectNotFound):
        local.head("d/")
    assert [found.name for found in local.page(delimiter="/")[0]] == ["d/"]


def test_a_directory_that_was_put_stays_when_its_last_object_goes(local: Place, root: Path) -> None:
    local.put("d/", b"", attributes=ObjectAttributes(metadata={"mode": "16877"}))
    local.put("d/x/y", b"y")
    local.delete("d/x/y")

    assert files(root) == {"d"}
    assert local.head("d/").metadata == {"mode": "16877"}
    local.delete("d/")
    assert files(root) == set()


def test_a_directory_that_is_not_empty_keeps_its_objects_when_its_marker_goes(
    local: Place, root: Path
) -> None:
    local.put("d/")
    local.put("d/x", b"x")

    local.delete("d/")

    assert local.keys() == ["d/x"]
    local.delete("d/x")
    assert files(root) == set()


def test_a_marker_put_again_after_its_directory_was_removed_starts_anew(
    local: Place, root: Path
) -> None:
    local.put("d/", b"", attributes=ObjectAttributes(metadata={"a": "b"}))
    os.rmdir(root / "d")
    local.put("d/x", b"x")

    assert local.keys() == ["d/x"]


def test_a_directory_with_bytes_is_refused(local: Place) -> None:
    with pytest.raises(InvalidKey, match="holds no bytes"):
        local.put("d/", b"bytes")
    local.put("source", b"bytes")
    with pytest.raises(InvalidKey, match="holds no bytes"):
        local.copy("source", "d/")


# -- keys that no file can have ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("a//b", "between slashes"),
        ("/a", "between slashes"),
        ("a/../../b", "between slashes"),
        ("..", "between slashes"),
        ("./a", "between slashes"),
        ("k" * 256, "255 bytes"),
        ("d/" + "\u00e9" * 128, "255 bytes"),
        ("nul\0", "NUL"),
        (".storefs-bucket/records/x", "belongs to storefs"),
        (".storefs-bucket", "belongs to storefs"),
    ],
)
def test_a_key_that_no_file_can_have_is_refused_with_the_reason(
    local: Place, root: Path, key: str, why: str
) -> None:
    local.put("source", b"bytes")
    for call in (
        lambda: local.put(key, b"bytes"),
        lambda: local.begin(key),
        lambda: local.copy("source", key),
        lambda: local.append(key, b"bytes", 0),
    ):
        with pytest.raises(InvalidKey, match=why):
            call()
    with pytest.raises(ObjectNotFound):
        local.head(key)
    local.delete(key)

    assert files(root) == {"source"}
    assert sorted(os.listdir(root.parent)) == ["bucket"]


def test_an_object_beside_objects_below_it_is_refused(local: Place, root: Path) -> None:
    local.put("a/b", b"below")
    with pytest.raises(InvalidKey, match="cannot hold both"):
        local.put("a", b"above")
    with pytest.raises(InvalidKey, match="cannot hold both"):
        local.put("a/b/c", b"below that")
    with pytest.raises(ObjectNotFound):
        local.head("a")
    with pytest.raises(ObjectNotFound):
        local.get("a/b/c")

    assert local.keys() == ["a/b"]
    assert local.get("a/b") == b"below"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_stores_in_somebodys_bucket_belongs_to_them(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1235)
    driver, connection = LocalDriver(), LocalConnection()
    driver.upload_object_via_stream(connection, b"1", str(tmp_path), "dir/file")
    for made in (tmp_path / "dir", tmp_path / "dir" / "file"):
        assert (made.stat().st_uid, made.stat().st_gid) == (1234, 1235)
