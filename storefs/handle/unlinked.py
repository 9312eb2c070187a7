"""Files that lose their name while they are open: their bytes stay readable.

Used by the handle table before the store's delete. Small ones are fetched into the staging file;
large ones are copied inside the store to a key of our own, which the last release removes. The
danger: a delete that then fails leaves the file where it was, so all of this can be taken back.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

from storefs.cache.chunks import ObjectVersion
from storefs.errors import ObjectChanged, ObjectNotFound, StorefsError
from storefs.handle.parts import Action, Plan, PlannedPart
from storefs.handle.state import FileState, advance
from storefs.units import MIB, ByteRange

if TYPE_CHECKING:
    from storefs.handle.commit import Committer
    from storefs.handle.writer import LocalFile

log = logging.getLogger(__name__)

FETCHED_BYTES = 64 * MIB
"""Up to so many unchanged bytes are fetched; above, a copy inside the store is cheaper."""

SCRATCH_PREFIX = ".storefs/unlinked/"


async def keep(file: LocalFile, committer: Committer) -> None:
    """Make the bytes independent of the file's key. On an error the file is as it was."""
    async with file.lock:
        if file.state in (FileState.UNLINKED, FileState.DROPPED):
            return
        span = ByteRange(0, file.content.size)
        needed = sum(len(run) for run in file.content.base_runs(span))
        try:
            if needed <= FETCHED_BYTES:
                await file.hydrate(span)
            elif file.source is not None:
                scratch = SCRATCH_PREFIX + uuid.uuid4().hex
                file.stage().unlinked(False, scratch)  # a crash from here on removes the copy
                file.serve_from(await _copy(file, file.source, scratch, committer))
        except (ObjectChanged, ObjectNotFound) as exc:
            # Somebody else replaced it: its handles cannot read on, with or without a name.
            log.debug("%s is gone already: %s", file.key, exc)
        committer.drop_upload(file)
        if file.staging is not None:
            file.staging.unlinked(True, file.staging.record.scratch)
        file.state = advance(file.state, FileState.UNLINKED)


async def keep_new(file: LocalFile, committer: Committer) -> None:
    """The same for a file that is not in the store, unless an attempt under way puts it there."""
    async with file.lock:
        if file.base is None and file.is_dirty:
            committer.drop_upload(file)
            file.stage().unlinked(True, None)
            file.state = advance(file.state, FileState.UNLINKED)


async def restore(file: LocalFile, committer: Committer) -> None:
    """The name was not removed after all: changes are the store's business again."""
    async with file.lock:
        if file.state is not FileState.UNLINKED:
            return
        was_dirty = file.changes != file.stored_changes
        file.state = advance(file.state, FileState.DIRTY if was_dirty else FileState.CLEAN)
        scratch = file.staging.record.scratch if file.staging else None
        if file.base is not None:
            file.serve_from(ObjectVersion(file.key, file.base.etag, file.base.size))
        if file.staging is not None:
            file.staging.unlinked(False, None)
            if not was_dirty:
                file.forget_staged()
    if scratch is not None:
        await remove_scratch(scratch, committer)


async def remove_scratch(key: str, committer: Committer) -> None:
    """The last handle is gone: the copy that served it goes too."""
    try:
        await committer.store.delete(key)
    except StorefsError as exc:
        log.warning("the copy %s of an unlinked file stays in the store: %s", key, exc)


async def _copy(
    file: LocalFile, source: ObjectVersion, key: str, committer: Committer
) -> ObjectVersion:
    store = committer.store
    if source.size <= min(store.capabilities.max_copy_bytes, committer.limits().copy_bytes):
        version = await store.copy(source.key, key, src_if_match=source.etag)
        return ObjectVersion(key, version.etag, source.size)
    upload = committer.new_scratch(file, key)
    try:
        parts = await upload.execute(
            copy_plan(source.size, committer.limits().copy_bytes), source.etag
        )
        version = await store.complete_multipart(key, await upload.begin(), parts)
    except BaseException:
        committer.background.spawn(upload.abort)
        raise
    upload.over()
    return ObjectVersion(key, version.etag, source.size)


def copy_plan(size: int, copy_bytes: int) -> Plan:
    """A whole object in copied parts; pure."""
    starts = range(0, size, copy_bytes)
    return Plan(
        tuple(
            PlannedPart(number, ByteRange(start, min(start + copy_bytes, size)), Action.COPY)
            for number, start in enumerate(starts, 1)
        )
    )
