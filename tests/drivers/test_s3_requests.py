"""What the S3 driver puts on the wire, and what it makes of bad answers: moto behind a relay."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import pytest

from storefs.drivers.models import Condition, ObjectAttributes
from storefs.drivers.s3 import S3Driver
from storefs.drivers.s3_connection import S3Connection
from storefs.errors import (
    AccessDenied,
    ChecksumMismatch,
    ObjectExists,
    StoreError,
    StoreUnavailable,
    Throttled,
    Unsupported,
)
from tests.drivers.conftest import Place, headers, s3_connection, sent
from tests.support.relay import Relay, method

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import S3Server

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def relay(moto: S3Server) -> Iterator[Relay]:
    moto.make_bucket("wire")
    with Relay(moto.endpoint_url) as relay:
        yield relay


@pytest.fixture
def wire(moto: S3Server, relay: Relay) -> Iterator[Place]:
    """A bucket behind the relay, as a mount sees it."""
    relay.heal()
    connection = s3_connection(dataclasses.replace(moto, endpoint_url=relay.endpoint_url))
    place = Place("moto", S3Driver(), connection, "wire")
    connection.get_client()
    place.driver.batch_delete_objects(connection, place.keys(), "wire")
    relay.forget()
    yield place
    connection.close()


# -- one request for a verb ----------------------------------------------------------------------


def test_every_verb_is_one_request(wire: Place, relay: Relay) -> None:
    def cost(call: Any) -> int:
        relay.forget()
        call()
        return len(relay.log)

    assert cost(lambda: wire.put("key", b"bytes")) == 1
    assert cost(lambda: wire.put("key", b"")) == 1
    assert cost(lambda: wire.put("large", os.urandom(9 * MIB))) == 1
    assert cost(lambda: wire.head("key")) == 1
    assert cost(lambda: wire.get("large", offset=5, length=5)) == 1
    assert cost(lambda: wire.page(delimiter="/")) == 1
    seen = wire.page()[0][0]
    assert cost(lambda: wire.copy("key", "copy", src_object=seen)) == 1
    assert cost(lambda: wire.copy("key", "copy")) == 2  # the source's size is asked for
    wire.put("log", b"line")
    assert cost(lambda: wire.append("log", b"x", 4)) == 3  # HEAD, GET, PUT
    names = ["key", "copy", "large"]
    assert cost(lambda: wire.driver.batch_delete_objects(wire.connection, names, wire.bucket)) == 1


def test_connections_are_used_again(wire: Place, relay: Relay) -> None:
    wire.put("key", os.urandom(MIB))
    for _ in range(5):
        wire.get("key", offset=100, length=1000)
        wire.get("key")
        wire.head("key")

    client = wire.connection.get_client()
    pool = client._endpoint.http_session._manager.connection_from_url(relay.endpoint_url)
    assert pool.num_connections == 1


def test_a_failed_call_is_tried_once_by_a_mount_and_again_by_a_library(
    wire: Place, relay: Relay, moto: S3Server
) -> None:
    wire.put("key", b"bytes")
    relay.forget()
    fault = relay.answer(500, times=1)
    with pytest.raises(StoreUnavailable):
        wire.head("key")
    assert len(relay.log) == 1
    fault.clear()

    library = S3Connection(relay.endpoint_url, None, moto.access_key, moto.secret_key)
    relay.answer(500, times=1)
    assert S3Driver().get_object_meta(library, "key", "wire").size == 5
    library.close()


def test_no_round_trip_is_spent_on_asking_and_no_checksum_trails(wire: Place) -> None:
    requests = sent(wire.connection)  # type: ignore[arg-type]
    wire.put("key", os.urandom(MIB))

    (request,) = requests
    assert not {"expect", "x-amz-trailer", "content-encoding"} & set(headers(request))


def test_a_batch_delete_carries_the_md5_that_older_servers_ask_for(wire: Place) -> None:
    requests = sent(wire.connection)  # type: ignore[arg-type]
    wire.driver.batch_delete_objects(wire.connection, ["a", "b"], wire.bucket)

    assert "content-md5" in headers(requests[0])


def test_keys_that_xml_cannot_carry_are_deleted_one_by_one(wire: Place, relay: Relay) -> None:
    for key in ("plain", "bell\x07", "return\r"):
        wire.put(key, b"x")
    relay.forget()

    names = ["plain", "bell\x07", "return\r"]
    result = wire.driver.batch_delete_objects(wire.connection, names, wire.bucket)

    assert result.extra == {"deleted": 3, "errors": {}}
    assert relay.counts() == {"POST": 1, "DELETE": 2}
    assert wire.keys() == []


# -- bad answers ---------------------------------------------------------------------------------


def test_an_error_inside_a_200_is_an_error(wire: Place, relay: Relay) -> None:
    wire.put("key", b"bytes")
    source = wire.head("key")
    upload = wire.begin("key")
    part = wire.send("key", upload, 1, b"x")
    relay.answer(200, code="InternalError")

    with pytest.raises(StoreUnavailable):
        wire.copy("key", "copy", src_object=source)
    with pytest.raises(StoreUnavailable):
        wire.complete("key", upload, [part])


def test_a_body_that_ends_early_is_no_success(wire: Place, relay: Relay) -> None:
    wire.put("key", os.urandom(MIB))
    relay.truncate(when=method("GET"), after_bytes=100_000)

    with pytest.raises(StoreUnavailable):
        wire.get("key")


def test_bytes_that_change_on_their_way_up_are_noticed(wire: Place, relay: Relay) -> None:
    relay.corrupt_upload(when=method("PUT"))
    with pytest.raises(ChecksumMismatch):
        wire.put("key", os.urandom(MIB))
    upload = wire.begin("key")
    relay.corrupt_upload(when=method("PUT"))
    with pytest.raises(ChecksumMismatch):
        wire.send("key", upload, 1, os.urandom(MIB))


def test_bytes_that_change_on_their_way_down_are_noticed(
    wire: Place, relay: Relay, tmp_path: Any
) -> None:
    wire.put("key", os.urandom(MIB))
    (tmp_path / "file").write_bytes(b"before")
    relay.corrupt(when=method("GET"))
    with pytest.raises(ChecksumMismatch):
        wire.driver.download_file(
            wire.connection, wire.bucket, "key", str(tmp_path / "file"), checksum_type="md5"
        )
    relay.corrupt(when=method("GET"))
    with pytest.raises(ChecksumMismatch):
        wire.get("key", checksum_type="md5")

    assert (tmp_path / "file").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_a_lost_answer_of_a_completion_is_looked_for(wire: Place, relay: Relay) -> None:
    relay.lose_answer(
        when=lambda exchange: exchange.method == "POST" and "uploadId" in exchange.query
    )

    result = wire.put("key", iter([os.urandom(6 * MIB)]), part_bytes=5 * MIB)

    assert result.extra["etag"] == wire.head("key").etag


def test_a_lost_answer_is_no_conflict_though_boto3_asked_again(
    wire: Place, relay: Relay, moto: S3Server
) -> None:
    server = dataclasses.replace(moto, endpoint_url=relay.endpoint_url)
    connection = S3Connection(server.endpoint_url, None, server.access_key, server.secret_key)
    library = Place("moto", S3Driver(), connection, "wire")
    relay.lose_answer(when=method("PUT"))

    library.put("key", b"bytes", if_none_match="*")

    assert relay.counts()["PUT"] == 2
    with pytest.raises(ObjectExists):
        library.put("key", b"bytes", if_none_match="*")
    connection.close()


def test_a_file_that_shrinks_while_it_is_sent_is_not_the_stores_fault(
    wire: Place, tmp_path: Any
) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(MIB))

    def shrink(done: int, _total: int | None) -> None:
        os.truncate(path, 1000)

    with pytest.raises(StoreError, match="shorter") as caught:
        wire.driver.upload_file(
            wire.connection, str(path), wire.bucket, "key", progress_callback=shrink
        )
    assert not caught.value.retryable
    assert wire.keys() == []


def test_throttling_is_told_from_failing(wire: Place, relay: Relay) -> None:
    fault = relay.answer(503, code="SlowDown")
    with pytest.raises(Throttled):
        wire.head("key")
    with pytest.raises(Throttled):
        wire.page()
    fault.clear()
    relay.answer(500)
    with pytest.raises(StoreUnavailable) as caught:
        wire.page()
    assert not isinstance(caught.value, Throttled)


def test_a_store_that_is_not_there_is_unavailable(wire: Place, relay: Relay) -> None:
    relay.refuse()
    try:
        with pytest.raises(StoreUnavailable):
            wire.head("key")
    finally:
        relay.accept()

    wire.put("key", b"bytes")  # and by and by it is


def test_a_connection_that_died_in_the_pool_is_replaced(wire: Place, relay: Relay) -> None:
    wire.put("key", b"bytes")
    relay.reset_all()

    assert wire.head("key").size == 5


# -- what a probe found --------------------------------------------------------------------------


def test_a_condition_that_is_known_to_be_ignored_is_refused(wire: Place) -> None:
    connection = S3Connection.of(wire.connection)
    hoped = wire.driver.capabilities(connection, "wire")
    assert not hoped.conditions_known
    connection.learn(
        "wire",
        dataclasses.replace(
            hoped,
            conditions_known=True,
            conditional_put=Condition.CREATE_ONLY,
            conditional_complete=Condition.NONE,
            conditional_copy=Condition.NONE,
            conditional_delete=Condition.NONE,
        ),
    )

    wire.put("key", b"bytes", if_none_match="*")
    with pytest.raises(ObjectExists):
        wire.put("key", b"bytes", if_none_match="*")
    etag = wire.head("key").etag
    for call in (
        lambda: wire.put("key", b"bytes", if_match=etag),
        lambda: wire.complete("key", "upload", [], if_none_match="*"),
        lambda: wire.copy("key", "copy", if_none_match="*"),
        lambda: wire.delete("key", if_match=etag),
    ):
        with pytest.raises(Unsupported):
            call()
    assert wire.append("key", b"!", 5).next_position == 6  # compared just before instead


def test_an_object_above_the_limit_of_a_copy_is_copied_by_parts(wire: Place, relay: Relay) -> None:
    connection = S3Connection.of(wire.connection)
    body = os.urandom(11 * MIB)
    given = ObjectAttributes(content_type="text/x-storefs", metadata={"a": "b"}, tags={"c": "d"})
    wire.put("key", body, attributes=given)
    hoped = wire.driver.capabilities(connection, "wire")
    connection.learn(
        "wire", dataclasses.replace(hoped, max_copy_bytes=6 * MIB, max_part_bytes=6 * MIB)
    )
    relay.forget()

    result = wire.copy("key", "copy")

    assert wire.get("copy") == body
    assert result.extra["size"] == len(body)
    found = wire.head("copy")
    assert (found.metadata, found.extra["content_type"]) == ({"a": "b"}, "text/x-storefs")
    assert wire.driver.get_object_tags(connection, "wire", "copy") == {"c": "d"}
    assert relay.counts()["PUT"] == 2


def test_a_link_works_without_credentials(wire: Place) -> None:
    import urllib.request

    wire.put("a key", b"bytes")
    link = wire.driver.get_object_sign_url(wire.connection, "a key", wire.bucket)

    assert "X-Amz-Signature" in link
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == b"bytes"


def test_wrong_credentials_are_denied(seaweedfs: S3Server) -> None:
    seaweedfs.make_bucket("denied")
    for changed, why in (
        ({"access_key": "nobody"}, "access key"),
        ({"secret_key": "wrong"}, "secret key"),
    ):
        server = dataclasses.replace(seaweedfs, **changed)  # type: ignore[arg-type]
        place = Place("seaweedfs", S3Driver(), s3_connection(server), "denied")
        with pytest.raises(AccessDenied, match=why):
            place.page()
        with pytest.raises(AccessDenied):
            place.head("key")
