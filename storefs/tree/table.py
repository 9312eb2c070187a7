"""Inode number to inode, and how often the kernel was told of each.

Used by the tree. Bounded: above `most` the oldest inodes that nobody needs are named by `excess`,
and the mount asks the kernel to give them back. Numbers are never used twice, so a number that the
kernel kept too long is an error and never another file.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from storefs.errors import Superseded
from storefs.tree.inode import Inode, Kind, Standing
from storefs.units import InodeNumber

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = InodeNumber(1)


class Table:
    """All inodes by number, oldest first."""

    def __init__(self, most: int, is_needed: Callable[[Inode], bool]) -> None:
        self.most = most
        self._is_needed = is_needed
        self._inodes: dict[InodeNumber, Inode] = {}
        self._next = ROOT + 1
        self.root = Inode(ROOT, None, "", Kind.DIRECTORY)
        self.root.lookups = 1
        self._inodes[ROOT] = self.root

    def __len__(self) -> int:
        return len(self._inodes)

    def __iter__(self) -> Iterator[Inode]:
        return iter(self._inodes.values())

    def get(self, number: InodeNumber) -> Inode:
        """The inode, or Superseded: the kernel then looks the name up again."""
        try:
            return self._inodes[number]
        except KeyError:
            raise Superseded(f"inode {number}") from None

    def find(self, number: InodeNumber) -> Inode | None:
        """The inode, or None if it is forgotten."""
        return self._inodes.get(number)

    def add(self, parent: Inode, name: str, kind: Kind) -> Inode:
        """A new inode under a name; one that had the name before is superseded."""
        old = parent.children.get(name)
        if old is not None:
            self.detach(old, Standing.SUPERSEDED)
        inode = Inode(InodeNumber(self._next), parent, name, kind)
        self._next += 1
        self._inodes[inode.number] = inode
        parent.children[name] = inode
        return inode

    def detach(self, inode: Inode, standing: Standing) -> None:
        """Take an inode from its name; it stays as long as the kernel or a handle knows it."""
        if inode.standing is not Standing.CURRENT:
            inode.standing = standing
            return
        inode.last_key = inode.key
        for child in list(inode.children.values()):
            self.detach(child, standing)
        if inode.parent is not None and inode.parent.children.get(inode.name) is inode:
            del inode.parent.children[inode.name]
        inode.standing = standing
        self._drop_if_unknown(inode)

    def move(self, inode: Inode, parent: Inode, name: str) -> None:
        """Give an inode another name; whatever had it is removed."""
        old = parent.children.get(name)
        if old is not None and old is not inode:
            self.detach(old, Standing.REMOVED)
        if inode.parent is not None and inode.parent.children.get(inode.name) is inode:
            del inode.parent.children[inode.name]
        inode.parent, inode.name = parent, name
        inode.standing, inode.last_key = Standing.CURRENT, None
        self._inodes[inode.number] = inode
        parent.children[name] = inode

    def forget(self, number: InodeNumber, count: int) -> None:
        """The kernel takes back `count` lookups. Never raises."""
        inode = self._inodes.get(number)
        if inode is None or inode is self.root:
            return
        inode.lookups = max(0, inode.lookups - count)
        self._drop_if_unknown(inode)

    def release(self, inode: Inode) -> None:
        """Something that needed the inode no longer does."""
        self._drop_if_unknown(inode)

    def _drop_if_unknown(self, inode: Inode) -> None:
        while inode is not self.root:
            if inode.lookups > 0 or inode.children or self._is_needed(inode):
                return
            self._inodes.pop(inode.number, None)
            parent = inode.parent
            if inode.standing is Standing.CURRENT and parent is not None:
                parent.children.pop(inode.name, None)
                inode = parent
                continue
            return

    def excess(self, at_most: int) -> list[Inode]:
        """Up to `at_most` of the oldest that could go, if the table is above its bound."""
        over = min(len(self._inodes) - self.most, at_most)
        found: list[Inode] = []
        if over <= 0:
            return found
        for inode in list(islice(self._inodes.values(), 8 * at_most)):
            if inode is self.root or inode.children or self._is_needed(inode):
                # To the young end, so that the next call does not look at it again.
                self._inodes[inode.number] = self._inodes.pop(inode.number)
                continue
            found.append(inode)
            if len(found) >= over:
                break
        for inode in found:
            self._inodes[inode.number] = self._inodes.pop(inode.number)
        return found

    def check_invariants(self) -> None:
        """Every child is current, is in the table and knows its parent and name."""
        for number, inode in self._inodes.items():
            assert inode.number == number
            for name, child in inode.children.items():
                assert child.standing is Standing.CURRENT, child
                assert child.parent is inode, child
                assert child.name == name, child
                assert self._inodes.get(child.number) is child, child
