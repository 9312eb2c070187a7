"""What the tree needs from the open files above it; `mount` passes it in.

Declared here, as narrow as its use, because `tree` and `handle` do not know each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from storefs.store.version import Version
    from storefs.units import InodeNumber


class LocalBytes(Protocol):
    """A file as it stands here, not yet as it stands in the store."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def mtime_ns(self) -> int:
        """When it was last written here."""


class LocalFiles(Protocol):
    """Files with bytes that the store does not have yet, and open ones."""

    def local(self, number: InodeNumber) -> LocalBytes | None:
        """What stands here in place of the store's answer, or None."""

    def has_handles(self, number: InodeNumber) -> bool:
        """True while a handle is open."""

    def held(self, number: InodeNumber) -> AbstractAsyncContextManager[None]:
        """Inside, everything is stored and nothing changes; entering raises what the store says."""

    def moved(self, number: InodeNumber, key: str, version: Version) -> None:
        """The object has another key (and, made by copying, perhaps another ETag)."""

    def removing(self, number: InodeNumber) -> AbstractAsyncContextManager[None]:
        """The object is removed or replaced inside; whoever has the file open reads on.

        Nothing of the file reaches the store afterwards. If the body raises, it is as it was.
        """
