"""Where HTTP/1.1 messages begin and end, for the relay: heads, bodies, chunks.

Bytes are passed on as they came; only the framing is understood. The danger is to read past a
message: what `recv` gave too much of stays in the stream's buffer and belongs to the next one.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD_BYTES = 64 * 1024


class HeadTooLong(Exception):
    """No head of a message has this length."""


@dataclass(frozen=True, slots=True)
class Head:
    """First line and header fields of a message; `raw` is what stood on the wire."""

    raw: bytes
    first_line: str
    fields: dict[str, str]

    @property
    def status(self) -> int:
        """The status of an answer."""
        return int(self.first_line.split(" ", 2)[1])

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in self.fields.get("transfer-encoding", "").lower()

    @property
    def framed(self) -> bool:
        """Whether the end of an answer is told otherwise than by the connection's end."""
        bodiless = self.status < 200 or self.status in (204, 304)
        return bodiless or self.chunked or "content-length" in self.fields


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a body: as on the wire, and without chunk framing."""

    raw: bytes
    payload: bytes


def no_body(method: str, status: int) -> bool:
    """Whether an answer ends with its head (RFC 9112, section 6.3)."""
    return method == "HEAD" or status < 200 or status in (204, 304)


class Stream:
    """A socket with a buffer of what was read too early."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def no_timeout(self) -> None:
        """Wait as long as it takes, from now on."""
        self._sock.settimeout(None)

    def send(self, data: bytes) -> None:
        """All of it, or an OSError."""
        self._sock.sendall(data)

    def is_stale(self) -> bool:
        """Whether the other side closed while nobody asked it anything."""
        return bool(select.select([self._sock], [], [], 0)[0])

    def wake(self, *, sending: bool = False) -> None:
        """From another thread: let a blocked `recv` return, without telling the other side.

        With `sending` a blocked `send` returns too, and the other side sees the end.
        """
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR if sending else socket.SHUT_RD)

    def reset_on_close(self) -> None:
        """Let `close` send a reset."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        """Harmless when repeated."""
        self._sock.close()

    def read_head(self) -> Head | None:
        """The next message's head, or None where the stream ended between two messages."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD_BYTES:
                raise HeadTooLong
            if not self._fill(HEAD_BYTES):
                if self._buffer:
                    raise EOFError("ended within a head")
                return None
        raw = self._take(end + 4)
        lines = raw.decode("latin-1").split("\r\n")
        fields: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                fields[name.strip().lower()] = value.strip()
        return Head(raw, lines[0], fields)

    def body(
        self, head: Head, piece_bytes: Callable[[], int], *, until_close: bool = False
    ) -> Iterator[Piece]:
        """The body that belongs to a head; EOFError if the stream ends within it."""
        if head.chunked:
            return self._chunks(piece_bytes)
        length = head.fields.get("content-length")
        if length is not None:
            return self._exactly(int(length), piece_bytes)
        return self._rest(piece_bytes) if until_close else iter(())

    def _fill(self, size: int) -> bool:
        data = self._sock.recv(size)
        self._buffer += data
        return bool(data)

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _some(self, at_most: int) -> bytes:
        if self._buffer:
            return self._take(at_most)
        return self._sock.recv(at_most)

    def _exactly(self, size: int, piece_bytes: Callable[[], int]) -> Iterator[Piece]:
        while size:
            data = self._some(min(size, piece_bytes()))
            if not data:
                raise EOFError("ended within a body")
            size -= len(data)
            yield Piece(data, data)

    def _rest(self, piece_bytes: Callable[[], int]) -> Iterator[Piece]:
        while data := self._some(piece_bytes()):
            yield Piece(data, data)

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not self._fill(4096):
                raise EOFError("ended within a chunk's line")
        return self._take(end + 2)

    def _chunks(self, piece_bytes: Callable[[], int]) -> Iterator[Piece]:
        while True:
            line = self._line()
            size = int(line.split(b";")[0].strip(), 16)
            yield Piece(line, b"")
            if not size:
                break
            yield from self._exactly(size, piece_bytes)
            yield Piece(self._line(), b"")
        while True:  # trailing fields, up to an empty line
            line = self._line()
            yield Piece(line, b"")
            if line == b"\r\n":
                return
