"""The relay itself: what it passes on, counts and breaks, against a small HTTP server."""

from __future__ import annotations

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.support.relay import Exchange, Relay, method, round_trips

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = bytes(range(256)) * 4096


class Handler(BaseHTTPRequestHandler):
    """GET /chunked in chunks, GET anything else with a length; PUT keeps what it got."""

    protocol_version = "HTTP/1.1"
    stored: dict[str, bytes]
    hosts: list[str]

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.hosts.append(self.headers["Host"])
        body = self.stored.get(self.path, BODY)
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(body), 100_000):
                piece = body[start : start + 100_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()

    def do_PUT(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers["Content-Length"]))
        self.stored[self.path] = data
        self.send_response(204)
        self.end_headers()


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.stored = {}
    Handler.hosts = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def relay(server: ThreadingHTTPServer) -> Iterator[Relay]:
    with Relay(f"http://127.0.0.1:{server.server_address[1]}") as running:
        yield running


def connect(relay: Relay, timeout: float = 10) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(
        "127.0.0.1", int(relay.endpoint_url.rsplit(":", 1)[1]), timeout=timeout
    )


def get(relay: Relay, path: str = "/a", timeout: float = 10) -> tuple[int, bytes]:
    connection = connect(relay, timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def put(relay: Relay, path: str, data: bytes, **headers: str) -> int:
    connection = connect(relay)
    try:
        connection.request("PUT", path, data, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_bytes_and_the_host_header_pass_unchanged(relay: Relay) -> None:
    assert get(relay, "/a") == (200, BODY)
    assert get(relay, "/chunked") == (200, BODY)
    assert Handler.hosts == [relay.endpoint_url.removeprefix("http://")] * 2


def test_one_connection_carries_many_requests_of_every_kind(relay: Relay) -> None:
    connection = connect(relay)
    for verb, path, data in [
        ("HEAD", "/a", None),
        ("GET", "/chunked", None),
        ("PUT", "/b?x=1%2F2", b"12345"),
        ("GET", "/a", None),
        ("HEAD", "/a", None),
    ]:
        connection.request(verb, path, data)
        answer = connection.getresponse()
        assert len(answer.read()) == (len(BODY) if verb == "GET" else 0)
    connection.close()
    assert relay.counts() == {"HEAD": 2, "GET": 2, "PUT": 1}
    sent = relay.log[2]
    assert (sent.method, sent.path, sent.query, sent.status) == ("PUT", "/b", "x=1/2", 204)
    assert (sent.bytes_up, sent.bytes_down, relay.log[1].bytes_down) == (5, 0, len(BODY))


def test_a_chunked_request_body_passes(relay: Relay) -> None:
    connection = connect(relay)
    connection.request("PUT", "/c", iter([b"one", b"two"]), encode_chunked=True)
    assert connection.getresponse().status == 204
    connection.close()
    assert Handler.stored["/c"] == b"onetwo"
    assert relay.log[0].bytes_up == 6


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(relay: Relay) -> None:
    connection = connect(relay)
    connection.putrequest("PUT", "/d")
    connection.putheader("Expect", "100-continue")
    connection.putheader("Content-Length", "4")
    connection.endheaders()
    assert connection.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.send(b"data")
    assert connection.getresponse().status == 204
    connection.close()
    assert Handler.stored["/d"] == b"data"


def test_latency_shows_which_requests_wait_for_one_another(relay: Relay) -> None:
    relay.latency_seconds = 0.15
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: get(relay, f"/{n}"), range(4)))
    get(relay)
    assert (sum(relay.counts().values()), relay.round_trips()) == (5, 2)
    assert max(one.concurrency for one in relay.log) == 4


def test_round_trips_of_requests_that_touch_without_overlap_add_up() -> None:
    def one(start: float, end: float) -> Exchange:
        return Exchange("GET", "/", "", start, 1, {}, ended=end)

    assert round_trips([one(0, 1), one(0.5, 1.5), one(1, 2), one(1.6, 3)]) == 2
    assert round_trips([]) == 0


def test_an_answer_of_500_is_given_so_often_and_then_no_more(relay: Relay) -> None:
    fault = relay.answer(503, when=method("PUT"), times=2, code="SlowDown")
    assert [put(relay, "/e", b"x") for _ in range(3)] == [503, 503, 204]
    assert fault.hits == 2
    assert get(relay)[0] == 200
    until_cleared = relay.answer(500)
    assert get(relay)[0] == get(relay)[0] == 500
    until_cleared.clear()
    assert get(relay)[0] == 200


def test_a_lost_answer_means_that_the_server_acted(relay: Relay) -> None:
    relay.lose_answer(when=method("PUT", containing="/f"))
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        put(relay, "/f", b"kept")
    assert Handler.stored["/f"] == b"kept"
    assert put(relay, "/f", b"again") == 204


def test_a_reset_request_never_reaches_the_server(relay: Relay) -> None:
    relay.reset_requests(when=method("PUT"))
    with pytest.raises(ConnectionError):
        put(relay, "/g", b"lost")
    assert "/g" not in Handler.stored


def test_a_truncated_body_ends_early_and_a_corrupt_one_differs_in_one_bit(relay: Relay) -> None:
    relay.truncate(after_bytes=1000)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        get(relay)
    relay.corrupt()
    _, body = get(relay)
    assert sum((a ^ b).bit_count() for a, b in zip(body, BODY, strict=True)) == 1
    relay.corrupt_upload()
    put(relay, "/h", b"aaaa")
    assert Handler.stored["/h"] == b"`aaa"


@pytest.mark.parametrize("drop", [True, False])
def test_a_stalled_relay_is_silent_until_it_resumes(relay: Relay, drop: bool) -> None:
    relay.stall()
    with pytest.raises(TimeoutError):
        get(relay, timeout=0.2)
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(get, relay, "/a", 20)
        while len(relay._connections) < 2:  # the one that gave up, and this one
            time.sleep(0.01)
        relay.resume(drop=drop)
        if drop:
            with pytest.raises(ConnectionError):
                stuck.result()
        else:
            assert stuck.result() == (200, BODY)
    assert get(relay) == (200, BODY)


def test_a_held_request_waits_while_others_pass(relay: Relay) -> None:
    fault = relay.hold(when=method("GET", containing="/held"))
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(get, relay, "/held")
        assert get(relay, "/free")[0] == 200
        assert not held.done()
        fault.clear()
        assert held.result() == (200, BODY)


def test_a_refusing_relay_comes_back_on_its_port(relay: Relay) -> None:
    relay.refuse()
    with pytest.raises(ConnectionRefusedError):
        get(relay)
    relay.accept()
    assert get(relay)[0] == 200


def test_a_slow_link_takes_its_time_both_ways(relay: Relay) -> None:
    relay.link_bytes = 1_000_000
    started = time.monotonic()
    assert put(relay, "/slow", bytes(300_000)) == 204
    assert time.monotonic() - started >= 0.29
    relay.rate_bytes, relay.link_bytes = 4_000_000, None
    started = time.monotonic()
    assert get(relay, "/a")[1] == BODY
    assert time.monotonic() - started >= 0.25


def test_it_moves_a_hundred_megabytes_without_being_in_the_way(relay: Relay) -> None:
    Handler.stored["/big"] = bytes(100_000_000)
    started = time.monotonic()
    assert len(get(relay, "/big", timeout=60)[1]) == 100_000_000
    assert time.monotonic() - started < 20
