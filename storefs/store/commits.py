"""Writes that make a version: put, copy, complete; and what became of them if no answer came.

The base of `store.Store`. Before a write is sent its ETag is computed where it can be; a 412, 404
or NoSuchUpload after an unanswered attempt is then looked into: if the key holds what was sent, the
write was done and its answer lost. So a lost answer is never a conflict, and a conflict never
success.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import trio

from storefs.errors import (
    ChecksumMismatch,
    DeadlineExceeded,
    NoSuchUpload,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreUnavailable,
)
from storefs.store.requests import Requests
from storefs.store.version import Version, expected_etag, expected_multipart_etag, is_md5

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.drivers.base import Body
    from storefs.drivers.models import Object, ObjectAttributes, Part
    from storefs.store.transfer import Progress

COPY_TIMEOUT_FACTOR = 10
"""Copies inside the store answer when they are done: minutes for gigabytes."""

COMPARED_BYTES = 64 * 1024 * 1024
"""Up to this size bytes are fetched and compared where an ETag tells nothing."""


class Commits(Requests):
    """Conditional writes whose lost answers are resolved."""

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        attributes: ObjectAttributes | None = None,
    ) -> Version:
        """Store an object in one request.

        Raises ObjectChanged or ObjectExists if somebody else's version is there; nothing is
        written then.
        """
        await self._wait_for_late(key)
        name, etag = self.prefix + key, expected_etag(body)

        def send(progress: Progress) -> Version:
            sent: Body = body
            result = self.driver.upload_object_via_stream(
                self.connection,
                sent,
                self.container,
                name,
                progress_callback=progress,
                if_match=if_match,
                if_none_match=if_none_match,
                attributes=attributes,
            )
            return Version(
                str(result.extra["etag"]), len(body), int(result.extra.get("mtime_ns") or 0)
            )

        try:
            version = await self._write("put", key, send, etag)
        except (ObjectChanged, ObjectExists):
            found = await self._landed(key, etag, len(body), body)
            if found is not None:
                return found
            earlier = await self._left_by_us(key)
            if earlier is None or earlier == if_match:
                raise
            return await self.put(key, body, if_match=earlier, attributes=attributes)
        self.outcomes.settled(key)
        return version

    async def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: list[Part],
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Version:
        """Make the parts the object; errors as `put`, and NoSuchUpload if it is gone."""
        await self._wait_for_late(key)
        size = sum(part.size for part in parts)
        etag = expected_multipart_etag(parts)

        def send() -> Version:
            result = self.driver.complete_multipart_upload(
                self.connection,
                self.container,
                self.prefix + key,
                upload_id,
                parts,
                if_match=if_match,
                if_none_match=if_none_match,
            )
            return Version(str(result.extra["etag"]), size, int(result.extra.get("mtime_ns") or 0))

        try:
            version = await self._ask("complete_multipart", key, send, etag)
        except (ObjectChanged, ObjectExists, NoSuchUpload):
            found = await self._landed(key, etag, size, None)
            if found is not None:
                return found
            earlier = await self._left_by_us(key)
            if earlier is None or earlier == if_match:
                raise
            return await self.complete_multipart(key, upload_id, parts, if_match=earlier)
        self.outcomes.settled(key)
        return version

    async def copy(
        self,
        src: str,
        dst: str,
        *,
        src_if_match: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        attributes: ObjectAttributes | None = None,
    ) -> Version:
        """Copy inside the store. Destination conditions are left to the caller's capabilities."""
        await self._wait_for_late(dst)

        def send() -> Version:
            result = self.driver.copy_object(
                self.connection,
                self.container,
                self.prefix + src,
                self.prefix + dst,
                src_if_match=src_if_match,
                if_match=if_match,
                if_none_match=if_none_match,
                attributes=attributes,
            )
            return Version(
                str(result.extra["etag"]),
                int(result.extra.get("size") or 0),
                int(result.extra.get("mtime_ns") or 0),
            )

        expected = src_if_match if src_if_match and is_md5(src_if_match) else None
        try:
            version = await self._ask("copy", dst, send, expected)
        except (ObjectChanged, ObjectExists):
            found = await self._landed(dst, expected, None, None)
            if found is not None:
                return found
            raise
        self.outcomes.settled(dst)
        return version

    async def _write(
        self, verb: str, key: str, send: Callable[[Progress], Version], etag: str
    ) -> Version:
        def tracked(progress: Progress) -> Version:
            return self.outcomes.tracked(key, lambda: send(progress))()

        return await self.transfer(
            verb,
            key,
            tracked,
            upload=True,
            failed=lambda error: self._may_have_landed(key, etag, error),
        )

    async def _ask(
        self, verb: str, key: str, send: Callable[[], Version], etag: str | None
    ) -> Version:
        return await self.call(
            verb,
            key,
            self.outcomes.tracked(key, send),
            timeout_seconds=self.timeout_seconds * COPY_TIMEOUT_FACTOR if verb == "copy" else None,
            failed=lambda error: self._may_have_landed(key, etag, error),
        )

    def _may_have_landed(self, key: str, etag: str | None, error: StoreError) -> None:
        """Note what a failed attempt may have left: what was sent, or what damaged bytes became."""
        if isinstance(error, StoreUnavailable):
            self.outcomes.unanswered(key, etag)
        elif isinstance(error, ChecksumMismatch) and error.stored_etag:
            self.outcomes.unanswered(key, error.stored_etag)

    async def _landed(
        self, key: str, etag: str | None, size: int | None, body: bytes | None
    ) -> Version | None:
        """The version that an unanswered write of ours left under the key, or None."""
        if not self.outcomes.is_in_doubt(key):
            return None
        found = await self._there(key)
        if found is None:
            return None
        same = etag is not None and found.etag == etag
        if not same and body is not None and found.size == len(body) and not is_md5(found.etag):
            same = len(body) <= COMPARED_BYTES and await self._holds(key, found, body)
        if not same and etag is None:
            same = found.size == size
        if not same:
            return None
        self.outcomes.settled(key)
        return Version(found.etag, found.size, found.mtime_ns)

    async def _there(self, key: str) -> Object | None:
        """What the store has under the key now."""
        name = self.prefix + key
        try:
            return await self.call(
                "head",
                key,
                lambda: self.driver.get_object_meta(self.connection, name, self.container),
            )
        except ObjectNotFound:
            return None

    async def _left_by_us(self, key: str) -> str | None:
        """The ETag under the key, if an earlier unanswered write of ours left exactly that."""
        if not self.outcomes.is_in_doubt(key):
            return None
        found = await self._there(key)
        if found is None:
            return None
        return found.etag if self.outcomes.may_be_ours(key, found.etag) else None

    async def _holds(self, key: str, found: Object, body: bytes) -> bool:
        """Fetch and compare: for stores whose ETags are no MD5s (SSE-KMS)."""
        digest = hashlib.sha256()

        def fetch(progress: Progress) -> None:
            stream = self.driver.download_object_as_stream(
                self.connection, self.container, self.prefix + key, if_match=found.etag
            )
            for piece in stream:
                digest.update(piece)
                progress(progress.moved + len(piece))

        await self.transfer("get", key, fetch, upload=False)
        return digest.digest() == hashlib.sha256(body).digest()

    async def _wait_for_late(self, key: str) -> None:
        """Until no earlier write of this key can still reach the store."""
        with trio.move_on_after(self.timeout_seconds):
            while self.outcomes.is_out(key):  # noqa: ASYNC110 (ends in a thread, without trio)
                await trio.sleep(0.05)
            return
        raise DeadlineExceeded(
            "an earlier write of this key has not ended", key=key, operation="put"
        )
