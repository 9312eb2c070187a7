"""Append where the store has none of its own: old bytes copied in the store, the tail sent.

A base of the memory, local and s3 drivers. S3's own append exists in directory buckets only, and
two compatible servers were seen to answer its header by replacing the object with the tail, so it
is never used. The position is the promise: either the object was `position` bytes long, or nothing
was written.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from storefs.drivers import checksums, streams
from storefs.drivers.base import COMMIT_BYTES, COMMIT_SECONDS, Body, Connection
from storefs.drivers.models import (
    AppendResult,
    Capabilities,
    Condition,
    Object,
    ObjectAttributes,
    ProgressCallback,
    UploadResult,
)
from storefs.drivers.streams import Reader, Spool, Tally
from storefs.drivers.uploads import MultipartJob, Uploads, refuse_unknown
from storefs.errors import (
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    PositionMismatch,
    StoreError,
)
from storefs.units import GIB

if TYPE_CHECKING:
    from collections.abc import Iterator

COPIED_PART_BYTES = 1 * GIB
"""Old bytes are copied in parts of this. A guess, not measured; AWS allows 5 GiB."""


class Appends(Uploads):
    """See the module."""

    def append_object(
        self,
        connection: Connection,
        iterator: Body,
        container_name: str,
        object_name: str,
        position: int = 0,
        checksum_type: str | None = None,
        progress_callback: ProgressCallback | None = None,
        *,
        commit_bytes: int = COMMIT_BYTES,
        commit_seconds: float = COMMIT_SECONDS,
        **kwargs: Any,
    ) -> AppendResult:
        """Grow an object whose length is `position`, in bytes; 0 may create it.

        Raises PositionMismatch with the true length, nothing written. A long stream is committed
        at least every `commit_bytes` or `commit_seconds`; a later error carries the position
        reached as `error.position`. A stream that is no buffer is read in a thread of its own, so
        that what has arrived is committed in time while the stream is silent.
        """
        refuse_unknown("append_object", kwargs)
        checksum = checksums.maybe(checksum_type)
        found = self._current(connection, container_name, object_name)
        _require_position(found, position, object_name)
        tally = Tally(progress_callback, None)
        try:
            for tail in batches(iterator, commit_bytes, commit_seconds):
                with tail:
                    if checksum is not None:
                        streams.feed(checksum, tail)
                    tail.progress = tally.part()
                    found = self._grow(connection, container_name, object_name, found, tail)
                position += tail.size
            if found is None:  # an empty stream still creates
                tail = streams.of_buffer(b"")
                found = self._grow(connection, container_name, object_name, None, tail)
        except StoreError as exc:
            if exc.position is None:
                exc.position = position
            raise
        return AppendResult(
            position,
            checksum=checksum.hexdigest() if checksum else None,
            checksum_type=checksum_type,
            etag=found.etag,
            size=position,
        )

    def _current(self, connection: Connection, container_name: str, key: str) -> Object | None:
        try:
            return self.get_object_meta(connection, key, container_name)
        except ObjectNotFound:
            return None

    def _grow(
        self,
        connection: Connection,
        container_name: str,
        key: str,
        old: Object | None,
        tail: Reader,
    ) -> Object:
        """One commit: `old` with `tail` behind it, if `old` is still what is there."""
        length = old.size if old else 0
        caps = self.capabilities(connection, container_name)
        attributes = self._carried(connection, container_name, old)
        try:
            if length < caps.min_part_bytes or length == 0:
                result = self._rewrite(connection, container_name, key, old, tail, attributes, caps)
            else:
                assert old is not None
                result = self._copy_and_add(
                    connection, container_name, key, old, tail, attributes, caps
                )
        except (ObjectChanged, ObjectExists) as exc:
            now = self._current(connection, container_name, key)
            raise PositionMismatch(
                "somebody else changed the object during the append",
                length=now.size if now else 0,
                key=key,
                operation="append_object",
            ) from exc
        grown = Object(key, length + tail.size, etag=str(result.extra["etag"]))
        # What a HEAD would say: the next commit of this stream needs no HEAD of its own.
        grown.extra["attributes"] = attributes
        return grown

    def _carried(
        self, connection: Connection, container_name: str, old: Object | None
    ) -> ObjectAttributes | None:
        """All that the grown object must keep of the old one, tags included."""
        attributes = old.attributes if old else None
        if old is None or attributes is None or attributes.tags is not None:
            return attributes
        if not attributes.tag_count:
            return attributes
        tags = self.get_object_tags(connection, container_name, old.name)
        return dataclasses.replace(attributes, tags=tags)

    def _rewrite(
        self,
        connection: Connection,
        container_name: str,
        key: str,
        old: Object | None,
        tail: Reader,
        attributes: ObjectAttributes | None,
        caps: Capabilities,
    ) -> UploadResult:
        head = b""
        if old is not None and old.size:
            stream = self.download_object_as_stream(
                connection, container_name, key, if_match=old.etag
            )
            head = b"".join(stream)
        if_match, if_none_match = self._conditions(
            connection, container_name, key, old, caps.conditional_put
        )
        body = streams.joined(head, tail)
        return self.put_reader(
            connection,
            container_name,
            key,
            body,
            if_match=if_match,
            if_none_match=if_none_match,
            attributes=attributes,
        )

    def _copy_and_add(
        self,
        connection: Connection,
        container_name: str,
        key: str,
        old: Object,
        tail: Reader,
        attributes: ObjectAttributes | None,
        caps: Capabilities,
    ) -> UploadResult:
        with MultipartJob(self, connection, container_name, key, attributes) as job:
            number = 0
            most = min(COPIED_PART_BYTES, caps.max_part_bytes)
            for number, (start, size) in enumerate(
                copied_ranges(old.size, most, caps.min_part_bytes), 1
            ):
                job.copy(number, start, size, old.etag)
            job.send(number + 1, tail, tail.progress)
            if_match, if_none_match = self._conditions(
                connection, container_name, key, old, caps.conditional_complete
            )
            return job.complete(if_match, if_none_match)

    def _conditions(
        self,
        connection: Connection,
        container_name: str,
        key: str,
        old: Object | None,
        offered: Condition,
    ) -> tuple[str | None, str | None]:
        """What to send along; where the store has no such condition, compare just before."""
        if old is None and offered is not Condition.NONE:
            return None, "*"
        if old is not None and offered is Condition.ETAG:
            return old.etag, None
        now = self._current(connection, container_name, key)
        if (now.etag if now else None) != (old.etag if old else None):
            raise ObjectChanged("changed before the append", key=key, operation="append_object")
        return None, None


def _require_position(found: Object | None, position: int, key: str) -> None:
    length = found.size if found else 0
    if length != position:
        raise PositionMismatch(
            f"the object is {length} bytes long, not {position}",
            length=length,
            key=key,
            operation="append_object",
        )


def copied_ranges(size: int, most: int, least: int) -> list[tuple[int, int]]:
    """`(offset, length)` of parts that cover `size` bytes, each between `least` and `most`.

    `size` is at least `least`; two parts share what would leave a last one too short.
    """
    ranges = [(start, min(most, size - start)) for start in range(0, size, most)]
    if len(ranges) > 1 and ranges[-1][1] < least:
        start = ranges[-2][0]
        half = (size - start) // 2
        ranges[-2:] = [(start, half), (start + half, size - start - half)]
    return ranges


def batches(body: Body, most_bytes: int, most_seconds: float) -> Iterator[Reader]:
    """The body in commits: full ones, and whatever has come `most_seconds` after its first byte."""
    known = streams.of_known_length(body)
    if known is not None:
        puller = streams.Puller(known.pieces())
        while not puller.at_end():
            yield puller.take(most_bytes)
        return
    arrivals = _Arrivals(body)
    try:
        yield from arrivals.batches(most_bytes, most_seconds)
    finally:
        arrivals.stop()


class _Arrivals:
    """Reads a stream in a thread of its own into a short queue."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=8)
        self._stopped = threading.Event()
        threading.Thread(target=self._read, name="storefs-append", daemon=True).start()

    def stop(self) -> None:
        """The thread ends once its stream yields; a stream cannot be interrupted from outside."""
        self._stopped.set()

    def _read(self) -> None:
        try:
            for data in streams.pull(self._body):
                self._offer(data)
                if self._stopped.is_set():
                    return
        except BaseException as exc:  # raised again in the thread that waits for the bytes
            self._offer(exc)
        else:
            self._offer(None)

    def _offer(self, item: bytes | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=1.0)
                return
            except queue.Full:
                continue

    def batches(self, most_bytes: int, most_seconds: float) -> Iterator[Reader]:
        """As the function of this name. What came before the stream failed is committed first."""
        spool, due = Spool(), 0.0
        while True:
            try:
                wait = max(0.0, due - time.monotonic()) if spool.size else None
                item = self._queue.get(timeout=wait)
            except queue.Empty:
                yield spool.reader()
                spool = Spool()
                continue
            if not isinstance(item, bytes):
                if spool.size:
                    yield spool.reader()
                if item is not None:
                    raise item
                return
            rest = memoryview(item)
            while rest:
                if not spool.size:
                    due = time.monotonic() + most_seconds
                taken = rest[: most_bytes - spool.size]
                spool.write(taken)
                rest = rest[len(taken) :]
                if spool.size >= most_bytes:
                    yield spool.reader()
                    spool = Spool()
