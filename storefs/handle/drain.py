"""The end of a mount: everything dirty is committed, and what cannot be is named.

Used by the handle table. Bounded by its caller's deadline, whatever the store does.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from storefs.errors import StorefsError
from storefs.handle.attempts import FIRST_RETRY_SECONDS, MOST_RETRY_SECONDS, Attempts
from storefs.handle.commit import is_transient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storefs.handle.background import Background
    from storefs.handle.state import PendingFile
    from storefs.handle.writer import LocalFile

log = logging.getLogger(__name__)

AT_ONCE = 32


async def drain(
    files: Sequence[LocalFile], attempts: Attempts, background: Background, seconds: float
) -> list[PendingFile]:
    """Files that are not stored when this returns; their bytes are in lost+found."""
    places = trio.CapacityLimiter(AT_ONCE)
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for file in files:
                if file.is_dirty:
                    nursery.start_soon(_store, file, attempts, places)
        await background.wait_quiet()
    left = [file for file in files if file.is_dirty]
    attempts.stop()
    with trio.CancelScope(shield=True):
        for file in left:
            reason = str(file.error) if file.error else "storefs was stopped before it was stored"
            place = await attempts.keep(file, reason)
            log.info("%s is not stored: its bytes are in %s", file.key, place)
            if file.stem is not None and file.staging is not None:
                file.staging.remove()
    return [file.pending() for file in left]


async def _store(file: LocalFile, attempts: Attempts, places: trio.CapacityLimiter) -> None:
    delay = FIRST_RETRY_SECONDS
    while file.is_dirty:
        try:
            async with places:
                await attempts.commit(file)
        except StorefsError as exc:
            if not is_transient(exc):
                return
        if file.is_dirty:
            await trio.sleep(delay)
            delay = min(delay * 2, MOST_RETRY_SECONDS)
