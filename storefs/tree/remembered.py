"""What this mount knows of a version beyond what a listing says, for longer than its inode lives.

Our own time of a version that we wrote (the store's LastModified would move the time of a file
that was just copied, and upset `make`, `git` and `tar`), modes and owners set here, and whether an
object is a symbolic link. Bound to key and ETag: another version is another file. In memory alone,
and bounded; used by the tree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

if TYPE_CHECKING:
    from storefs.tree.inode import Inode, Kind

MOST_VERSIONS = 100_000


@dataclass(frozen=True, slots=True)
class Known:
    """`mtime_ns` 0: what the store says. `attributes`: mode bits, uid, gid, or None."""

    etag: str
    kind: Kind | None = None
    mtime_ns: int = 0
    attributes: tuple[int, int, int] | None = None


class Remembered:
    """Versions by key, the longest unused out first."""

    def __init__(self, most: int = MOST_VERSIONS) -> None:
        self._known: LRUCache[str, Known] = LRUCache(most)

    def get(self, key: str, etag: str) -> Known | None:
        """What is known of exactly this version."""
        known = self._known.get(key)
        return known if known is not None and known.etag == etag else None

    def note(self, key: str, etag: str, **what: Any) -> None:
        """Add to what is known of a version; of other versions nothing is kept."""
        known = self.get(key, etag) or Known(etag)
        self._known[key] = replace(known, **what)

    def note_inode(self, inode: Inode) -> None:
        """Keep what was set on an inode."""
        self.note(
            inode.key,
            inode.etag,
            kind=inode.kind,
            mtime_ns=inode.mtime_ns,
            attributes=inode.attributes,
        )

    def forget(self, key: str) -> None:
        """The key is gone."""
        self._known.pop(key, None)
