"""The async object store: the driver's verbs on one bucket and prefix.

Everything above works with keys relative to the mounted prefix; the prefix is added here and only
here, so nothing outside it can be listed or touched. Used by the cache, the tree and the handles;
knows neither files nor the kernel.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from storefs.drivers.models import Condition
from storefs.errors import (
    AccessDenied,
    ObjectChanged,
    ObjectNotFound,
    StoreError,
    StoreUnavailable,
)
from storefs.store.commits import COPY_TIMEOUT_FACTOR, Commits

if TYPE_CHECKING:
    from storefs.drivers.models import Object, ObjectAttributes, Part
    from storefs.store.transfer import Progress


MOST_IN_BATCH = 1000
DELETES_AT_ONCE = 32


class Store(Commits):
    """See the module. `requests` counts what was sent, by verb: the most honest number we have."""

    # -- asking --------------------------------------------------------------------------------

    async def head(self, key: str, *, if_match: str | None = None) -> Object:
        """What the store says of one object. A denied HEAD is checked with one LIST.

        Without the right to list, S3 answers 403 for a key that does not exist; with it, 404.
        """
        name = self.prefix + key
        try:
            found = await self.call(
                "head",
                key,
                lambda: self.driver.get_object_meta(
                    self.connection, name, self.container, if_match=if_match
                ),
            )
        except AccessDenied as denied:
            try:
                page, _ = await self.list_page(key, delimiter=None, max_keys=1)
            except StoreError:
                raise denied from None
            if page and page[0].name == key:
                raise
            raise ObjectNotFound("no such object", key=key, operation="head") from denied
        found.name = key
        return found

    async def list_page(
        self,
        prefix: str,
        *,
        delimiter: str | None = "/",
        marker: str | None = None,
        start_after: str | None = None,
        max_keys: int = 1000,
    ) -> tuple[list[Object], str | None]:
        """One page of a listing and the marker of the next; names are relative to the mount."""
        after = None if start_after is None else self.prefix + start_after
        page, following = await self.call(
            "list",
            prefix,
            lambda: self.driver.list_container_objects(
                self.connection,
                self.container,
                self.prefix + prefix,
                delimiter=delimiter,
                start_after=after,
                marker=marker,
                max_keys=max_keys,
            ),
        )
        if self.prefix:
            cut = len(self.prefix)
            for found in page:
                found.name = found.name[cut:]
        return page, following

    async def tags(self, key: str) -> dict[str, str]:
        """The object's tags."""
        return await self.call(
            "tags",
            key,
            lambda: self.driver.get_object_tags(self.connection, self.container, self.prefix + key),
        )

    async def get_range(
        self, key: str, offset: int, length: int, *, if_match: str | None = None
    ) -> bytes:
        """Exactly `length` bytes from `offset`; a stalled or cut stream goes on where it broke.

        Raises ObjectChanged if the version is gone.
        """
        if length == 0:
            return b""
        received = bytearray()

        def fetch(progress: Progress) -> None:
            stream = self.driver.download_object_as_stream(
                self.connection,
                self.container,
                self.prefix + key,
                offset=offset + len(received),
                chunk_size=self._piece_bytes,
                length=length - len(received),
                if_match=if_match,
            )
            try:
                for piece in stream:
                    received.extend(piece)
                    progress(len(received))
            finally:
                stream.close()
            if len(received) < length:
                raise StoreUnavailable("the answer ended early", key=key, operation="get")

        await self.transfer("get", key, fetch, moved=lambda: len(received), upload=False)
        return bytes(received)

    # -- changing ------------------------------------------------------------------------------

    async def delete(self, key: str, *, if_match: str | None = None) -> None:
        """Remove one object, only in the version given; that it is gone already is no error.

        Where the store has no conditional delete the version is compared just before.
        """
        condition = if_match
        known = self.capabilities.conditions_known
        if if_match is not None and (
            not known or self.capabilities.conditional_delete is not Condition.ETAG
        ):
            try:
                found = await self.head(key)
            except ObjectNotFound:
                return
            if found.etag != if_match:
                raise ObjectChanged("another version is there", key=key, operation="delete")
            condition = None if known else if_match
        try:
            await self.call(
                "delete",
                key,
                lambda: self.driver.delete_object(
                    self.connection, self.prefix + key, self.container, if_match=condition
                ),
            )
        except ObjectNotFound:
            return
        except ObjectChanged:
            # A delete that was done and not answered is tried again and finds nothing.
            try:
                await self.head(key)
            except ObjectNotFound:
                return
            raise

    async def delete_many(self, versions: dict[str, str]) -> dict[str, str]:
        """Remove keys in the versions (ETags) given; the answer is what failed: key to reason."""
        can = self.capabilities
        if not (can.conditions_known and can.conditional_batch is Condition.ETAG):
            return await self._delete_each(versions)
        failed: dict[str, str] = {}
        cut = len(self.prefix)
        keys = list(versions)
        for start in range(0, len(keys), MOST_IN_BATCH):
            batch = [self.prefix + key for key in keys[start : start + MOST_IN_BATCH]]
            conditions = {name: versions[name[cut:]] for name in batch if versions[name[cut:]]}
            result = await self.call(
                "delete_many",
                keys[start],
                partial(
                    self.driver.batch_delete_objects,
                    self.connection,
                    batch,
                    self.container,
                    if_match=conditions,
                ),
            )
            errors: dict[str, object] = result.extra.get("errors") or {}
            failed.update({name[cut:]: str(reason) for name, reason in errors.items()})
        return failed

    async def _delete_each(self, versions: dict[str, str]) -> dict[str, str]:
        """One by one, each compared or conditional: the store's batch knows no versions."""
        failed: dict[str, str] = {}
        places = trio.CapacityLimiter(DELETES_AT_ONCE)

        async def delete(key: str, etag: str) -> None:
            async with places:
                try:
                    await self.delete(key, if_match=etag or None)
                except StoreError as exc:
                    failed[key] = str(exc)

        async with trio.open_nursery() as nursery:
            for key, etag in versions.items():
                nursery.start_soon(delete, key, etag)
        return failed

    async def create_multipart(
        self, key: str, *, attributes: ObjectAttributes | None = None
    ) -> str:
        """Begin a multipart upload; the answer is its id."""
        return await self.call(
            "create_multipart",
            key,
            lambda: self.driver.create_multipart_upload(
                self.connection, self.container, self.prefix + key, attributes=attributes
            ),
        )

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: bytes | bytearray | memoryview
    ) -> Part:
        """Send one part; sending it again under its number replaces it."""
        return await self.transfer(
            "upload_part",
            key,
            lambda progress: self.driver.upload_part(
                self.connection,
                self.container,
                self.prefix + key,
                upload_id,
                number,
                body,
                progress_callback=progress,
            ),
            upload=True,
        )

    async def copy_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        src: str,
        *,
        offset: int,
        length: int,
        src_if_match: str | None,
    ) -> Part:
        """A part copied inside the store."""
        return await self.call(
            "copy_part",
            key,
            lambda: self.driver.copy_part(
                self.connection,
                self.container,
                self.prefix + key,
                upload_id,
                number,
                self.container,
                self.prefix + src,
                offset=offset,
                length=length,
                src_if_match=src_if_match,
            ),
            timeout_seconds=self.timeout_seconds * COPY_TIMEOUT_FACTOR,
        )

    async def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """What the store has of an upload."""
        return await self.call(
            "list_parts",
            key,
            lambda: self.driver.list_parts(
                self.connection, self.container, self.prefix + key, upload_id
            ),
        )

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts."""
        await self.call(
            "abort_multipart",
            key,
            lambda: self.driver.abort_multipart_upload(
                self.connection, self.container, self.prefix + key, upload_id
            ),
        )
