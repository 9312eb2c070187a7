"""Make the local bytes of a file the object: one attempt, under the condition that nobody else did.

Used by `attempts`, which holds the file's lock. Decides nothing about trying again. The danger is
the lost update: every write of an object is either conditional in the store or, where the store
cannot, preceded by a comparison that is at most a second old.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from storefs.drivers.models import Condition
from storefs.errors import (
    ChecksumMismatch,
    NoSuchUpload,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StagingFull,
    StoreError,
    StoreUnavailable,
)
from storefs.handle.parts import Limits, plan
from storefs.handle.uploader import Upload
from storefs.store.version import Version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from storefs.drivers.models import Capabilities, Object, ObjectAttributes
    from storefs.handle.background import Background
    from storefs.handle.budget import Budget
    from storefs.handle.parts import Plan
    from storefs.handle.ports import ObjectStore
    from storefs.handle.writer import LocalFile

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""So long a comparison, or a commit of our own, stands for the version that is there."""

ATTRIBUTES_SECONDS = 5.0
"""So long attributes are believed: others may change them without a new ETag (a metadata copy keeps
it). The same as the default metadata TTL."""


def is_transient(error: Exception) -> bool:
    """True if the same attempt may succeed later; anything else waits for somebody to act."""
    return isinstance(error, StoreUnavailable | ChecksumMismatch | NoSuchUpload | StagingFull)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store accepted, and under which key: the file may have been renamed meanwhile."""

    key: str
    version: Version


@dataclass(frozen=True, slots=True)
class Guard:
    """How one write is kept from overwriting what it does not know."""

    if_match: str | None
    if_none_match: str | None
    check_first: bool


def guard(condition: Condition, known: bool, base_etag: str | None) -> Guard:
    """What to send, and whether to compare just before: pure.

    `base_etag` None: the object must not exist. While conditions are not `known` to be honoured
    they are sent all the same, and not relied on.
    """
    if base_etag is not None:
        sends = condition is Condition.ETAG
        return Guard(base_etag if sends else None, None, not (sends and known))
    sends = condition is not Condition.NONE
    return Guard(None, "*" if sends else None, not (sends and known))


class Committer:
    """One for all files of a mount."""

    def __init__(
        self,
        store: ObjectStore,
        budget: Budget,
        nursery: trio.Nursery,
        background: Background,
        part_bytes: int,
        new_attributes: Callable[[str], ObjectAttributes],
    ) -> None:
        self.store = store
        self.budget = budget
        self._nursery = nursery
        self.background = background
        self._part_bytes = part_bytes
        self._new_attributes = new_attributes
        self._limits: tuple[Capabilities, Limits] | None = None

    def limits(self) -> Limits:
        """What a part may be, by what the store can do now."""
        capabilities = self.store.capabilities
        if self._limits is None or self._limits[0] is not capabilities:
            self._limits = capabilities, Limits.of(capabilities, self._part_bytes)
        return self._limits[1]

    def new_upload(self, file: LocalFile) -> Upload:
        """A multipart upload for this file, begun when its first part is sent."""
        return self._upload(file, file.key, lambda: self.attributes(file))

    def new_scratch(self, file: LocalFile, key: str) -> Upload:
        """One that copies the file to a key of our own, bare of attributes."""

        async def bare() -> ObjectAttributes | None:
            return None

        return self._upload(file, key, bare)

    def _upload(
        self,
        file: LocalFile,
        key: str,
        attributes: Callable[[], Awaitable[ObjectAttributes | None]],
    ) -> Upload:
        return Upload(self.store, file, key, self.limits(), self.budget, self._nursery, attributes)

    async def commit(self, file: LocalFile) -> Stored:
        """What the store accepted; the caller holds `file.lock` and tells the file.

        Raises ObjectChanged where somebody else's version is there, and what the store says.
        Parts that were sent stay for the next attempt, unless the upload cannot be used again.
        """
        try:
            await self._resolve_doubt(file)
            sent = await file.upload.settle() if file.upload else []
            made = plan(file.content, self.limits(), sent)
            if made.is_single:
                stored = await self._put(file)
            else:
                stored = await self._assemble(file, made)
        except ObjectExists as exc:
            raise ObjectChanged(
                "somebody else created it meanwhile", key=file.key, operation="commit"
            ) from exc
        finally:
            if file.upload is not None:
                file.upload.resume()
        file.known.checked_at = trio.current_time()
        return stored

    # -- the two ways --------------------------------------------------------------------------

    async def _put(self, file: LocalFile) -> Stored:
        self.drop_upload(file)
        attributes = await self.attributes(file)
        async with self.budget.share(file.content.size):
            body = await file.whole_body()
            g = await self._guarded(file, self.store.capabilities.conditional_put)
            key = file.key
            version = await self.store.put(
                key,
                body,
                if_match=g.if_match,
                if_none_match=g.if_none_match,
                attributes=attributes,
            )
        return Stored(key, version)

    async def _assemble(self, file: LocalFile, made: Plan) -> Stored:
        if not made.keeps_sent:
            self.drop_upload(file)
        file.upload = upload = file.upload or self.new_upload(file)
        try:
            parts = await upload.execute(made, file.base.etag if file.base else None)
            g = await self._guarded(file, self.store.capabilities.conditional_complete)
            version = await self.store.complete_multipart(
                upload.key,
                await upload.begin(),
                parts,
                if_match=g.if_match,
                if_none_match=g.if_none_match,
            )
        except StoreError as exc:
            if not is_transient(exc) or isinstance(exc, NoSuchUpload):
                self.drop_upload(file)
            raise
        upload.over()
        return Stored(upload.key, version)

    def drop_upload(self, file: LocalFile) -> None:
        """Abort what was begun; in the background, because nobody waits for it."""
        upload, file.upload = file.upload, None
        if upload is not None:
            self.background.spawn(upload.abort)

    # -- conditions ----------------------------------------------------------------------------

    async def _guarded(self, file: LocalFile, condition: Condition) -> Guard:
        """The guard of the write that follows at once, its comparison made."""
        known = self.store.capabilities.conditions_known
        g = guard(condition, known, file.base.etag if file.base else None)
        if g.check_first and trio.current_time() - file.known.checked_at > CHECK_SECONDS:
            await self._compare(file)
        return g

    async def _compare(self, file: LocalFile) -> None:
        found = await self._head(file.key)
        etag = found.etag if found else None
        if etag != (file.base.etag if file.base else None):
            raise ObjectChanged("another version is there", key=file.key, operation="commit")
        file.known.checked_at = trio.current_time()

    async def _head(self, key: str) -> Object | None:
        try:
            return await self.store.head(key)
        except ObjectNotFound:
            return None

    async def _resolve_doubt(self, file: LocalFile) -> None:
        """An attempt whose answer was lost may have been done: then that is the base now.

        Its bytes below `base_limit` are those of the old base, so the content stands as it is.
        """
        if not self.store.outcomes.is_in_doubt(file.key):
            return
        found = await self._head(file.key)
        if found is None or (file.base is not None and found.etag == file.base.etag):
            return
        if self.store.outcomes.may_be_ours(file.key, found.etag):
            log.debug("an unanswered commit of %s was done", file.key)
            file.rebase(Version(found.etag, found.size, found.mtime_ns))

    async def take_newest(self, file: LocalFile) -> None:
        """Who writes a file anew after a conflict has seen, or will replace, what is there now."""
        found = await self._head(file.key)
        base = Version(found.etag, found.size, found.mtime_ns) if found else None
        file.start_over(base)

    # -- attributes ----------------------------------------------------------------------------

    async def attributes(self, file: LocalFile) -> ObjectAttributes | None:
        """What the new version must carry: the base's, or those of a new file."""
        now, known = trio.current_time(), file.known
        if known.attributes is not None and now - known.attributes_at < ATTRIBUTES_SECONDS:
            return known.attributes
        if file.base is None:
            attributes: ObjectAttributes | None = self._new_attributes(file.key)
        else:
            attributes = await self._stored_attributes(file, file.base.etag)
            known.checked_at = trio.current_time()
        known.attributes, known.attributes_at = attributes, trio.current_time()
        return attributes

    async def _stored_attributes(self, file: LocalFile, etag: str) -> ObjectAttributes | None:
        try:
            found = await self.store.head(file.key, if_match=etag)
        except ObjectNotFound as exc:
            raise ObjectChanged(
                "somebody else removed it", key=file.key, operation="commit"
            ) from exc
        attributes = found.attributes
        if attributes is not None and attributes.tag_count and attributes.tags is None:
            attributes = replace(attributes, tags=await self.store.tags(file.key))
        return attributes
