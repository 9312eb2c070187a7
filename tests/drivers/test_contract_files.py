"""One suite for every driver: files, copies, deletes."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from storefs.drivers.models import ObjectAttributes
from storefs.errors import ObjectChanged, ObjectExists, ObjectNotFound, Unsupported

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drivers.conftest import Place

MIB = 1024 * 1024
BODY = os.urandom(11 * MIB)


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [None, 4])
def test_a_large_file_goes_up_in_parts_and_comes_down_equal(
    place: Place, tmp_path: Path, threads: int | None
) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(BODY)
    told: list[tuple[int, int | None]] = []

    result = place.driver.upload_file(
        place.connection,
        str(source),
        place.bucket,
        "key",
        "sha256",
        threads,
        lambda done, total: told.append((done, total)),
        part_bytes=5 * MIB,
    )
    got = place.driver.download_file(
        place.connection,
        place.bucket,
        "key",
        str(copy),
        checksum_type="sha256",
        threads=threads,
    )

    assert copy.read_bytes() == BODY
    assert result.checksum == got.client_checksum
    assert result.extra["etag"] == place.head("key").etag
    assert told[-1] == (len(BODY), len(BODY))
    assert place.driver.list_multipart_uploads(place.connection, place.bucket) == []


def test_a_small_file_is_one_object_with_the_md5_as_its_etag(place: Place, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"small")
    path = str(tmp_path / "source")

    result = place.driver.upload_file(place.connection, path, place.bucket, "key", "md5")

    assert result.checksum == result.extra["etag"] == place.head("key").etag


def test_a_file_goes_into_a_directory_under_its_own_name(place: Place, tmp_path: Path) -> None:
    place.put("a/name.txt", b"body")

    place.driver.download_file(place.connection, place.bucket, "a/name.txt", str(tmp_path))

    assert (tmp_path / "name.txt").read_bytes() == b"body"


def test_a_download_that_fails_leaves_what_was_there(place: Place, tmp_path: Path) -> None:
    target = tmp_path / "d" / "file"
    target.parent.mkdir()
    target.write_bytes(b"before")

    with pytest.raises(ObjectNotFound):
        place.driver.download_file(place.connection, place.bucket, "missing", str(target))

    assert target.read_bytes() == b"before"
    assert os.listdir(target.parent) == ["file"]


def test_a_stream_that_fails_leaves_no_object_and_no_upload(place: Place) -> None:
    def broken() -> Any:
        yield BODY
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        place.put("key", broken(), part_bytes=5 * MIB)

    assert place.keys() == []
    assert place.driver.list_multipart_uploads(place.connection, place.bucket) == []


def test_an_upload_by_parts_keeps_its_condition_and_attributes(place: Place) -> None:
    place.put("key", b"there")
    given = ObjectAttributes(content_type="text/x-storefs", metadata={"a": "b"})

    with pytest.raises(ObjectExists):
        place.put("key", iter([BODY]), part_bytes=5 * MIB, if_none_match="*")
    etag = place.head("key").etag
    place.put("key", iter([BODY]), part_bytes=5 * MIB, if_match=etag, attributes=given)

    found = place.head("key")
    assert (found.size, found.metadata) == (len(BODY), {"a": "b"})
    assert found.extra["content_type"] == "text/x-storefs"


# -- copies --------------------------------------------------------------------------------------


def test_a_copy_has_the_bytes_and_all_beside_them(place: Place) -> None:
    given = ObjectAttributes(content_type="text/x-storefs", metadata={"a": "b"})
    place.put("source", b"bytes", attributes=given)

    result = place.copy("source", "target")

    found = place.head("target")
    assert place.get("target") == b"bytes"
    assert (result.extra["etag"], result.extra["size"]) == (found.etag, 5)
    assert found.metadata == {"a": "b"}
    assert found.extra["content_type"] == "text/x-storefs"


def test_attributes_given_to_a_copy_replace_all_of_the_source(place: Place) -> None:
    place.put("source", b"bytes", attributes=ObjectAttributes(metadata={"a": "b"}))

    place.copy("source", "target", attributes=ObjectAttributes(metadata={"c": "d"}))
    place.copy("source", "source", attributes=ObjectAttributes(metadata={"e": "f"}))

    assert place.head("target").metadata == {"c": "d"}
    assert place.head("source").metadata == {"e": "f"}
    assert place.get("source") == b"bytes"


def test_a_copy_keeps_tags_unless_others_are_given(place: Place) -> None:
    place.needs("tags")
    place.put("source", b"bytes", attributes=ObjectAttributes(tags={"a": "b"}))

    place.copy("source", "same")
    place.copy("source", "kept", attributes=ObjectAttributes(metadata={"c": "d"}))
    place.copy("source", "other", attributes=ObjectAttributes(tags={"c": "d"}))

    tags = {
        key: place.driver.get_object_tags(place.connection, place.bucket, key)
        for key in ("same", "kept", "other")
    }
    assert tags == {"same": {"a": "b"}, "kept": {"a": "b"}, "other": {"c": "d"}}


def test_a_copy_is_of_the_version_that_was_seen(place: Place) -> None:
    etag = place.put("source", b"one").extra["etag"]
    place.put("source", b"two")

    with pytest.raises(ObjectChanged):
        place.copy("source", "target", src_if_match=etag)

    assert place.keys() == ["source"]


def test_a_copy_with_what_a_listing_said_of_its_source_is_pinned_to_it(place: Place) -> None:
    place.put("source", b"one")
    seen = place.page()[0][0]

    result = place.copy("source", "target", src_object=seen)

    assert (place.get("target"), result.extra["size"]) == (b"one", 3)


def test_a_copy_keeps_its_condition_on_the_target(place: Place) -> None:
    place.needs("conditional-copy")
    place.put("source", b"new")
    etag = place.put("target", b"old").extra["etag"]

    with pytest.raises(ObjectExists):
        place.copy("source", "target", if_none_match="*")
    with pytest.raises(ObjectChanged):
        place.copy("source", "target", if_match="0" * 32)
    assert place.get("target") == b"old"
    place.copy("source", "target", if_match=etag)
    place.copy("source", "absent", if_none_match="*")

    assert place.get("target") == place.get("absent") == b"new"


def test_a_copy_goes_to_another_bucket(place: Place, tmp_path: Path) -> None:
    place.put("source", b"bytes")
    other = place.bucket + "-other"
    if place.kind == "local":
        os.mkdir(other)
    elif place.kind == "memory":
        place.connection.make_container(other)  # type: ignore[attr-defined]
    else:
        place.connection.get_client().create_bucket(Bucket=other)

    place.driver.copy_object(place.connection, place.bucket, "source", "target", other)

    found = place.driver.get_object_meta(place.connection, "target", other)
    assert found.size == 5


# -- deletes -------------------------------------------------------------------------------------


def test_a_deleted_object_is_gone_and_deleting_it_again_is_no_error(place: Place) -> None:
    place.put("key", b"bytes")

    place.delete("key")
    place.delete("key")

    with pytest.raises(ObjectNotFound):
        place.head("key")
    assert place.keys() == []


def test_a_delete_on_a_version_leaves_another_one(place: Place) -> None:
    place.needs("conditional-delete")
    etag = place.put("key", b"one").extra["etag"]
    newer = place.put("key", b"two").extra["etag"]

    with pytest.raises(ObjectChanged):
        place.delete("key", if_match=etag)
    assert place.get("key") == b"two"
    place.delete("key", if_match=newer)

    assert place.keys() == []


def test_a_delete_on_a_version_of_a_missing_object_says_so(place: Place) -> None:
    place.needs("conditional-delete")
    place.needs("conditional-delete-of-nothing")
    with pytest.raises(ObjectChanged):
        place.delete("missing", if_match="0" * 32)


def test_many_are_deleted_at_once_and_absent_ones_count(place: Place) -> None:
    keys = [f"d/{number:04d}" for number in range(25)]
    for key in keys:
        place.put(key)
    place.put("stays")

    result = place.driver.batch_delete_objects(place.connection, [*keys, "d/absent"], place.bucket)

    assert result.extra == {"deleted": 26, "errors": {}}
    assert place.keys() == ["stays"]


def test_a_batch_deletes_only_the_versions_that_were_seen(place: Place) -> None:
    place.needs("conditional-batch-delete")
    old = place.put("changed", b"one").extra["etag"]
    place.put("changed", b"two")
    same = place.put("same", b"one").extra["etag"]

    result = place.driver.batch_delete_objects(
        place.connection,
        ["changed", "same"],
        place.bucket,
        if_match={"changed": old, "same": same},
    )

    assert result.extra["deleted"] == 1
    assert isinstance(result.extra["errors"]["changed"], ObjectChanged)
    assert place.keys() == ["changed"]


def test_a_prefix_is_deleted_and_nothing_else(place: Place) -> None:
    for key in ("a/1", "a/b/2", "a/c", "ab", "b"):
        place.put(key)

    result = place.driver.delete_objects_by_prefix(place.connection, "a/", place.bucket)

    assert result.extra == {"deleted": 3, "errors": {}}
    assert place.keys() == ["ab", "b"]
    with pytest.raises(Unsupported):
        place.driver.delete_objects_by_prefix(place.connection, "", place.bucket)


# -- many at once --------------------------------------------------------------------------------


def test_of_many_who_create_one_object_exactly_one_succeeds(place: Place) -> None:
    place.needs("atomic-conditions")
    won: list[int] = []
    start = threading.Barrier(8)

    def create(number: int) -> None:
        start.wait()
        try:
            place.put("key", str(number).encode(), if_none_match="*")
        except ObjectExists:
            return
        won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert place.get("key") == str(won[0]).encode()


def test_what_a_store_has_not_is_said_with_its_name(place: Place) -> None:
    driver, connection = place.driver, place.connection
    for call in (
        lambda: driver.archive_object(connection, place.bucket, "a", place.bucket, "b"),
        lambda: driver.restore_object(connection, place.bucket, "a"),
        lambda: driver.enable_object_cdn(connection, "a", place.bucket),
        lambda: driver.rename_object(connection, place.bucket, "a", "b"),
    ):
        with pytest.raises(Unsupported, match=driver.store_name):
            call()
