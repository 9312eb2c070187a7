"""The local bytes of one file: a sparse staging file, and the log that says whose they are.

Used by the writer and the uploader. Knows no store and no handle. Where nothing was written the
staging file reads as zeros, always: so what is neither staged nor in the base needs no care.
The danger: the log must be true after `kill -9`. Bytes are written first, the record next, and only
then is the write acknowledged.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from typing import TYPE_CHECKING

from storefs import threads
from storefs.errors import StagingFull, UploadFailed
from storefs.handle import record as lines
from storefs.handle.ranges import Content
from storefs.handle.record import Header, Record
from storefs.units import KIB, MIB, ByteRange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trio

INLINE_BYTES = 256 * KIB
"""Up to this size a copy to or from the page cache is made in place: 60 us for 256 KiB here, where
the way to a thread and back takes 300. Larger ones are worth the way, and a slow disk then stops
one writer and not the mount."""

MAPPED_BYTES = 16 * MIB
"""Longer parts are mapped, not read: parts of a terabyte object are gigabytes."""

LOG_LINES = 4096
"""After so many lines the log is written anew, if that makes it shorter."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextlib.contextmanager
def local_errors(key: str) -> Iterator[None]:
    """An error of the local disk as one of ours."""
    try:
        yield
    except OSError as exc:
        if exc.errno in FULL:
            raise StagingFull(key) from exc
        raise UploadFailed(f"{key}: {exc}") from exc


