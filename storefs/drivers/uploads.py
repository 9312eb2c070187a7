"""Uploads of files and streams, out of one PUT or the multipart verbs.

A base of the memory, local and s3 drivers, which bring `put_reader` and the multipart group. Knows
no store. The danger is leaving something behind on failure: an open multipart upload costs money
until somebody aborts it, so every one is opened by `MultipartJob`, which aborts it.
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any, cast

from storefs.drivers import checksums, streams
from storefs.drivers.base import Body, Connection, StorageDriver
from storefs.drivers.models import (
    Capabilities,
    ObjectAttributes,
    Part,
    ProgressCallback,
    UploadResult,
)
from storefs.drivers.streams import Reader, Tally
from storefs.errors import (
    NoSuchUpload,
    ObjectChanged,
    ObjectExists,
    ObjectTooLarge,
    StoreError,
    StoreUnavailable,
)
from storefs.units import MIB

if TYPE_CHECKING:
    from types import TracebackType

PART_BYTES = 8 * MIB
"""Below this a body is one PUT; above it, parts of this size. As boto3's own transfers do."""

PARTS_PER_STEP = 1000
"""Parts double after so many: 8 MiB parts would reach 8 TiB within 10,000."""


def part_size(caps: Capabilities, part_bytes: int | None, number: int = 1) -> int:
    """How large part `number` (from 1) of a stream of unknown length is, in bytes."""
    first = max(part_bytes or PART_BYTES, caps.min_part_bytes)
    return min(first << ((number - 1) // PARTS_PER_STEP), caps.max_part_bytes)


def refuse_unknown(operation: str, kwargs: dict[str, Any]) -> None:
    """Raises TypeError for keywords that no driver knows: an option is never ignored."""
    if kwargs:
        names = ", ".join(sorted(kwargs))
        raise TypeError(f"{operation}() got unexpected keyword arguments: {names}")


class MultipartJob:
    """One multipart upload as a context: aborted unless `complete` was reached."""

    def __init__(
        self,
        driver: StorageDriver,
        connection: Connection,
        container_name: str,
        object_name: str,
        attributes: ObjectAttributes | None,
    ) -> None:
        self._driver = driver
        self._connection = connection
        self._container = container_name
        self._key = object_name
        self._attributes = attributes
        self._upload_id = ""
        self._parts: dict[int, Part] = {}

    def __enter__(self) -> MultipartJob:
        self._upload_id = self._driver.create_multipart_upload(
            self._connection, self._container, self._key, attributes=self._attributes
        )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            return
        # The error that is on its way says more than a failing abort would.
        with contextlib.suppress(StoreError):
            self._driver.abort_multipart_upload(
                self._connection, self._container, self._key, self._upload_id
            )

    def send(self, number: int, body: Reader, progress: ProgressCallback | None = None) -> None:
        """One part; may be called from several threads."""
        self._parts[number] = self._driver.upload_part(
            self._connection,
            self._container,
            self._key,
            self._upload_id,
            number,
            cast("IO[bytes]", body),  # it is read and sought, which a Reader knows
            progress_callback=progress,
        )

    def copy(
        self,
        number: int,
        offset: int,
        length: int,
        if_match: str | None,
        *,
        source: tuple[str, str] | None = None,
    ) -> None:
        """A part out of `source` (bucket and key), or of the object that has this key now."""
        container, key = source or (self._container, self._key)
        self._parts[number] = self._driver.copy_part(
            self._connection,
            self._container,
            self._key,
            self._upload_id,
            number,
            container,
            key,
            offset=offset,
            length=length,
            src_if_match=if_match,
        )

    def complete(self, if_match: str | None, if_none_match: str | None) -> UploadResult:
        """Make the parts the object. An answer that is lost is looked for under the key."""
        parts = [self._parts[number] for number in sorted(self._parts)]
        try:
            return self._driver.complete_multipart_upload(
                self._connection,
                self._container,
                self._key,
                self._upload_id,
                parts,
                if_match=if_match,
                if_none_match=if_none_match,
            )
        except (StoreUnavailable, ObjectChanged, ObjectExists, NoSuchUpload) as exc:
            if exc.attempts == 1 and not isinstance(exc, StoreUnavailable):
                raise  # asked once and answered: that is the truth
            expected = checksums.multipart_etag(part.etag for part in parts)
            found = None
            with contextlib.suppress(StoreError):
                found = self._driver.get_object_meta(self._connection, self._key, self._container)
            if found is None or not expected or found.etag != expected:
                raise
            return UploadResult(None, None, etag=found.etag, size=found.size)


class Uploads(StorageDriver):
    """See the module."""

    def put_reader(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        body: Reader,
        *,
        checksum_type: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        attributes: ObjectAttributes | None = None,
    ) -> UploadResult:
        """One PUT of a body of known length; `body.progress` hears of what is sent."""
        raise self.unsupported("put_reader", "not implemented")

    def upload_file(
        self,
        connection: Connection,
        file_path: str,
        container_name: str,
        object_name: str,
        checksum_type: str | None = None,
        threads: int | None = None,
        progress_callback: ProgressCallback | None = None,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        attributes: ObjectAttributes | None = None,
        part_bytes: int | None = None,
        **kwargs: Any,
    ) -> UploadResult:
        """Send a file: one PUT if small, else parts of `part_bytes`, `threads` at a time."""
        refuse_unknown("upload_file", kwargs)
        caps = self.capabilities(connection, container_name)
        with open(file_path, "rb") as file:
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size
            if size > caps.max_object_bytes:
                raise ObjectTooLarge(
                    f"{size} bytes; this store takes {caps.max_object_bytes}", key=object_name
                )
            part = max(part_size(caps, part_bytes), -(-size // caps.max_parts))
            if size <= part:
                whole = streams.of_descriptor(descriptor, 0, size)
                whole.progress = progress_callback
                return self.put_reader(
                    connection,
                    container_name,
                    object_name,
                    whole,
                    checksum_type=checksum_type,
                    if_match=if_match,
                    if_none_match=if_none_match,
                    attributes=attributes,
                )
            tally = Tally(progress_callback, size)
            checksum = checksums.maybe(checksum_type)
            job = MultipartJob(self, connection, container_name, object_name, attributes)
            with job, ThreadPoolExecutor(max(1, threads or 1), "storefs-upload") as pool:

                def send(start: int) -> None:
                    body = streams.of_descriptor(descriptor, start, min(part, size - start))
                    job.send(start // part + 1, body, tally.part())

                sent = pool.map(send, range(0, size, part))
                if checksum is not None:
                    streams.feed(checksum, streams.of_descriptor(descriptor, 0, size))
                try:
                    list(sent)
                except BaseException:
                    pool.shutdown(cancel_futures=True)  # or every part left is sent in vain
                    raise
                result = job.complete(if_match, if_none_match)
        value = checksum.hexdigest() if checksum else None
        return UploadResult(value, checksum_type, **result.extra)

    def upload_object_via_stream(
        self,
        connection: Connection,
        iterator: Body,
        container_name: str,
        object_name: str,
        checksum_type: str | None = None,
        progress_callback: ProgressCallback | None = None,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        attributes: ObjectAttributes | None = None,
        part_bytes: int | None = None,
        **kwargs: Any,
    ) -> UploadResult:
        """Send a stream of any length in bounded memory; a short one (or a buffer) is one PUT.

        On failure nothing of the new object is visible and no multipart upload is left.
        """
        refuse_unknown("upload_object_via_stream", kwargs)
        caps = self.capabilities(connection, container_name)
        known = streams.of_known_length(iterator)
        one_put = caps.max_put_bytes if streams.is_buffer(iterator) else part_size(caps, part_bytes)
        puller = streams.Puller(known.pieces() if known else iterator)
        body = (
            known if known and known.size <= one_put else puller.take(part_size(caps, part_bytes))
        )
        if body is known or puller.at_end():
            body.progress = progress_callback
            with body:
                return self.put_reader(
                    connection,
                    container_name,
                    object_name,
                    body,
                    checksum_type=checksum_type,
                    if_match=if_match,
                    if_none_match=if_none_match,
                    attributes=attributes,
                )
        tally = Tally(progress_callback, known.size if known else None)
        checksum = checksums.maybe(checksum_type)
        number = 1
        with MultipartJob(self, connection, container_name, object_name, attributes) as job:
            while True:
                with body:
                    if checksum is not None:
                        streams.feed(checksum, body)
                    job.send(number, body, tally.part())
                if puller.at_end():
                    break
                number += 1
                body = puller.take(part_size(caps, part_bytes, number))
            result = job.complete(if_match, if_none_match)
        value = checksum.hexdigest() if checksum else None
        return UploadResult(value, checksum_type, **result.extra)
