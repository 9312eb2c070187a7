"""Downloads: streams that are whole or fail, and files made of them.

A base of the memory, local and s3 drivers, which make `download_object_as_stream` with `Download`.
The promise kept here: a short body is never a success, and at the destination stands either what
stood there before or the whole object, never a part of it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from storefs.drivers import checksums, streams
from storefs.drivers.base import Connection, StorageDriver
from storefs.drivers.models import DownloadResult, Object, ProgressCallback
from storefs.drivers.streams import Tally, of_descriptor
from storefs.drivers.uploads import refuse_unknown
from storefs.errors import ChecksumMismatch, InvalidRange, StoreUnavailable
from storefs.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storefs.drivers.checksums import Checksum

RANGE_BYTES = 16 * MIB
"""What one of several threads fetches at a time. A guess, not measured."""


def clamp(offset: int, length: int | None, size: int, key: str) -> tuple[int, int]:
    """`(start, stop)` of a wanted range inside an object of `size` bytes.

    Raises InvalidRange for a start at or past the end, except of an empty object from 0.
    """
    if offset < 0 or (length is not None and length < 0):
        raise InvalidRange(f"no range: {length} bytes from {offset}", key=key)
    if offset >= size and (offset or size):
        raise InvalidRange(f"begins at {offset} of {size} bytes", key=key)
    return offset, size if length is None else min(size, offset + length)


class Download:
    """The pieces of a body coming down: right in size, whole, and of the right checksum.

    `read(size)` is the driver's: at most `size` bytes, empty at the end. Raises StoreUnavailable
    for a body that ends early and ChecksumMismatch for one whose checksum is not `expected`.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        close: Callable[[], None],
        length: int,
        *,
        key: str = "",
        chunk_size: int | None = None,
        progress: ProgressCallback | None = None,
        checksum: Checksum | None = None,
        expected: str | None = None,
    ) -> None:
        self._read = read
        self._close: Callable[[], None] | None = close
        self._length = length
        self._key = key
        self._chunk_size = chunk_size or streams.PIECE_BYTES
        self._progress = progress
        self._checksum = checksum
        self._expected = expected
        self._done = 0

    def __iter__(self) -> Download:
        return self

    def __next__(self) -> bytes:
        data = b""
        try:
            if self._done < self._length:
                data = self._read_chunk(min(self._chunk_size, self._length - self._done))
            elif self._checksum is not None:
                self._compare(self._checksum)
        except BaseException:
            self.close()
            raise
        if not data:
            self.close()
            raise StopIteration
        self._done += len(data)
        if self._checksum is not None:
            self._checksum.update(data)
        if self._progress is not None:
            self._progress(self._done, self._length)
        return data

    def close(self) -> None:
        """Give the connection back; harmless when repeated."""
        if self._close is not None:
            self._close()
            self._close = None

    def _read_chunk(self, wanted: int) -> bytes:
        found = self._read(wanted)
        if len(found) == wanted:
            return found
        chunk = bytearray(found)
        while found and len(chunk) < wanted:
            found = self._read(wanted - len(chunk))
            chunk += found
        if len(chunk) < wanted:
            raise StoreUnavailable(
                f"the body ended after {self._done + len(chunk)} of {self._length} bytes",
                key=self._key,
                operation="download_object_as_stream",
            )
        return bytes(chunk)

    def _compare(self, checksum: Checksum) -> None:
        self._checksum = None
        if self._expected is not None and checksum.hexdigest() != self._expected:
            raise ChecksumMismatch(
                f"checksum {checksum.hexdigest()} where the store says {self._expected}",
                key=self._key,
                operation="download_object_as_stream",
            )


class Downloads(StorageDriver):
    """See the module."""

    def download_file(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        dst_path: str,
        progress_callback: ProgressCallback | None = None,
        *,
        checksum_type: str | None = None,
        if_match: str | None = None,
        threads: int | None = None,
        **kwargs: Any,
    ) -> DownloadResult:
        """Fetch to a file (or into a directory), written aside and renamed when it is whole."""
        refuse_unknown("download_file", kwargs)
        checksum = checksums.maybe(checksum_type)
        if os.path.isdir(dst_path):
            dst_path = os.path.join(dst_path, object_name.rstrip("/").rpartition("/")[2])
        with _written_aside(dst_path) as descriptor:
            if threads and threads > 1:
                found = self._fetch_ranges(
                    connection,
                    container_name,
                    object_name,
                    descriptor,
                    threads,
                    progress_callback,
                    if_match,
                )
            else:
                stream = self.download_object_as_stream(
                    connection,
                    container_name,
                    object_name,
                    progress_callback=progress_callback,
                    if_match=if_match,
                )
                with contextlib.closing(stream):
                    for piece in stream:
                        _write_all(descriptor, piece, None)
                found = stream.extra["object"]
            if checksum is not None:
                streams.feed(checksum, of_descriptor(descriptor, 0, found.size))
            server = self.stored_checksum(found, checksum_type)
            client = checksum.hexdigest() if checksum else None
            if server is not None and server != client:
                raise ChecksumMismatch(
                    f"{checksum_type} {client} where the store says {server}",
                    key=object_name,
                    operation="download_file",
                )
        return DownloadResult(server, client, checksum_type, object=found, size=found.size)

    def stored_checksum(self, found: Object, checksum_type: str | None) -> str | None:
        """What the store says the whole object's checksum is, in hexadecimal, or None."""
        if checksum_type is None:
            return None
        if checksum_type == "md5" and checksums.is_md5(found.etag):
            return found.etag
        if found.extra.get("checksum_type") == checksum_type:
            return str(found.extra["checksum"])
        return None

    def _fetch_ranges(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        descriptor: int,
        threads: int,
        progress_callback: ProgressCallback | None,
        if_match: str | None,
    ) -> Object:
        found = self.get_object_meta(connection, object_name, container_name, if_match=if_match)
        tally = Tally(progress_callback, found.size)

        def fetch(start: int) -> None:
            stream = self.download_object_as_stream(
                connection,
                container_name,
                object_name,
                progress_callback=tally.part(),
                offset=start,
                length=RANGE_BYTES,
                if_match=found.etag,  # all ranges of one version
            )
            position = start
            with contextlib.closing(stream):
                for piece in stream:
                    _write_all(descriptor, piece, position)
                    position += len(piece)

        with ThreadPoolExecutor(threads, "storefs-download") as pool:
            fetched = pool.map(fetch, range(0, found.size, RANGE_BYTES))
            try:
                list(fetched)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return found


@contextlib.contextmanager
def _written_aside(path: str) -> Iterator[int]:
    """A descriptor of a new file that takes the name `path` if the block succeeds."""
    directory, name = os.path.split(path)
    # The name is shortened so that it fits where `name` itself is as long as can be.
    aside = os.path.join(directory, f".{name[:60]}.{secrets.token_hex(8)}.part")
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        os.rename(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise


def _write_all(descriptor: int, data: bytes, offset: int | None) -> None:
    view = memoryview(data)
    while view:
        if offset is None:
            written = os.write(descriptor, view)
        else:
            written = os.pwrite(descriptor, view, offset)
            offset += written
        view = view[written:]
