"""How long the S3 driver waits: bytes on a slow way are waited for, silence is not."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from storefs.config import StoreConfig, StoreUrl
from storefs.drivers.s3 import S3Driver
from storefs.drivers.s3_connection import S3Connection, connection_for
from storefs.errors import StoreUnavailable
from tests.drivers.conftest import Place, s3_connection
from tests.support.relay import Relay, method

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import S3Server

KIB = 1024


@pytest.fixture(scope="module")
def relay(moto: S3Server) -> Iterator[Relay]:
    moto.make_bucket("slow")
    with Relay(moto.endpoint_url) as relay:
        yield relay


@pytest.fixture
def hasty(moto: S3Server, relay: Relay) -> Iterator[Place]:
    """A connection with the shortest patience: 0.3 seconds for a call."""
    relay.heal()
    server = dataclasses.replace(moto, endpoint_url=relay.endpoint_url)
    connection = s3_connection(server, connect_seconds=0.3, call_seconds=0.3)
    yield Place("moto", S3Driver(), connection, "slow")
    connection.close()


@pytest.mark.parametrize("is_new", [True, False], ids=["new connection", "used connection"])
def test_a_slow_link_stores_a_body_that_takes_longer_than_a_call(
    hasty: Place, relay: Relay, is_new: bool
) -> None:
    body = os.urandom(448 * KIB)
    if not is_new:
        hasty.page()
    relay.rate_bytes = 300 * KIB
    told: list[float] = []

    hasty.put("key", body, progress_callback=lambda *_: told.append(time.monotonic()))

    relay.rate_bytes = None
    assert hasty.get("key") == body
    assert len(told) >= 7  # progress comes in pieces, so that a watchdog sees them


@pytest.mark.parametrize("is_new", [True, False], ids=["new connection", "used connection"])
def test_a_relay_that_swallows_the_body_at_once_is_given_time_to_pass_it_on(
    hasty: Place, relay: Relay, is_new: bool
) -> None:
    if not is_new:
        hasty.page()
    fault = relay.hold(when=method("PUT"))
    timer = threading.Timer(0.8, fault.clear)
    timer.start()

    hasty.put("key", os.urandom(256 * KIB))  # which may take 0.3 + 2 seconds

    timer.join()


def test_a_part_is_given_time_too(hasty: Place, relay: Relay) -> None:
    upload = hasty.begin("key")
    fault = relay.hold(when=method("PUT"))
    timer = threading.Timer(0.8, fault.clear)
    timer.start()

    hasty.send("key", upload, 1, os.urandom(256 * KIB))

    timer.join()


def test_a_copy_inside_the_store_is_given_time(hasty: Place, relay: Relay) -> None:
    hasty.put("key", b"bytes")
    source = hasty.head("key")
    fault = relay.hold(when=method("PUT"))
    timer = threading.Timer(0.8, fault.clear)
    timer.start()

    hasty.copy("key", "copy", src_object=source)

    timer.join()


@pytest.mark.parametrize("verb", ["HEAD", "GET", "PUT"])
def test_a_store_that_falls_silent_is_given_up(hasty: Place, relay: Relay, verb: str) -> None:
    hasty.put("key", b"bytes")
    relay.stall()
    began = time.monotonic()

    with pytest.raises(StoreUnavailable):
        if verb == "HEAD":
            hasty.head("key")
        elif verb == "GET":
            hasty.get("key")
        else:
            hasty.put("key", b"other")

    assert time.monotonic() - began < 5
    relay.heal()
    assert hasty.head("key").size == 5


def test_a_stream_that_stalls_is_cut(hasty: Place, relay: Relay) -> None:
    hasty.put("key", os.urandom(16 * 1024 * KIB))  # more than sockets hold
    stream = hasty.driver.download_object_as_stream(hasty.connection, hasty.bucket, "key", 16 * KIB)
    next(stream)
    relay.stall()

    with pytest.raises(StoreUnavailable):
        list(stream)


def test_an_address_that_swallows_everything_is_given_up() -> None:
    """The backlog of a socket that nobody accepts from: connections are made, nothing answers."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        connection = S3Connection(
            url, None, "id", "key", connect_seconds=0.2, call_seconds=0.2, sdk_retries=False
        )
        with pytest.raises(StoreUnavailable):
            S3Driver().get_object_meta(connection, "key", "bucket")
        connection.close()


@pytest.mark.parametrize(
    ("timeout", "call", "connect"), [(60.0, 24.0, 5.0), (3.0, 1.2, 1.2), (1.0, 1.0, 1.0)]
)
def test_a_mounts_time_outs_leave_room_for_a_second_attempt(
    timeout: float, call: float, connect: float
) -> None:
    url = StoreUrl.parse("s3://bucket")
    config = StoreConfig(url, endpoint_url="http://127.0.0.1:1", timeout_seconds=timeout)
    connection = connection_for(config)

    assert connection.call_seconds == pytest.approx(call)
    assert connection.connect_seconds == pytest.approx(connect)
    assert connection.pool_size >= 1.5 * config.calls
