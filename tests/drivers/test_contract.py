"""One suite for every driver: objects up, down, copied and removed.

Listings, multipart uploads and appends have files of their own beside this one; what a store was
seen to do otherwise stands in `conftest.DIFFERENT`.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from storefs.drivers.models import ObjectAttributes
from storefs.errors import (
    ConfigError,
    ContainerNotFound,
    InvalidKey,
    InvalidRange,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.drivers.conftest import Place

BODY = b"0123456789"
BODY_MD5 = hashlib.md5(BODY).hexdigest()
MIB = 1024 * 1024


# -- up and down ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [
        lambda: BODY,
        lambda: bytearray(BODY),
        lambda: memoryview(BODY),
        lambda: io.BytesIO(BODY),
        lambda: iter([BODY[:3], b"", BODY[3:]]),
    ],
    ids=["bytes", "bytearray", "memoryview", "file", "iterator"],
)
def test_a_body_of_any_kind_arrives_whole(place: Place, made: Callable[[], Any]) -> None:
    result = place.put("key", made())

    assert place.get("key") == BODY
    assert (result.extra["etag"], result.extra["size"]) == (BODY_MD5, 10)


def test_a_real_file_is_sent_from_where_it_stands(place: Place, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"skipped" + BODY)
    with open(tmp_path / "source", "rb") as file:
        file.seek(7)
        place.put("key", file)

    assert place.get("key") == BODY


def test_an_empty_object_is_an_object(place: Place) -> None:
    place.put("key", b"")

    assert place.head("key").size == 0
    assert place.get("key") == b""
    assert place.get("key", length=100) == b""


def test_text_is_refused_before_anything_is_sent(place: Place) -> None:
    with pytest.raises(TypeError):
        place.put("key", "text")
    with pytest.raises(TypeError):
        place.put("key", io.StringIO("text"))

    assert place.keys() == []


def test_a_put_replaces_what_was_there(place: Place) -> None:
    place.put("key", b"old")
    place.put("key", BODY)

    assert place.get("key") == BODY


def test_a_head_tells_size_version_and_time(place: Place) -> None:
    before = time.time_ns()
    etag = place.put("key", BODY).extra["etag"]
    after = time.time_ns()

    found = place.head("key")

    assert (found.name, found.size, found.etag) == ("key", 10, etag)
    second = 1_000_000_000  # S3 tells whole seconds, and clocks of servers may run a little apart
    assert before - 2 * second <= found.mtime_ns <= after + 2 * second


def test_everything_beside_the_bytes_comes_back(place: Place) -> None:
    given = ObjectAttributes(
        content_type="text/x-storefs",
        metadata={"mode": "33188", "note": "a b"},
        cache_control="no-cache",
        content_disposition='attachment; filename="x"',
        content_encoding="gzip",
        content_language="en",
    )
    place.put("key", BODY, attributes=given)

    found = place.head("key")
    stream = place.driver.download_object_as_stream(place.connection, place.bucket, "key")
    stream.close()

    for seen in (found.attributes, stream.extra["object"].attributes):
        for name in (
            "content_type",
            "metadata",
            "cache_control",
            "content_disposition",
            "content_encoding",
            "content_language",
        ):
            assert getattr(seen, name) == getattr(given, name), name
    assert found.metadata == dict(given.metadata)


def test_tags_are_counted_by_a_head_and_told_when_asked_for(place: Place) -> None:
    place.needs("tags")
    tags = {"colour": "blue + green", "n": "1"}
    place.put("key", BODY, attributes=ObjectAttributes(tags=tags))
    place.put("plain", BODY)

    attributes = place.head("key").attributes
    assert attributes is not None and attributes.tag_count == 2
    driver = place.driver
    assert driver.get_object_tags(place.connection, place.bucket, "key") == tags
    assert driver.get_object_tags(place.connection, place.bucket, "plain") == {}


@pytest.mark.parametrize(
    ("offset", "length", "wanted"),
    [
        (0, None, BODY),
        (3, None, BODY[3:]),
        (0, 4, BODY[:4]),
        (3, 4, BODY[3:7]),
        (8, 100, BODY[8:]),
        (0, 100, BODY),
        (9, 1, b"9"),
        (4, 0, b""),
    ],
)
def test_a_range_is_what_was_asked_clamped_at_the_end(
    place: Place, offset: int, length: int | None, wanted: bytes
) -> None:
    place.put("key", BODY)

    stream = place.driver.download_object_as_stream(
        place.connection, place.bucket, "key", offset=offset, length=length
    )

    assert b"".join(stream) == wanted
    assert stream.extra["object"].size == 10  # of the whole object


@pytest.mark.parametrize("offset", [10, 11, 1000])
def test_a_range_that_begins_behind_the_end_is_refused(place: Place, offset: int) -> None:
    place.put("key", BODY)

    with pytest.raises(InvalidRange):
        place.get("key", offset=offset, length=5)
    with pytest.raises(InvalidRange):
        place.get("key", offset=offset)


def test_a_stream_comes_in_pieces_of_the_size_asked_for(place: Place) -> None:
    body = os.urandom(300_000)
    place.put("key", body)
    told: list[tuple[int, int | None]] = []

    stream = place.driver.download_object_as_stream(
        place.connection,
        place.bucket,
        "key",
        100_000,
        progress_callback=lambda done, total: told.append((done, total)),
    )
    pieces = list(stream)

    assert [len(piece) for piece in pieces] == [100_000] * 3
    assert b"".join(pieces) == body
    assert told == [(100_000, 300_000), (200_000, 300_000), (300_000, 300_000)]


def test_a_stream_may_be_left_unread(place: Place) -> None:
    place.put("key", os.urandom(3 * MIB))

    stream = place.driver.download_object_as_stream(place.connection, place.bucket, "key")
    next(stream)
    stream.close()
    stream.close()

    assert len(place.get("key")) == 3 * MIB


def test_progress_of_an_upload_grows_to_its_size(place: Place) -> None:
    told: list[tuple[int, int | None]] = []
    place.put(
        "key", os.urandom(2 * MIB), progress_callback=lambda done, total: told.append((done, total))
    )

    done = [each for each, _ in told]
    assert done == sorted(done)
    assert told[-1] == (2 * MIB, 2 * MIB)


# -- what is missing -----------------------------------------------------------------------------


def test_a_missing_key_is_not_found(place: Place) -> None:
    with pytest.raises(ObjectNotFound) as caught:
        place.head("missing")
    assert caught.value.key == "missing"
    with pytest.raises(ObjectNotFound):
        place.get("missing")
    with pytest.raises(ObjectNotFound):
        place.copy("missing", "elsewhere")


def test_a_missing_bucket_is_not_found(place: Place, tmp_path: Path) -> None:
    driver, connection = place.driver, place.connection
    bucket = str(tmp_path / "missing") if place.kind == "local" else "missing-bucket"

    with pytest.raises(ContainerNotFound):
        driver.get_container(connection, bucket)
    with pytest.raises(ContainerNotFound):
        driver.list_container_objects(connection, bucket)
    with pytest.raises(ContainerNotFound):
        driver.upload_object_via_stream(connection, BODY, bucket, "key")


def test_a_bucket_is_found(place: Place) -> None:
    found = place.driver.get_container(place.connection, place.bucket)

    assert found.name == place.bucket


@pytest.mark.parametrize("key", ["", "k" * 1025, "surrogate\udc80"])
def test_a_key_that_no_store_takes_is_refused(place: Place, key: str) -> None:
    with pytest.raises(InvalidKey):
        place.put(key, BODY)
    with pytest.raises(InvalidKey):
        place.begin(key)


@pytest.mark.parametrize(
    "key",
    [
        "plain",
        "a/b/c.txt",
        "space and + and % and &",
        "umlaut-\u00e9-\u4e2d-\U0001f600",
        "e\u0301 is not \u00e9",
        "quote'\"<>",
        "back\\slash",
        "tab\there",
        "#?=;:@,$!*()~",
        "k" * 255,
        ".hidden",
        "-dash",
    ],
)
def test_a_key_comes_back_as_it_was_given(place: Place, key: str) -> None:
    place.put(key, BODY)

    if "\\" in key:
        place.needs("backslash")
    assert place.head(key).name == key
    assert place.get(key) == BODY
    assert place.keys() == [key]
    assert (
        place.driver.batch_delete_objects(place.connection, [key], place.bucket).extra["errors"]
        == {}
    )
    assert place.keys() == []


@pytest.mark.parametrize("key", ["a//b", "/a", "a/../b", "./a", "a/.", "new\nline", "k" * 1024])
def test_a_key_that_is_no_path_comes_back_too(place: Place, key: str) -> None:
    place.needs("any-key")
    if "\n" in key:
        place.needs("newline")
    place.put(key, BODY)

    assert place.get(key) == BODY
    assert place.keys() == [key]
    place.delete(key)
    assert place.keys() == []


# -- conditions ----------------------------------------------------------------------------------


def test_a_read_is_pinned_to_its_version(place: Place) -> None:
    etag = place.put("key", b"old").extra["etag"]
    assert place.get("key", if_match=etag) == b"old"
    assert place.head("key", if_match=etag).etag == etag

    place.put("key", b"new")

    with pytest.raises(ObjectChanged):
        place.get("key", if_match=etag)
    with pytest.raises(ObjectChanged):
        place.get("key", offset=1, length=1, if_match=etag)
    with pytest.raises(ObjectChanged):
        place.head("key", if_match=etag)


def test_a_pinned_read_of_a_missing_object_says_that_its_version_is_gone(place: Place) -> None:
    with pytest.raises(ObjectChanged):
        place.get("missing", if_match=BODY_MD5)


def test_a_put_on_absence_does_not_replace(place: Place) -> None:
    place.put("key", b"first", if_none_match="*")

    with pytest.raises(ObjectExists):
        place.put("key", b"second", if_none_match="*")

    assert place.get("key") == b"first"


def test_a_put_on_a_version_replaces_only_that(place: Place) -> None:
    etag = place.put("key", b"one").extra["etag"]
    place.put("key", b"two", if_match=etag)

    with pytest.raises(ObjectChanged):
        place.put("key", b"three", if_match=etag)
    with pytest.raises(ObjectChanged):
        place.put("missing", b"three", if_match=etag)

    assert place.get("key") == b"two"
    assert place.keys() == ["key"]


def test_conditions_that_make_no_sense_are_refused(place: Place) -> None:
    with pytest.raises(ConfigError):
        place.put("key", BODY, if_none_match="an-etag")
    with pytest.raises(ConfigError):
        place.put("key", BODY, if_match="an-etag", if_none_match="*")


def test_unknown_options_are_refused_not_ignored(place: Place) -> None:
    for call in (
        lambda: place.put("key", BODY, no_such_option=1),
        lambda: place.get("key", no_such_option=1),
        lambda: place.page(no_such_option=1),
        lambda: place.copy("key", "other", no_such_option=1),
        lambda: place.append("key", BODY, 0, no_such_option=1),
    ):
        with pytest.raises(TypeError):
            call()
