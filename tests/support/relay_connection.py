"""One client's connection through the relay, and the one to the server behind it.

Used by `relay` alone, which tells it through `Link` how the network is just now. It carries one
request after another and breaks those that a fault has taken. The danger: it runs in a thread of
its own and must look at `_gate` before it passes anything on, or a stall leaks bytes.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Protocol

from tests.support.http_framing import Head, HeadTooLong, Piece, Stream, no_body

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.exchanges import Exchange, Fault

GATE_SECONDS = 0.02


class Link(Protocol):
    """What a connection needs of its relay."""

    latency_seconds: float

    @property
    def is_stalled(self) -> bool:
        """Whether nothing may be passed on."""

    @property
    def piece_bytes(self) -> int:
        """How much to move at a time."""

    def begin(self, head: Head) -> tuple[Exchange, Fault | None]:
        """A request has come; the fault that takes it, if any."""

    def end(self, exchange: Exchange) -> None:
        """It is over, in whatever way."""

    def pace(self, way: str, size: int) -> None:
        """Wait as long as `size` bytes take on a link of the stated speed."""


class Cut(Exception):
    """This connection is to be dropped with a reset."""


class Connection:
    """One client's connection and the one to the server behind it."""

    def __init__(self, link: Link, client: socket.socket, upstream: tuple[str, int]) -> None:
        self._link = link
        self._client = Stream(client)
        self._address = upstream
        self._server: Stream | None = None
        self._is_cut = False

    def run(self) -> None:
        """Carry requests until one side has had enough."""
        try:
            while self._one_exchange():
                pass
            if self._is_cut:
                raise Cut
        except (Cut, OSError, HeadTooLong, EOFError):
            self._client.reset_on_close()
        finally:
            self._client.close()
            if self._server is not None:
                self._server.close()

    def cut(self) -> None:
        """Called by another thread: wake this connection wherever it waits, to be reset."""
        self._is_cut = True
        self._client.wake()
        server = self._server
        if server is not None:
            server.wake(sending=True)

    def _gate(self, held_by: Fault | None = None) -> None:
        """Wait while the relay is stalled or a fault holds this request."""
        while True:
            if self._is_cut:
                raise Cut
            held = held_by is not None and not held_by.cleared
            if not held and not self._link.is_stalled:
                return
            time.sleep(GATE_SECONDS)

    def _one_exchange(self) -> bool:
        head = self._client.read_head()
        if head is None:
            return False
        self._gate()
        exchange, fault = self._link.begin(head)
        try:
            return self._carry(head, exchange, fault)
        finally:
            self._link.end(exchange)

    def _carry(self, head: Head, exchange: Exchange, fault: Fault | None) -> bool:
        kind = fault.kind if fault is not None else ""
        if fault is not None and kind == "hold":
            self._gate(fault)
        if kind == "reset":
            raise Cut
        if self._link.latency_seconds:
            time.sleep(self._link.latency_seconds)
            self._gate()
        if fault is not None and kind == "answer":
            return self._answer(head, exchange, fault)
        server = self._connect()
        server.send(head.raw)
        body = self._client.body(head, self._piece)
        expects = "100-continue" in head.fields.get("expect", "").lower()
        answer = self._read_answer(server) if expects else None
        if answer is None or answer.status == 100:
            if answer is not None:
                self._client.send(answer.raw)
            self._send_up(body, server, exchange, corrupt=kind == "corrupt-upload")
            answer = self._read_answer(server)
            while 100 <= answer.status < 200:
                answer = self._read_answer(server)
            keep = True
        else:
            keep = False  # refused before the body was sent: where the next head begins is unclear
        self._send_down(head, answer, server, exchange, fault)
        closing = "close" in (
            answer.fields.get("connection", "") + head.fields.get("connection", "")
        )
        return keep and not closing and answer.framed

    def _piece(self) -> int:
        return self._link.piece_bytes

    def _connect(self) -> Stream:
        if self._server is not None and self._server.is_stale():
            self._server.close()
            self._server = None
        if self._server is None:
            self._server = Stream(socket.create_connection(self._address, timeout=10))
            self._server.no_timeout()
        return self._server

    def _answer(self, head: Head, exchange: Exchange, fault: Fault) -> bool:
        expects = "100-continue" in head.fields.get("expect", "").lower()
        if not expects:
            for piece in self._client.body(head, self._piece):
                exchange.bytes_up += len(piece.payload)
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f"<Error><Code>{fault.code}</Code><Message>by the relay</Message></Error>"
        ).encode()
        lines = [
            f"HTTP/1.1 {fault.status} Relay",
            "Content-Type: application/xml",
            f"Content-Length: {len(text)}",
        ]
        if expects:
            lines.append("Connection: close")
        answer = ("\r\n".join(lines) + "\r\n\r\n").encode()
        exchange.status = fault.status
        self._client.send(answer + (b"" if exchange.method == "HEAD" else text))
        return not expects

    def _read_answer(self, server: Stream) -> Head:
        answer = server.read_head()
        if answer is None:
            raise EOFError("the server closed without an answer")
        return answer

    def _send_up(
        self, body: Iterator[Piece], server: Stream, exchange: Exchange, *, corrupt: bool
    ) -> None:
        for piece in body:
            self._gate()
            self._link.pace("up", len(piece.raw))
            self._gate()
            exchange.bytes_up += len(piece.payload)
            raw = _flip(piece) if corrupt and piece.payload else piece.raw
            corrupt = corrupt and not piece.payload
            try:
                server.send(raw)
            except OSError:  # refused early: the answer is there to be read, the body is not wanted
                return

    def _send_down(
        self, head: Head, answer: Head, server: Stream, exchange: Exchange, fault: Fault | None
    ) -> None:
        kind = fault.kind if fault is not None else ""
        bodiless = no_body(exchange.method, answer.status)
        body = iter(()) if bodiless else server.body(answer, self._piece, until_close=True)
        if kind == "lose":
            for _ in body:
                pass
            raise Cut
        self._gate()
        exchange.status = answer.status
        self._client.send(answer.raw)
        left = fault.after_bytes if fault is not None and kind == "truncate" else None
        for piece in body:
            self._gate()
            self._link.pace("down", len(piece.raw))
            self._gate()
            raw = piece.raw
            if kind == "corrupt" and piece.payload:
                raw, kind = _flip(piece), ""
            if left is not None and len(piece.payload) > left:
                self._client.send(raw[:left])
                raise Cut
            if left is not None:
                left -= len(piece.payload)
            exchange.bytes_down += len(piece.payload)
            self._client.send(raw)
        if left is not None and not bodiless:
            exchange.fault = "truncate (body was shorter)"


def _flip(piece: Piece) -> bytes:
    """The piece with one bit of its payload changed."""
    at = piece.raw.index(piece.payload)
    changed = bytearray(piece.raw)
    changed[at] ^= 1
    return bytes(changed)
