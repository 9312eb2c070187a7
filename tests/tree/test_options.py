"""Options of the tree change what the kernel is told."""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from storefs.config import TreeConfig
from storefs.tree.inode import Inode
from storefs.tree.knowledge import Missing
from storefs.tree.table import ROOT
from storefs.tree.tree import Tree
from tests.support.layers import NoFiles, memory_store, put

if TYPE_CHECKING:
    from trio.testing import MockClock


def tree_of(nursery: trio.Nursery, config: TreeConfig) -> Tree:
    return Tree(memory_store(), config, NoFiles(), nursery, give_back=lambda parent, name: None)


async def test_owner_and_modes_are_those_of_the_mount(nursery: trio.Nursery) -> None:
    config = TreeConfig(uid=1234, gid=1235, file_mode=0o640, dir_mode=0o750)
    tree = tree_of(nursery, config)
    put(tree.store, "dir/file", b"1")
    directory = await tree.lookup(ROOT, b"dir")
    assert isinstance(directory, Inode)
    file = await tree.lookup(directory.number, b"file")
    assert isinstance(file, Inode)
    for inode, mode in ((directory, 0o750), (file, 0o640), (tree.table.root, 0o750)):
        told = tree.stat(inode)
        assert (told.uid, told.gid, stat.S_IMODE(told.mode)) == (1234, 1235, mode)


async def test_the_metadata_ttl_is_what_the_kernel_may_believe(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for ttl in (0.0, 30.0):
        tree = tree_of(nursery, TreeConfig(metadata_ttl_seconds=ttl))
        put(tree.store, "a", b"1")
        inode = await tree.lookup(ROOT, b"a")
        assert isinstance(inode, Inode)
        assert tree.stat(inode).ttl_seconds == ttl
        before = tree.store.requests.total()
        await trio.sleep(ttl / 2)
        await tree.lookup(ROOT, b"a")
        asked_again = tree.store.requests.total() > before
        assert asked_again == (ttl == 0)
        assert tree.stat(inode).ttl_seconds == ttl / 2, "what is left, never more"


async def test_the_negative_ttl_is_its_own(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for ttl in (0.0, 7.0):
        tree = tree_of(nursery, replace(TreeConfig(), negative_ttl_seconds=ttl))
        missing = await tree.lookup(ROOT, b"missing")
        assert missing == Missing(ttl)


async def test_with_a_ttl_of_zero_every_lookup_sees_the_newest_version(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    tree = tree_of(nursery, TreeConfig(metadata_ttl_seconds=0, negative_ttl_seconds=0))
    for size in (1, 2, 3):
        put(tree.store, "a", b"x" * size)
        inode = await tree.lookup(ROOT, b"a")
        assert isinstance(inode, Inode)
        assert inode.size == size
