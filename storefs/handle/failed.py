"""Files that could not be stored and are closed: named in status until something supersedes them.

Used by the handle table. Their bytes are in lost+found and the mount shows what the store has; only
the memory of them lives here. Knows no bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storefs.errors import ObjectChanged

if TYPE_CHECKING:
    from storefs.handle.state import PendingFile
    from storefs.handle.writer import LocalFile


@dataclass(frozen=True, slots=True)
class Entry:
    """`stem` is its name in lost+found; it stays there after a conflict, whoever writes next."""

    told: PendingFile
    stem: str | None
    conflicted: bool


class FailedFiles:
    """By key, the last failure of each."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def note(self, file: LocalFile) -> str | None:
        """Remember a file. The answer: what lost+found need not keep for it any more."""
        old = self.supersede(file.key) if file.content.base_limit == 0 else None
        conflicted = isinstance(file.error, ObjectChanged)
        self._entries[file.key] = Entry(file.pending(), file.stem, conflicted)
        return old

    def supersede(self, key: str) -> str | None:
        """The key is written anew. The answer: what lost+found need not keep any more."""
        entry = self._entries.pop(key, None)
        return entry.stem if entry is not None and not entry.conflicted else None

    def told(self) -> list[PendingFile]:
        """For status."""
        return [entry.told for entry in self._entries.values()]
