"""What we know of one file or directory, and until when.

An inode of a file is one version of an object plus our own commits to it; another version that
arrives from outside is another inode (the kernel's page cache belongs to an inode, so one cannot
serve two). Touched by the trio thread alone.
"""

from __future__ import annotations

import enum
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storefs.tree.listing import Directory
    from storefs.units import InodeNumber


class Kind(enum.Enum):
    """What an entry is; the values are the file type bits of a mode."""

    FILE = stat.S_IFREG
    DIRECTORY = stat.S_IFDIR
    SYMLINK = stat.S_IFLNK


class Standing(enum.Enum):
    """Whether the inode is what its name means."""

    CURRENT = "its parent's children hold it"
    SUPERSEDED = "another version has its name now"
    REMOVED = "unlinked; handles may still read it"


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a listing; for a directory size, time and ETag are empty."""

    name: str
    kind: Kind
    size: int = 0
    mtime_ns: int = 0
    etag: str = ""


_NO_CHILDREN: dict[str, Inode] = {}


class Inode:
    """A number that the kernel knows, and what stands behind it."""

    __slots__ = (
        "attributes",
        "children",
        "ctime_ns",
        "directory",
        "etag",
        "fresh_until",
        "kind",
        "last_key",
        "lookups",
        "mtime_ns",
        "name",
        "number",
        "parent",
        "size",
        "standing",
    )

    def __init__(self, number: InodeNumber, parent: Inode | None, name: str, kind: Kind) -> None:
        self.number = number
        self.kind = kind
        self.parent = parent
        self.name = name
        self.size = 0
        self.mtime_ns = 0
        self.ctime_ns = 0
        self.etag = ""  # INVARIANT: empty only for directories and files never stored
        self.fresh_until = 0.0  # trio time until which size, time and ETag need no question
        self.lookups = 0
        self.standing = Standing.CURRENT
        self.attributes: tuple[int, int, int] | None = None  # mode bits, uid, gid set here
        self.last_key: str | None = None  # the key when it ceased to be CURRENT
        # INVARIANT: all CURRENT. Files share one empty mapping, else each would hold a dict.
        self.children: dict[str, Inode] = {} if kind is Kind.DIRECTORY else _NO_CHILDREN
        self.directory: Directory | None = None

    @property
    def is_dir(self) -> bool:
        """True for a directory."""
        return self.kind is Kind.DIRECTORY

    @property
    def key(self) -> str:
        """The object's key; a directory's prefix, ending with `/` (empty for the root)."""
        if self.last_key is not None:
            return self.last_key
        if self.parent is None:
            return ""
        return self.parent.key + self.name + ("/" if self.is_dir else "")

    @property
    def path(self) -> str:
        """For messages: the position below the mount point."""
        return "/" + self.key.rstrip("/")

    def __repr__(self) -> str:
        return f"<Inode {self.number} {self.kind.name} {self.path!r} {self.standing.name}>"
