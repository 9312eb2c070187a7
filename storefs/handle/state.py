"""The states of a file that is open or not stored yet, and what others may see of it.

Used by the write path and, through `LocalState` and `PendingFile`, by operations and status. Knows
no bytes. The danger: a state that two tasks believe in across an await; therefore every change goes
through `advance`, which knows the allowed ones.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class FileState(enum.Enum):
    """Where a file stands between this machine and the store."""

    CLEAN = "equal to the store"
    DIRTY = "changed here, not sent yet"
    COMMITTING = "being sent; writes wait"
    WAITING = "could not be stored; will be tried again"
    FAILED = "could not be stored and will not be tried again until it changes; in lost+found"
    UNLINKED = "has no name any more; its bytes live as long as its handles"
    DROPPED = "removed or superseded; nothing of it reaches the store any more"


TRANSITIONS: dict[FileState, frozenset[FileState]] = {
    FileState.CLEAN: frozenset({FileState.DIRTY, FileState.UNLINKED, FileState.DROPPED}),
    FileState.DIRTY: frozenset({FileState.COMMITTING, FileState.UNLINKED, FileState.DROPPED}),
    FileState.COMMITTING: frozenset(
        {
            FileState.CLEAN,
            FileState.DIRTY,  # cancelled
            FileState.WAITING,
            FileState.FAILED,
        }
    ),
    FileState.WAITING: frozenset(
        {FileState.COMMITTING, FileState.DIRTY, FileState.UNLINKED, FileState.DROPPED}
    ),
    FileState.FAILED: frozenset(
        {FileState.COMMITTING, FileState.DIRTY, FileState.UNLINKED, FileState.DROPPED}
    ),
    FileState.UNLINKED: frozenset({FileState.CLEAN, FileState.DIRTY, FileState.DROPPED}),
    FileState.DROPPED: frozenset(),
}


def advance(old: FileState, new: FileState) -> FileState:
    """`new`, if it may follow `old`; anything else is a bug and an AssertionError."""
    if new not in TRANSITIONS[old]:
        raise AssertionError(f"{old.name} does not become {new.name}")
    return new


@dataclass(frozen=True, slots=True)
class LocalState:
    """What this mount must show of a file instead of the store's answer."""

    size: int
    mtime_ns: int
    is_dirty: bool
    exists_in_store: bool


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A file that is not stored yet, for `status`. `since` is seconds since the epoch."""

    key: str
    bytes_total: int
    bytes_sent: int
    state: str
    error: str | None
    since: float
