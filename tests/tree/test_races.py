"""What happens at once: renames beside lookups, listings beside changes, two machines."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from storefs import errors
from storefs.drivers.models import Condition
from storefs.tree.inode import Inode, Standing
from storefs.tree.table import ROOT
from tests.support.layers import NoFiles, connection_of, delete, keys, put
from tests.tree.test_tree import find, names_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.testing import MockClock

    from storefs.store import Store
    from storefs.tree.tree import Tree


def unconditional(store: Store) -> None:
    """As a server that honours no condition, and is known for it."""
    none = {
        f"conditional_{verb}": Condition.NONE
        for verb in ("put", "complete", "copy", "delete", "batch")
    }
    connection = connection_of(store)
    connection.capabilities = replace(connection.capabilities, **none)  # type: ignore[arg-type]
    store.capabilities = connection.capabilities


async def beside(work: Callable[[], Awaitable[None]], look: Callable[[], Awaitable[None]]) -> None:
    """Do `look` again and again for as long as `work` takes."""
    done = False

    async def looking() -> None:
        while not done:
            await look()
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(looking)
        await work()
        done = True


@pytest.mark.parametrize("path", ["d", "d/f"])
async def test_a_stat_beside_a_rename_leaves_the_new_name_whole(
    autojump_clock: MockClock, tree: Tree, store: Store, path: str
) -> None:
    put(store, "d/f", b"1")
    inode = await find(tree, path)
    tree.config = replace(tree.config, metadata_ttl_seconds=0, negative_ttl_seconds=0)
    inode.fresh_until = 0
    parent, new = inode.parent, path.replace("d", "e", 1) if path == "d" else "d/g"
    assert parent is not None

    async def look() -> None:
        await tree.refreshed(inode.number)
        await tree.lookup(parent.number, inode.name.encode())

    async def rename() -> None:
        await tree.rename(parent, inode.name, parent, new.split("/")[-1].encode(), replace=True)

    await beside(rename, look)
    assert await find(tree, new) is inode
    assert inode.standing is Standing.CURRENT
    assert inode.key.rstrip("/") == new


async def test_names_removed_while_listing_hide_no_others(tree: Tree, store: Store) -> None:
    for number in range(100):
        put(store, f"{number:03}", b"")
    opened = await tree.open_directory(ROOT)
    told: list[str] = []
    position = 0
    while True:
        batch: list[str] = []
        async for inode, following in opened.entries(position):
            batch.append(inode.name)
            position = following
            if len(batch) == 10:
                break
        if not batch:
            break
        told += batch
        for name in batch:
            await tree.unlink(tree.table.root, name)
    assert told == [f"{number:03}" for number in range(100)]
    assert keys(store) == []


async def test_a_file_stored_while_its_directory_is_listed_is_told_once(
    tree: Tree, store: Store, files: NoFiles
) -> None:
    put(store, "a", b"1")
    inode = tree.create(tree.table.root, b"zz", exclusive=True)
    files.open.add(inode.number)
    told: list[str] = []
    opened = await tree.open_directory(ROOT)
    async for child, _ in opened.entries(0):
        told.append(child.name)
        if child.name == "a":
            put(store, "zz", b"1")
            meta = store.driver.get_object_meta(store.connection, "zz", store.container)
            from storefs.store.version import Version

            tree.committed(inode.number, "zz", Version(meta.etag, 1))
    assert told == ["a", "zz"]


async def test_a_directory_rename_leaves_a_version_that_came_meanwhile(
    tree: Tree, store: Store
) -> None:
    unconditional(store)
    for name in ("f", "g"):
        put(store, f"d/{name}", b"old")
    connection = connection_of(store)

    def overwrite(verb: str, key: str) -> None:
        if verb == "copy_object" and key == "e/f":
            connection.after = None
            put(store, "d/f", b"theirs")

    connection.after = overwrite
    await tree.rename(tree.table.root, "d", tree.table.root, b"e", replace=True)
    assert keys(store) == ["d/f", "e/f", "e/g"]


async def test_a_rename_over_a_file_sees_a_change_without_the_stores_help(
    tree: Tree, store: Store
) -> None:
    unconditional(store)
    put(store, "new", b"ours")
    put(store, "doc", b"seen")
    await names_in(tree, ROOT)
    put(store, "doc", b"theirs, written since")
    with pytest.raises(errors.ObjectChanged):
        await tree.rename(tree.table.root, "new", tree.table.root, b"doc", replace=True)
    assert (await store.head("doc")).size == len(b"theirs, written since")


async def test_a_rename_to_a_name_that_somebody_took_is_looked_up_again(
    tree: Tree, store: Store
) -> None:
    put(store, "a", b"1")
    await names_in(tree, ROOT)
    put(store, "b", b"theirs")
    with pytest.raises(errors.ObjectChanged):
        await tree.rename(tree.table.root, "a", tree.table.root, b"b", replace=True)
    there = await find(tree, "b")
    assert there.size == len(b"theirs")


async def test_a_name_made_while_its_directory_is_renamed_is_made_under_the_new_name(
    tree: Tree, store: Store
) -> None:
    for number in range(5):
        put(store, f"d/{number}", b"")
    directory = await find(tree, "d")
    started = trio.Event()
    made: list[Inode] = []

    async def make() -> None:
        await started.wait()
        made.append(await tree.mkdir(directory, b"new"))

    def began(verb: str, key: str) -> None:
        if verb == "copy_object":
            started.set()

    connection_of(store).before = began
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make)
        await tree.rename(tree.table.root, "d", tree.table.root, b"e", replace=True)
    assert made[0].key == "e/new/"
    assert not [key for key in keys(store) if key.startswith("d/")]


async def test_an_answer_that_is_older_than_our_commit_does_not_undo_it(
    autojump_clock: MockClock, tree: Tree, store: Store
) -> None:
    put(store, "a", b"old")
    inode = await find(tree, "a")
    await trio.sleep(10)

    def commit_meanwhile(verb: str, key: str) -> None:
        if verb == "get_object_meta":
            connection_of(store).after = None
            put(store, "a", b"ours, newer")
            meta = store.driver.get_object_meta(store.connection, "a", store.container)
            from storefs.store.version import Version

            tree.committed(inode.number, "a", Version(meta.etag, meta.size))

    connection_of(store).after = commit_meanwhile
    assert await find(tree, "a") is inode
    assert inode.standing is Standing.CURRENT


async def test_a_link_in_a_directory_made_anew_elsewhere_is_announced_again(
    autojump_clock: MockClock, tree: Tree, store: Store
) -> None:
    put(store, "d/", b"")
    directory = await find(tree, "d")
    await tree.symlink(directory, b"one", b"target")
    for key in keys(store):
        delete(store, key)
    put(store, "d/", b"")
    await trio.sleep(10)
    await tree.symlink(await find(tree, "d"), b"two", b"target")
    assert keys(store) == ["d/", "d/.storefs-attributes", "d/two"]


async def test_what_is_remembered_of_a_busy_directory_is_bounded(
    autojump_clock: MockClock, tree: Tree, store: Store
) -> None:
    for number in range(5000):
        tree.note_change(tree.table.root, f"{number}", None)
        await trio.sleep(1)
    assert len(tree.directory(tree.table.root).changes) <= 2 * 1024
