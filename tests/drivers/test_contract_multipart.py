"""One suite for every driver: multipart uploads, and appends, which are made of them."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest

from storefs.drivers.memory import MemoryConnection, MemoryDriver
from storefs.drivers.models import ObjectAttributes
from storefs.errors import (
    NoSuchUpload,
    ObjectChanged,
    ObjectExists,
    PositionMismatch,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.drivers.conftest import Place

MIB = 1024 * 1024
LARGE = os.urandom(6 * MIB)


# -- multipart -----------------------------------------------------------------------------------


def test_parts_become_one_object_in_the_order_of_their_numbers(place: Place) -> None:
    upload = place.begin("key", attributes=ObjectAttributes(metadata={"a": "b"}))
    second = place.send("key", upload, 2, io.BytesIO(b"tail"))
    first = place.send("key", upload, 1, LARGE)
    assert place.keys() == []

    result = place.complete("key", upload, [first, second])

    digests = hashlib.md5(LARGE).digest() + hashlib.md5(b"tail").digest()
    assert result.extra["etag"] == hashlib.md5(digests).hexdigest() + "-2"
    assert (first.number, first.size, second.size) == (1, len(LARGE), 4)
    assert place.get("key") == LARGE + b"tail"
    assert place.head("key").metadata == {"a": "b"}
    assert place.head("key").etag == result.extra["etag"]


def test_parts_are_listed_and_the_last_one_sent_counts(place: Place) -> None:
    place.needs("sent-again")
    upload = place.begin("key")
    place.send("key", upload, 1, b"old")
    first = place.send("key", upload, 1, LARGE)
    second = place.send("key", upload, 2, b"tail")

    found = place.driver.list_parts(place.connection, place.bucket, "key", upload)

    assert found == [first, second]
    place.complete("key", upload, found)
    assert place.get("key") == LARGE + b"tail"


def test_an_open_upload_is_listed_until_it_is_aborted(place: Place) -> None:
    upload = place.begin("d/key")
    place.begin("other")

    def found() -> list[tuple[str, str]]:
        uploads = place.driver.list_multipart_uploads(place.connection, place.bucket, "d/")
        return [(each.key, each.upload_id) for each in uploads]

    assert found() == [("d/key", upload)]
    place.driver.abort_multipart_upload(place.connection, place.bucket, "d/key", upload)
    assert found() == []
    place.driver.abort_multipart_upload(place.connection, place.bucket, "d/key", upload)


def test_an_upload_that_is_gone_is_said_to_be_gone(place: Place) -> None:
    place.needs("gone-upload")
    upload = place.begin("key")
    part = place.send("key", upload, 1, b"x")
    place.driver.abort_multipart_upload(place.connection, place.bucket, "key", upload)

    with pytest.raises(NoSuchUpload):
        place.complete("key", upload, [part])
    with pytest.raises(NoSuchUpload):
        place.driver.list_parts(place.connection, place.bucket, "key", upload)


def test_a_part_into_an_upload_that_is_gone_fails(place: Place) -> None:
    place.needs("gone-upload")
    upload = place.begin("key")
    place.driver.abort_multipart_upload(place.connection, place.bucket, "key", upload)

    with pytest.raises(NoSuchUpload):
        place.send("key", upload, 1, b"x")


def test_an_upload_is_completed_once(place: Place) -> None:
    place.needs("complete-once")
    upload = place.begin("key")
    part = place.send("key", upload, 1, b"x")
    place.complete("key", upload, [part])

    with pytest.raises(NoSuchUpload):
        place.complete("key", upload, [part])


def test_a_part_that_is_too_small_is_refused_unless_it_is_the_last(place: Place) -> None:
    place.needs("min-part")
    upload = place.begin("key")
    parts = [place.send("key", upload, number, b"small") for number in (1, 2)]

    with pytest.raises(StoreError):
        place.complete("key", upload, parts)

    assert place.keys() == []


def test_a_completion_keeps_its_condition(place: Place) -> None:
    place.needs("conditional-complete")
    etag = place.put("key", b"old").extra["etag"]
    for options, error in (
        ({"if_none_match": "*"}, ObjectExists),
        ({"if_match": "0" * 32}, ObjectChanged),
    ):
        upload = place.begin("key")
        part = place.send("key", upload, 1, b"new")
        with pytest.raises(error):
            place.complete("key", upload, [part], **options)
        assert place.get("key") == b"old"

    upload = place.begin("key")
    place.complete("key", upload, [place.send("key", upload, 1, b"new")], if_match=etag)
    upload = place.begin("absent")
    place.complete("absent", upload, [place.send("absent", upload, 1, b"n")], if_none_match="*")

    assert (place.get("key"), place.get("absent")) == (b"new", b"n")


def test_a_part_is_copied_out_of_another_object(place: Place) -> None:
    etag = place.put("source", LARGE).extra["etag"]
    upload = place.begin("key")
    copied = place.driver.copy_part(
        place.connection,
        place.bucket,
        "key",
        upload,
        1,
        place.bucket,
        "source",
        offset=7,
        length=5 * MIB,
        src_if_match=etag,
    )
    tail = place.send("key", upload, 2, b"tail")
    place.complete("key", upload, [copied, tail])

    assert copied.size == 5 * MIB
    assert place.get("key") == LARGE[7 : 7 + 5 * MIB] + b"tail"


def test_a_part_is_not_copied_out_of_another_version(place: Place) -> None:
    place.needs("conditional-part-copy")
    etag = place.put("source", LARGE).extra["etag"]
    place.put("source", LARGE[1:])
    upload = place.begin("key")

    with pytest.raises(ObjectChanged):
        place.driver.copy_part(
            place.connection,
            place.bucket,
            "key",
            upload,
            1,
            place.bucket,
            "source",
            offset=0,
            length=5 * MIB,
            src_if_match=etag,
        )


def test_progress_of_a_part_grows_to_its_size(place: Place) -> None:
    told: list[int] = []
    upload = place.begin("key")

    place.send("key", upload, 1, LARGE, progress_callback=lambda done, _: told.append(done))

    assert told == sorted(told)
    assert told[-1] == len(LARGE)


# -- append --------------------------------------------------------------------------------------


def test_an_append_at_zero_creates_and_at_the_length_grows(place: Place) -> None:
    first = place.append("key", b"one ", 0)
    second = place.append("key", io.BytesIO(b"two"), first.next_position, checksum_type="md5")

    assert (first.next_position, second.next_position) == (4, 7)
    assert place.get("key") == b"one two"
    assert second.extra["etag"] == place.head("key").etag
    assert second.checksum == hashlib.md5(b"two").hexdigest()


@pytest.mark.parametrize("position", [0, 2, 4])
def test_an_append_elsewhere_says_the_true_length_and_writes_nothing(
    place: Place, position: int
) -> None:
    place.put("key", b"abc")
    stream = iter([b"x"])

    with pytest.raises(PositionMismatch) as caught:
        place.append("key", stream, position)

    assert caught.value.length == 3
    assert place.get("key") == b"abc"
    assert next(stream) == b"x"  # not even read


def test_an_append_to_nothing_has_position_zero(place: Place) -> None:
    with pytest.raises(PositionMismatch) as caught:
        place.append("key", b"x", 5)

    assert caught.value.length == 0
    assert place.keys() == []


def test_an_empty_append_creates_and_changes_nothing_after(place: Place) -> None:
    assert place.append("key", b"", 0).next_position == 0
    etag = place.head("key").etag

    assert place.append("key", iter([]), 0).next_position == 0
    assert place.head("key").etag == etag


def test_a_large_object_grows_by_copying_inside_the_store(place: Place) -> None:
    given = ObjectAttributes(content_type="text/x-storefs", metadata={"a": "b"})
    place.put("key", LARGE, attributes=given)

    result = place.append("key", b"tail", len(LARGE))

    assert result.next_position == len(LARGE) + 4
    assert place.get("key", offset=len(LARGE) - 2) == LARGE[-2:] + b"tail"
    found = place.head("key")
    assert (found.metadata, found.extra["content_type"]) == ({"a": "b"}, "text/x-storefs")


def test_a_small_object_keeps_all_beside_its_bytes_when_it_grows(place: Place) -> None:
    tags = {"colour": "blue"}
    given = ObjectAttributes(content_type="text/x-storefs", metadata={"a": "b"}, tags=tags)
    place.put("key", b"abc", attributes=given)

    place.append("key", b"def", 3)

    found = place.head("key")
    assert (found.metadata, found.extra["content_type"]) == ({"a": "b"}, "text/x-storefs")
    assert place.driver.get_object_tags(place.connection, place.bucket, "key") == tags


def test_a_long_stream_is_committed_on_its_way(place: Place) -> None:
    lines = (b"0123456789" for _ in range(5))

    result = place.append("key", lines, 0, commit_bytes=15)

    assert result.next_position == 50
    assert place.get("key") == b"0123456789" * 5


def test_a_stream_is_committed_as_often_as_asked() -> None:
    connection = MemoryConnection(buckets=("bucket",))
    lines = (b"0123456789" for _ in range(5))

    MemoryDriver().append_object(connection, lines, "bucket", "key", commit_bytes=15)

    assert connection.requests["put_object"] == 4  # 15, 30, 45, 50


def test_what_has_come_is_committed_while_the_stream_is_silent(place: Place) -> None:
    pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    results: list[Any] = []

    def stream() -> Iterator[bytes]:
        yield from iter(pieces.get, b"end")

    thread = threading.Thread(
        target=lambda: results.append(place.append("key", stream(), 0, commit_seconds=0.05))
    )
    thread.start()
    pieces.put(b"first")
    for _ in itertools.count():  # ends by the test's own time-out if nothing is committed
        if place.keys() == ["key"]:
            break
    assert place.get("key") == b"first"
    pieces.put(b" second")
    pieces.put(b"end")
    thread.join()

    assert results[0].next_position == 12
    assert place.get("key") == b"first second"


def test_an_append_that_fails_on_its_way_tells_how_far_it_came(place: Place) -> None:
    def intruder() -> Iterator[bytes]:
        yield b"0123456789"
        while place.keys() != ["key"]:
            pass
        place.put("key", b"somebody else's")
        yield b"0123456789"

    with pytest.raises(PositionMismatch) as caught:
        place.append("key", intruder(), 0, commit_bytes=10)

    assert caught.value.position == 10
    assert caught.value.length == 15
    assert place.get("key") == b"somebody else's"


def test_what_came_before_a_stream_broke_is_kept(place: Place) -> None:
    def broken() -> Iterator[bytes]:
        yield b"kept"
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        place.append("key", broken(), 0)

    assert place.get("key") == b"kept"
