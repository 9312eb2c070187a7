"""A relay between a client and an HTTP server, for tests: it counts, delays and breaks.

Used by tests that pin what an operation costs (requests, round trips) and what happens when the
network or the store misbehaves. It stands outside the process under test and knows HTTP framing
only, nothing of S3: heads travel unchanged, so that signatures over `Host` stay valid (the server
sees the relay's address in it). Threads, one per connection. The danger: faults are switched by the
test's thread while connections run; everything shared is touched under `_lock` or is one attribute
that is read once per decision.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tests.support.exchanges import Exchange, Fault, Predicate, everything, method, round_trips
from tests.support.relay_connection import Connection

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.http_framing import Head

__all__ = ["Exchange", "Fault", "Predicate", "Relay", "everything", "method", "round_trips"]

PIECE_BYTES = 128 * 1024
SLOW_PIECE_BYTES = 4 * 1024
RECEIVE_BUFFER_BYTES = 128 * 1024  # a sender must feel a slow or silent link, not fill a buffer


class Relay:
    """Listens on 127.0.0.1 and passes on to one HTTP server. A context manager.

    `latency_seconds` is added to every request, `rate_bytes` is the speed of each connection and
    `link_bytes` that of all together, a second and each way; they may be changed at any time.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"the relay speaks plain HTTP to its server, not {upstream!r}")
        self._upstream = (parts.hostname, parts.port or 80)
        self.latency_seconds = 0.0
        self.rate_bytes: int | None = None
        self.link_bytes: int | None = None
        self._lock = threading.Lock()
        self._log: list[Exchange] = []
        self._faults: list[Fault] = []
        self._connections: dict[int, Connection] = {}
        self._numbers = itertools.count()
        self._active = 0
        self.is_stalled = False
        self._link_free_at = {"up": 0.0, "down": 0.0}
        self._closed = False
        self._port = 0
        self._listener: socket.socket | None = None
        self.accept()

    # -- life ----------------------------------------------------------------------------------

    @property
    def endpoint_url(self) -> str:
        """What the client is given as its endpoint."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop everything; harmless when repeated."""
        self._closed = True
        self.heal()
        self.refuse()

    # -- what was seen -------------------------------------------------------------------------

    @property
    def log(self) -> list[Exchange]:
        """A copy of all exchanges since the last `forget`, in the order of their arrival."""
        with self._lock:
            return list(self._log)

    def forget(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self._log.clear()

    def counts(self) -> Counter[str]:
        """Requests by verb since the last `forget`."""
        return Counter(exchange.method for exchange in self.log)

    def round_trips(self) -> int:
        """`round_trips` of what was seen since the last `forget`."""
        return round_trips(self.log)

    def story(self) -> str:
        """One line a request, for a failing assertion."""
        return "\n".join(str(exchange) for exchange in self.log) or "no request"

    # -- faults --------------------------------------------------------------------------------

    def answer(
        self,
        status: int = 500,
        *,
        when: Predicate = everything,
        times: int | None = None,
        code: str = "InternalError",
    ) -> Fault:
        """Answer with an S3 error document instead of asking the server."""
        return self._add(Fault("answer", when, times, status=status, code=code))

    def lose_answer(self, *, when: Predicate = everything, times: int | None = 1) -> Fault:
        """Let the server act, then drop the connection instead of passing its answer on."""
        return self._add(Fault("lose", when, times))

    def reset_requests(self, *, when: Predicate = everything, times: int | None = 1) -> Fault:
        """Drop the connection before the server hears of the request."""
        return self._add(Fault("reset", when, times))

    def truncate(
        self, *, when: Predicate = everything, after_bytes: int = 0, times: int | None = 1
    ) -> Fault:
        """Drop the connection after so many bytes of the answer's body."""
        return self._add(Fault("truncate", when, times, after_bytes=after_bytes))

    def corrupt(self, *, when: Predicate = everything, times: int | None = 1) -> Fault:
        """Change one bit in the answer's body."""
        return self._add(Fault("corrupt", when, times))

    def corrupt_upload(self, *, when: Predicate = everything, times: int | None = 1) -> Fault:
        """Change one bit in the request's body."""
        return self._add(Fault("corrupt-upload", when, times))

    def hold(self, *, when: Predicate = everything, times: int | None = None) -> Fault:
        """Keep matching requests without an answer until the fault is cleared, then pass them."""
        return self._add(Fault("hold", when, times))

    def stall(self) -> None:
        """Become a black hole: connections are accepted, bytes swallowed, nothing is passed."""
        self.is_stalled = True

    def resume(self, *, drop: bool = True) -> None:
        """End `stall`. With `drop` what was stuck is reset; else it goes on, as TCP would."""
        if drop:
            self.reset_all()
        self.is_stalled = False

    def reset_all(self) -> None:
        """Reset every open connection."""
        with self._lock:
            connections = list(self._connections.values())
        for connection in connections:
            connection.cut()

    def refuse(self) -> None:
        """Stop listening (connection refused) and reset what is open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.reset_all()

    def accept(self) -> None:
        """Listen, on the same port as before; ends `refuse`."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(512)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True, name="relay").start()

    def heal(self) -> None:
        """No fault, no delay, no stall; connections that were stuck are reset."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.clear()
        self.latency_seconds = 0.0
        self.rate_bytes = self.link_bytes = None
        if self.is_stalled:
            self.resume()
        if self._listener is None and not self._closed:
            self.accept()

    # -- for connections -----------------------------------------------------------------------

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            connection = Connection(self, client, self._upstream)
            number = next(self._numbers)
            with self._lock:
                self._connections[number] = connection
            threading.Thread(
                target=self._carry, args=(number, connection), daemon=True, name="relay connection"
            ).start()

    def _carry(self, number: int, connection: Connection) -> None:
        try:
            connection.run()
        finally:
            with self._lock:
                self._connections.pop(number, None)

    def begin(self, head: Head) -> tuple[Exchange, Fault | None]:
        verb, target, _ = head.first_line.split(" ", 2)
        parts = urlsplit(target)
        with self._lock:
            self._active += 1
            exchange = Exchange(
                verb,
                unquote(parts.path),
                unquote(parts.query),
                time.monotonic(),
                self._active,
                head.fields,
            )
            self._log.append(exchange)
            fault = next((one for one in self._faults if one.takes(exchange)), None)
        if fault is not None:
            exchange.fault = fault.kind
        return exchange, fault

    def end(self, exchange: Exchange) -> None:
        with self._lock:
            self._active -= 1
            exchange.ended = time.monotonic()

    def pace(self, way: str, size: int) -> None:
        """Wait as long as `size` bytes take on a link of the stated speed."""
        rate, link = self.rate_bytes, self.link_bytes
        if rate is not None:
            time.sleep(size / rate)
        if link is not None:
            with self._lock:
                start = max(self._link_free_at[way], time.monotonic())
                self._link_free_at[way] = done = start + size / link
            time.sleep(max(0.0, done - time.monotonic()))

    @property
    def piece_bytes(self) -> int:
        slow = self.rate_bytes is not None or self.link_bytes is not None
        return SLOW_PIECE_BYTES if slow else PIECE_BYTES
