"""Bodies going up, whatever they were given as.

Used by all drivers; knows no store. `Reader` is a body of known length that can be read again from
its start (a store may ask twice); `Puller` cuts an endless stream into such bodies in bounded
memory. The danger is a file that changes while it is sent: a `Reader` that finds less than it
promised raises instead of sending less.
"""

from __future__ import annotations

import io
import os
import stat
import sys
import tempfile
import threading
from typing import IO, TYPE_CHECKING, cast

from storefs.drivers import checksums
from storefs.errors import StoreError
from storefs.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storefs.drivers.base import Body
    from storefs.drivers.checksums import Checksum
    from storefs.drivers.models import ProgressCallback

Buffer = bytes | bytearray | memoryview
PIECE_BYTES = 1 * MIB
"""What moves at a time where nobody says otherwise."""

SPOOL_MEMORY_BYTES = 16 * MIB
"""A body of unknown length is held in memory up to this, on disk above it."""


class Reader:
    """A body of known length with `read`, `seek`, `tell` and `len`, as SDKs want to see it.

    `progress` hears of bytes only while `sending` is true, since an SDK may read a body once to
    sign it and again to send it.
    """

    def __init__(
        self,
        size: int,
        fetch: Callable[[int, int], bytes],
        *,
        close: Callable[[], None] | None = None,
    ) -> None:
        self.size = size
        self._fetch = fetch
        self._close = close
        self.progress: ProgressCallback | None = None
        self.sending = False
        self._position = 0
        self._hashed: dict[str, Checksum] = {}

    def __len__(self) -> int:
        return self.size

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def readable(self) -> bool:
        """SDKs ask."""
        return True

    def seekable(self) -> bool:
        """SDKs ask."""
        return True

    def tell(self) -> int:
        """Position in bytes from the body's own start."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; relative to start, position or end as in `io`. Ends `sending`."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        self.sending = False
        self.hash_with(*self._hashed)
        return self._position

    def hash_with(self, *checksum_types: str) -> None:
        """Compute these from the bytes that are sent from now on."""
        self._hashed = {name: checksums.new(name) for name in checksum_types}

    def hexdigest(self, checksum_type: str) -> str:
        """Checksum of what was sent."""
        return self._hashed[checksum_type].hexdigest()

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes, at most `size`; fewer only at the end."""
        left = max(0, self.size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        # The sender comes back for more when it has handed on what it took before.
        if self.sending and self.progress is not None:
            self.progress(self._position, self.size)
        if not wanted:
            return b""
        data = self._fetch(self._position, wanted)
        if len(data) < wanted:
            raise StoreError("the file became shorter while it was being sent")
        self._position += wanted
        if self.sending:
            for checksum in self._hashed.values():
                checksum.update(data)
        return data

    def pieces(self, size: int = PIECE_BYTES) -> Iterator[bytes]:
        """From the start to the end; progress is told when the next piece is asked for."""
        self.seek(0)
        self.sending = True
        while data := self.read(size):
            yield data

    def close(self) -> None:
        """Drop what the body was spooled into; harmless when repeated."""
        if self._close is not None:
            self._close()
            self._close = None


def of_buffer(data: Buffer) -> Reader:
    """A body that is in memory."""
    view = memoryview(data).cast("B")
    return Reader(len(view), lambda offset, size: bytes(view[offset : offset + size]))


def of_descriptor(descriptor: int, offset: int, size: int) -> Reader:
    """A range of an open file; many may read the same descriptor at once (pread)."""

    def fetch(start: int, wanted: int) -> bytes:
        found = bytearray()
        while len(found) < wanted:
            data = os.pread(descriptor, wanted - len(found), offset + start + len(found))
            if not data:
                break
            found += data
        return bytes(found)

    return Reader(size, fetch)


def joined(head: bytes, tail: Reader) -> Reader:
    """`head` and then `tail`; progress is told to the tail's callback, of the tail's bytes."""

    def fetch(offset: int, wanted: int) -> bytes:
        data = head[offset : offset + wanted]
        if len(data) < wanted:
            tail.seek(max(0, offset - len(head)))
            data += tail.read(wanted - len(data))
        return data

    body = Reader(len(head) + tail.size, fetch)
    told = tail.progress
    if told is not None:
        tail.progress = None
        body.progress = lambda done, _total: told(max(0, done - len(head)), tail.size)
    return body


def _of_seekable(file: IO[bytes]) -> Reader:
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    try:
        descriptor = file.fileno()
    except (AttributeError, OSError):
        pass
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return of_descriptor(descriptor, start, size)
    lock = threading.Lock()

    def fetch(offset: int, wanted: int) -> bytes:
        with lock:
            file.seek(start + offset)
            return file.read(wanted)

    return Reader(size, fetch)


def is_buffer(body: Body) -> bool:
    """Whether the body is in memory as a whole."""
    return isinstance(body, bytes | bytearray | memoryview)


def of_known_length(body: Body) -> Reader | None:
    """The body as a `Reader` if its length can be told without consuming it, else None.

    Raises TypeError for text: a store takes bytes.
    """
    if isinstance(body, bytes | bytearray | memoryview):
        return of_buffer(body)
    if isinstance(body, str | io.TextIOBase):
        raise TypeError("a body is bytes, a file opened in binary mode, or an iterable of bytes")
    if isinstance(body, Reader):
        return body
    seekable = getattr(body, "seekable", None)
    if hasattr(body, "read") and seekable is not None and seekable():
        return _of_seekable(cast("IO[bytes]", body))
    return None


def pull(body: Body, size: int = 256 * 1024) -> Iterator[bytes]:
    """The body in pieces that are not empty: of at most `size` from a file, as they come else."""
    if isinstance(body, bytes | bytearray | memoryview):
        yield from of_buffer(body).pieces(size)
    elif hasattr(body, "read"):
        read = getattr(body, "read1", None) or body.read
        while data := read(size):
            yield data
    else:
        for data in body:
            if isinstance(data, str | int):
                raise TypeError("a body is bytes, a binary file, or an iterable of bytes")
            if data:
                yield bytes(data)


class Spool:
    """Collects bytes, in memory while they are few, and becomes a `Reader`."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES)  # noqa: SIM115
        self.size = 0

    def write(self, data: Buffer) -> None:
        """Add bytes at the end."""
        self._file.write(data)
        self.size += len(data)

    def reader(self) -> Reader:
        """Everything so far; the spool ends when the reader is closed."""
        file = self._file

        def fetch(offset: int, wanted: int) -> bytes:
            file.seek(offset)
            return file.read(wanted)

        return Reader(self.size, fetch, close=file.close)


def with_length(body: Body) -> Reader:
    """The body as a `Reader`; a stream of unknown length is spooled first."""
    known = of_known_length(body)
    return Puller(body).take(sys.maxsize) if known is None else known


def hexdigest_of(body: Reader, checksum_type: str) -> str:
    """A checksum of the whole body, which is rewound."""
    checksum = checksums.new(checksum_type)
    feed(checksum, body)
    return checksum.hexdigest()


def feed(checksum: Checksum, body: Reader) -> None:
    """Update a checksum with the whole body, which is rewound."""
    body.seek(0)
    while data := body.read(PIECE_BYTES):
        checksum.update(data)
    body.seek(0)


class Puller:
    """Takes bodies of a wanted size out of a stream of unknown length."""

    def __init__(self, body: Body) -> None:
        self._pieces = pull(body)
        self._left = memoryview(b"")
        self._ended = False

    def take(self, size: int) -> Reader:
        """The next `size` bytes, fewer (or none) only at the end of the stream."""
        spool = Spool()
        while spool.size < size and self._fill():
            data = self._left[: size - spool.size]
            spool.write(data)
            self._left = self._left[len(data) :]
        return spool.reader()

    def at_end(self) -> bool:
        """Whether nothing is left; may wait for the stream."""
        return not self._fill()

    def _fill(self) -> bool:
        while not self._left and not self._ended:
            data = next(self._pieces, None)
            self._ended = data is None
            self._left = memoryview(data or b"")
        return bool(self._left)


class Tally:
    """Adds up the progress of parts that move at the same time."""

    def __init__(self, callback: ProgressCallback | None, total: int | None) -> None:
        self._callback = callback
        self._total = total
        self._lock = threading.Lock()
        self._done = 0

    def part(self) -> ProgressCallback | None:
        """A callback for one part; a part sent again is not counted twice."""
        callback, before = self._callback, 0
        if callback is None:
            return None

        def report(done: int, _total: int | None) -> None:
            nonlocal before
            with self._lock:
                self._done += done - before
                before = done
                callback(self._done, self._total)

        return report
