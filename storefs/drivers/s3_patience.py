"""How long the S3 driver waits on a socket: as long as the bytes on their way may need.

botocore knows two time-outs for a client, to connect and to read. Neither fits a body: urllib3
sends it under the time-out to connect, and the answer to a body comes only when the last byte has
passed every relay on the way, which buffer megabytes. So connections of our client are given, per
request, a second for each 128 KiB of body, and what a verb asks for with `patience`. The danger is
a botocore that no longer takes our classes: a test with a slow link would fail.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOWEST_BYTES_PER_SECOND = 128 * 1024
"""A link slower than this may time out. The store's watchdog assumes the same."""

SENT_BYTES = 64 * 1024
"""What one `sendall` gets: its time-out is for the whole of it, not for the next byte."""

_asked = threading.local()


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Requests of this thread wait so much longer for their answer: copies inside the store."""
    before = getattr(_asked, "seconds", 0.0)
    _asked.seconds = seconds
    try:
        yield
    finally:
        _asked.seconds = before


class _Patient:
    """Mixed into a connection: the socket's time-out follows the request."""

    call_seconds = 60.0  # overwritten by the classes that `install` makes
    _seconds = 60.0

    def request(
        self, method: str, url: str, body: Any = None, headers: Any = None, **kw: Any
    ) -> Any:
        """As the connection's own, with the time-out for sending raised."""
        connection: Any = self
        size = int((headers or {}).get("Content-Length", 0) or 0)
        extra = size / SLOWEST_BYTES_PER_SECOND + getattr(_asked, "seconds", 0.0)
        self._seconds = self.call_seconds + extra
        connection.blocksize = SENT_BYTES
        if connection.sock is not None:
            connection.timeout = self._seconds  # urllib3 sets it on the socket that it uses again
        return super().request(method, url, body, headers, **kw)  # type: ignore[misc]

    def connect(self) -> None:
        """Connect under the time-out to connect, then send under the one to send."""
        super().connect()  # type: ignore[misc]
        connection: Any = self
        connection.sock.settimeout(self._seconds)

    def getresponse(self) -> Any:
        """Wait for the answer as long as its request may need."""
        connection: Any = self
        # urllib3 has just set the client's time-out to read, which is right without a body.
        if connection.timeout is None or connection.timeout < self._seconds:
            connection.timeout = self._seconds
        return super().getresponse()  # type: ignore[misc]


def install(client: Any, call_seconds: float) -> None:
    """Make the client's connections patient; a call without a body gets `call_seconds`."""

    class Plain(_Patient, AWSHTTPConnection):  # type: ignore[misc]
        pass

    class Secure(_Patient, AWSHTTPSConnection):  # type: ignore[misc]
        pass

    class PlainPool(AWSHTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(AWSHTTPSConnectionPool):
        ConnectionCls = Secure

    Plain.call_seconds = Secure.call_seconds = call_seconds
    # One dictionary for direct connections and those through a proxy.
    classes = client._endpoint.http_session._pool_classes_by_scheme
    classes.update(http=PlainPool, https=SecurePool)