class Staging:
    """Created at the first change of a file, removed when the store has everything."""

    def __init__(
        self, directory: Path, name: str, header: Header, limiter: trio.CapacityLimiter
    ) -> None:
        self.data_path = directory / f"{name}.data"
        self.log_path = directory / f"{name}.log"
        self._limiter = limiter
        self._was_mapped = False
        self._log = -1
        with local_errors(header.key):
            self._data = self._create(self.data_path)
            try:
                self._log = self._create(self.log_path)
                self._begin(header)
            except BaseException:
                self.remove()
                raise

    def _begin(self, header: Header) -> None:
        self.record = Record(header, Content.stored(header.size))
        self._lines = 1
        self._append(lines.header_line(header))

    def __repr__(self) -> str:
        return f"<Staging {self.data_path.name} {self.record.content}>"

    @property
    def is_closed(self) -> bool:
        """True after `close` or `remove`."""
        return self._data < 0

    @property
    def is_recorded(self) -> bool:
        """False if the log could not be written; it is written anew with the next record."""
        return not self._log_is_torn

    @property
    def size_on_disk(self) -> int:
        """Bytes that removing it frees; holes count for nothing."""
        return 0 if self.is_closed else os.fstat(self._data).st_blocks * 512

    # -- bytes ---------------------------------------------------------------------------------

    async def write(self, offset: int, data: bytes, *, recorded: bool = True) -> int:
        """Put bytes at `offset`; how many there was room for.

        Fewer than all: the disk is full. So it is if `is_recorded` is False afterwards: the bytes
        are there, but a crash would not know of them. `recorded` False: bytes that equal the base,
        which nobody would miss.
        """
        if len(data) <= INLINE_BYTES:
            written = self._write_all(offset, data)
        else:
            written = await threads.run(self._limiter, self._write_all, offset, data)
        if recorded and written:
            span = ByteRange(offset, offset + written)
            self.record.content.write(span)
            with contextlib.suppress(StagingFull):  # see is_recorded
                self._note(lines.write_line(span))
        return written

    async def read(self, span: ByteRange) -> bytes:
        """The bytes of `span`; zeros where nothing was written."""
        if len(span) <= INLINE_BYTES:
            return self._read_all(span)
        return await threads.run(self._limiter, self._read_all, span)

    async def view(self, span: ByteRange) -> bytes | memoryview:
        """The bytes of a part. Long ones are a view of the file and take no memory."""
        if len(span) <= MAPPED_BYTES:
            return await self.read(span)
        # A mapping reads past the end of its file as SIGBUS: the file is made long enough first,
        # and `truncate` never shortens a file that was mapped.
        self._was_mapped = True
        return await threads.run(self._limiter, self._map, span)

    async def truncate(self, size: int) -> None:
        """Forget everything from `size` on; growing needs nothing but the record."""
        self.record.content.truncate(size)
        with contextlib.suppress(StagingFull):  # cutting must work on a full disk
            self._note(lines.truncate_line(size))
        length = os.fstat(self._data).st_size
        if length > size:
            # Freeing the pages of gigabytes takes a while.
            inline = length - size <= INLINE_BYTES and not self._was_mapped
            with local_errors(self.record.header.key):
                if inline:
                    os.ftruncate(self._data, size)
                else:
                    await threads.run(self._limiter, self._shorten, size)

    # -- whose they are ------------------------------------------------------------------------

    def moved(self, header: Header) -> None:
        """The file has another key or base version; its bytes are the same."""
        self.record.header = header
        with contextlib.suppress(StagingFull):  # the log is torn then, and written anew next time
            self._note(lines.moved_line(header))

    def upload(self, upload_id: str, key: str, *, begun: bool) -> None:
        """Note a multipart upload, so that a crash does not leave it to be paid for."""
        if begun:
            self.record.uploads[upload_id] = key
        else:
            self.record.uploads.pop(upload_id, None)
        with contextlib.suppress(StagingFull):
            self._note(lines.upload_line(upload_id, key, begun=begun))

    def kept_as(self, stem: str) -> None:
        """The bytes have a name in lost+found now."""
        self.record.stem = stem
        with contextlib.suppress(StagingFull):
            self._note(lines.stem_line(stem))

    def unlinked(self, is_unlinked: bool, scratch: str | None) -> None:
        """The file lost its name, or got it back; `scratch` is a key that serves its handles."""
        self.record.is_unlinked, self.record.scratch = is_unlinked, scratch
        with contextlib.suppress(StagingFull):
            self._note(lines.unlinked_line(is_unlinked, scratch))

    def stored(self) -> None:
        """The store has these bytes: after a crash nobody misses them."""
        self.log_path.unlink(missing_ok=True)
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def close(self) -> None:
        """Leave the files to the next start; harmless when repeated."""
        for fd in (self._data, self._log):
            if fd >= 0:
                os.close(fd)
        self._data = self._log = -1

    def empty(self) -> bool:
        """Make it ready for other bytes; False if somebody may still look at these."""
        if self._data < 0 or self._log < 0 or self._was_mapped:
            return False
        if os.fstat(self._data).st_nlink != 1:  # in lost+found
            return False
        # The log first: bytes without a log are swept, a log without bytes would name a loss.
        os.ftruncate(self._log, 0)
        os.lseek(self._log, 0, os.SEEK_SET)
        os.ftruncate(self._data, 0)
        return True

    def restart(self, header: Header) -> None:
        """Use an emptied one for another file."""
        with local_errors(header.key):
            self._begin(header)

    def remove(self) -> None:
        """The bytes are in the store, or nobody's any more; harmless when repeated."""
        self.close()
        self.log_path.unlink(missing_ok=True)
        self.data_path.unlink(missing_ok=True)

    # -- inside --------------------------------------------------------------------------------

    @staticmethod
    def _create(path: Path) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.fchmod(fd, 0o600)  # whatever the umask
        return fd

    def _write_all(self, offset: int, data: bytes) -> int:
        view, written = memoryview(data), 0
        while written < len(view):
            try:
                written += os.pwrite(self._data, view[written:], offset + written)
            except OSError as exc:
                if exc.errno in FULL:
                    return written
                raise UploadFailed(f"{self.record.header.key}: {exc}") from exc
        return written

    def _read_all(self, span: ByteRange) -> bytes:
        found = os.pread(self._data, len(span), span.start)
        while found and len(found) < len(span):
            more = os.pread(self._data, len(span) - len(found), span.start + len(found))
            if not more:
                break
            found += more
        return found.ljust(len(span), b"\0")

    def _map(self, span: ByteRange) -> memoryview:
        with local_errors(self.record.header.key):
            if os.fstat(self._data).st_size < span.stop:
                os.ftruncate(self._data, span.stop)
            start = span.start - span.start % mmap.ALLOCATIONGRANULARITY
            mapped = mmap.mmap(self._data, span.stop - start, prot=mmap.PROT_READ, offset=start)
        return memoryview(mapped)[span.start - start :]

    def _shorten(self, size: int) -> None:
        if self._was_mapped:
            self._replace(size)
        else:
            os.ftruncate(self._data, size)

    def _replace(self, size: int) -> None:
        """A new file with what remains below `size`; mappings of the old one stay valid."""
        aside = self.data_path.with_suffix(".new")
        fd = self._create(aside)
        for span in self._written(size):
            at = span.start
            while at < span.stop:
                at += os.copy_file_range(self._data, fd, span.stop - at, at, at)
        os.rename(aside, self.data_path)
        os.close(self._data)
        self._data, self._was_mapped = fd, False

    def _written(self, size: int) -> Iterator[ByteRange]:
        """Where the file below `size` is not a hole."""
        at = 0
        while at < size:
            try:
                start = os.lseek(self._data, at, os.SEEK_DATA)
            except OSError as exc:
                if exc.errno == errno.ENXIO:
                    return
                raise
            at = min(size, os.lseek(self._data, start, os.SEEK_HOLE))
            if start < at:
                yield ByteRange(start, at)

    def _note(self, line: str) -> None:
        with local_errors(self.record.header.key):
            self._lines += 1
            ranges = len(self.record.content.staged)
            if self._log_is_torn or self._lines > LOG_LINES + 2 * ranges:
                self._rewrite()
            else:
                self._append(line)

    def _append(self, line: str) -> None:
        data = line.encode()
        self._log_is_torn = True
        if os.write(self._log, data) != len(data):
            raise OSError(errno.ENOSPC, "the log was cut short")
        self._log_is_torn = False

    def _rewrite(self) -> None:
        aside = self.log_path.with_suffix(".newlog")
        aside.unlink(missing_ok=True)
        fd = self._create(aside)
        try:
            data = memoryview(lines.whole_log(self.record).encode())
            while data:
                data = data[os.write(fd, data) :]
            os.rename(aside, self.log_path)
        except BaseException:
            os.close(fd)
            aside.unlink(missing_ok=True)
            raise
        os.close(self._log)
        self._log, self._log_is_torn = fd, False
        self._lines = 2 + len(self.record.content.staged)
