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
    from collections.abc import Mapping

    from storefs.handle.background import Background
    from storefs.handle.state import PendingFile
    from storefs.handle.writer import LocalFile
    from storefs.units import InodeNumber

log = logging.getLogger(__name__)

AT_ONCE = 32


async def drain(
    files: Mapping[InodeNumber, LocalFile],
    attempts: Attempts,
    background: Background,
    seconds: float,
) -> list[PendingFile]:
    """Files that are not stored when this returns; their bytes are in lost+found.

    `files` is looked at again after each round: who is still inside may write on.
    """
    places = trio.CapacityLimiter(AT_ONCE)
    tried: set[tuple[InodeNumber, int]] = set()
    with trio.move_on_after(seconds):
        while True:
            dirty = [file for file in files.values() if file.is_dirty]
            new = [file for file in dirty if (file.number, file.changes) not in tried]
            async with trio.open_nursery() as nursery:
                for file in new:
                    tried.add((file.number, file.changes))
                    nursery.start_soon(_store, file, attempts, places)
            await background.wait_quiet()
            if not new:
                break
    left = [file for file in files.values() if file.is_dirty]
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
