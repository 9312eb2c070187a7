"""Names, inodes and listings over the memory driver; requests are counted."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from storefs import errors
from storefs.fuse.errnos import errno_of
from storefs.store.version import Version
from storefs.tree.inode import Inode, Kind, Standing
from storefs.tree.table import ROOT
from storefs.tree.tree import Missing, Tree
from tests.support.layers import NoFiles, connection_of, delete, keys, put

if TYPE_CHECKING:
    from trio.testing import MockClock

    from storefs.store import Store
    from storefs.units import InodeNumber


async def find(tree: Tree, path: str) -> Inode:
    """Walk a path as the kernel does; every component is looked up."""
    inode = tree.table.root
    for name in path.split("/"):
        found = await tree.lookup(inode.number, name.encode())
        assert isinstance(found, Inode), f"{name} of {path} is missing"
        tree.counted(found)
        inode = found
    return inode


async def missing(tree: Tree, parent: InodeNumber, name: str) -> bool:
    return isinstance(await tree.lookup(parent, name.encode()), Missing)


async def names_in(tree: Tree, number: InodeNumber) -> list[str]:
    directory = await tree.open_directory(number)
    return [inode.name async for inode, _ in directory.entries(0)]


async def test_a_path_costs_one_head_and_one_list_for_its_directory(
    tree: Tree, store: Store
) -> None:
    put(store, "dir/file", b"12345")
    inode = await find(tree, "dir/file")
    assert inode.size == 5
    assert dict(store.requests) == {"head": 1, "list": 1}


async def test_listing_a_directory_after_its_lookup_costs_nothing_more(
    tree: Tree, store: Store
) -> None:
    for number in range(10):
        put(store, f"dir/{number}", b"x")
    directory = await find(tree, "dir")
    before = store.requests.total()
    assert await names_in(tree, directory.number) == [str(number) for number in range(10)]
    assert store.requests.total() == before


async def test_names_in_a_young_listing_are_answered_without_a_request(
    tree: Tree, store: Store
) -> None:
    put(store, "a", b"1")
    await names_in(tree, ROOT)
    before = store.requests.total()
    await find(tree, "a")
    assert await missing(tree, ROOT, "b")
    assert store.requests.total() == before


async def test_what_does_not_exist_is_asked_again_after_its_own_ttl_with_one_list(
    autojump_clock: MockClock, tree: Tree, store: Store
) -> None:
    put(store, "a", b"1")
    await names_in(tree, ROOT)
    await trio.sleep(1.5)
    put(store, "b", b"2")
    before = store.requests.copy()
    assert (await find(tree, "b")).size == 1
    assert store.requests - before == {"list": 1}


async def test_what_exists_is_believed_for_the_metadata_ttl(
    autojump_clock: MockClock, tree: Tree, store: Store
) -> None:
    put(store, "a", b"old")
    old = await find(tree, "a")
    put(store, "a", b"newer")
    await trio.sleep(4.9)
    assert await find(tree, "a") is old
    await trio.sleep(0.2)
    new = await find(tree, "a")
    assert new.size == 5


async def test_a_version_from_outside_is_another_inode_and_the_old_one_cannot_be_opened(
    autojump_clock: MockClock, tree: Tree, store: Store
) -> None:
    put(store, "a", b"old")
    old = await find(tree, "a")
    put(store, "a", b"newer")
    await trio.sleep(6)
    new = await find(tree, "a")
    assert new.number != old.number
    assert old.standing is Standing.SUPERSEDED
    with pytest.raises(errors.Superseded) as caught:
        await tree.open_file(old.number)
    assert errno_of(caught.value) == errno.ESTALE


async def test_the_same_version_keeps_its_inode_beyond_the_ttl(
    autojump_clock: MockClock, tree: Tree, store: Store
) -> None:
    put(store, "a", b"same")
    inode = await find(tree, "a")
    await trio.sleep(60)
    assert await find(tree, "a") is inode


async def test_what_another_machine_removed_is_gone_after_the_ttl(
    autojump_clock: MockClock, tree: Tree, store: Store
) -> None:
    put(store, "dir/a", b"1")
    await find(tree, "dir/a")
    delete(store, "dir/a")
    await trio.sleep(6)
    assert await missing(tree, ROOT, "dir")


async def test_a_created_file_is_seen_here_before_it_is_stored_and_after(
    autojump_clock: MockClock, tree: Tree, files: NoFiles, store: Store
) -> None:
    await names_in(tree, ROOT)
    inode = tree.create(tree.table.root, b"new", exclusive=True)
    files.open.add(inode.number)
    assert await find(tree, "new") is inode
    assert await names_in(tree, ROOT) == ["new"]
    put(store, "new", b"abc")
    meta = store.driver.get_object_meta(store.connection, "new", store.container)
    tree.committed(inode.number, "new", Version(meta.etag, 3))
    files.open.clear()
    assert await names_in(tree, ROOT) == ["new"]
    await trio.sleep(60)
    assert await find(tree, "new") is inode


async def test_our_own_version_goes_on_showing_our_time(
    autojump_clock: MockClock, tree: Tree, store: Store, files: NoFiles
) -> None:
    inode = tree.create(tree.table.root, b"new", exclusive=True)
    put(store, "new", b"abc")
    meta = store.driver.get_object_meta(store.connection, "new", store.container)
    tree.set_attributes(inode, mtime_ns=1_000_000_007)
    tree.committed(inode.number, "new", Version(meta.etag, 3))
    tree.counted(inode)
    await trio.sleep(60)
    tree.forget(inode.number, 1)
    again = await find(tree, "new")
    assert again.number != inode.number
    assert tree.stat(again).mtime_ns == 1_000_000_007


async def test_unlink_carries_the_version_that_was_seen(tree: Tree, store: Store) -> None:
    put(store, "a", b"seen")
    await find(tree, "a")
    put(store, "a", b"changed by somebody")
    with pytest.raises(errors.ObjectChanged):
        await tree.unlink(tree.table.root, "a")
    assert keys(store) == ["a"]
    await tree.unlink(tree.table.root, "a")
    assert keys(store) == []


async def test_an_unlinked_open_file_is_kept_and_says_no_links(
    tree: Tree, store: Store, files: NoFiles
) -> None:
    put(store, "a", b"1")
    inode = await find(tree, "a")
    files.open.add(inode.number)
    await tree.unlink(tree.table.root, "a")
    assert files.kept == [inode.number]
    assert tree.stat(await tree.refreshed(inode.number)).nlink == 0
    assert await missing(tree, ROOT, "a")


async def test_a_directory_stays_when_its_last_file_goes_until_rmdir(
    autojump_clock: MockClock, tree: Tree, store: Store
) -> None:
    put(store, "d/e/f", b"1")
    inode = await find(tree, "d/e/f")
    assert inode.parent is not None
    await tree.unlink(inode.parent, "f")
    assert keys(store) == []
    await trio.sleep(60)
    inner = await find(tree, "d/e")
    assert await names_in(tree, inner.number) == []
    assert await names_in(tree, ROOT) == ["d"]
    await tree.rmdir(await find(tree, "d"), "e")
    await tree.rmdir(tree.table.root, "d")
    await trio.sleep(60)
    assert await missing(tree, ROOT, "d")


async def test_a_directory_that_others_empty_after_a_removal_here_goes_with_its_last_object(
    autojump_clock: MockClock, tree: Tree, store: Store
) -> None:
    for name in ("a", "b"):
        put(store, f"d/{name}", b"1")
    await tree.unlink(await find(tree, "d"), "a")
    await trio.sleep(10)
    await find(tree, "d/b")
    assert await names_in(tree, ROOT) == ["d"]
    delete(store, "d/b")
    await trio.sleep(10)
    assert await missing(tree, ROOT, "d")
    assert await names_in(tree, ROOT) == []


async def test_mkdir_writes_a_marker_and_the_new_directory_is_known_to_be_empty(
    tree: Tree, store: Store
) -> None:
    await tree.mkdir(tree.table.root, b"d")
    assert keys(store) == ["d/"]
    before = store.requests.total()
    directory = await find(tree, "d")
    assert await missing(tree, directory.number, "x")
    assert store.requests.total() == before
    with pytest.raises(errors.NameTaken):
        await tree.mkdir(tree.table.root, b"d")


async def test_rmdir_of_what_another_machine_filled_is_refused(tree: Tree, store: Store) -> None:
    await tree.mkdir(tree.table.root, b"d")
    put(store, "d/x", b"1")
    with pytest.raises(errors.NotEmpty):
        await tree.rmdir(tree.table.root, "d")
    assert keys(store) == ["d/", "d/x"]


async def test_a_directory_with_a_foreign_marker_is_removed_and_renamed_with_it(
    autojump_clock: MockClock, tree: Tree, store: Store
) -> None:
    for name in ("a", "b"):
        put(store, f"{name}_$folder$")
    assert await names_in(tree, ROOT) == ["a", "b"]
    await tree.rmdir(tree.table.root, "a")
    await tree.rename(tree.table.root, "b", tree.table.root, b"c", replace=True)
    assert keys(store) == ["c/"]
    await trio.sleep(10)
    assert await names_in(tree, ROOT) == ["c"]


async def test_a_symbolic_link_is_one_after_a_new_mount_too(
    tree: Tree, store: Store, nursery: trio.Nursery
) -> None:
    put(store, "d/file", b"no link")
    await tree.symlink(await find(tree, "d"), b"link", b"target")
    fresh = Tree(store, tree.config, NoFiles(), nursery, give_back=lambda parent, name: None)
    directory = await find(fresh, "d")
    opened = await fresh.open_directory(directory.number)
    kinds = {inode.name: inode.kind async for inode, _ in opened.entries(0)}
    assert kinds == {"file": Kind.FILE, "link": Kind.SYMLINK}
    assert await fresh.readlink(await find(fresh, "d/link")) == b"target"


async def test_renaming_a_file_copies_and_then_deletes(tree: Tree, store: Store) -> None:
    put(store, "a", b"1")
    put(store, "b", b"2")
    inode = await find(tree, "a")
    await find(tree, "b")
    await tree.rename(tree.table.root, "a", tree.table.root, b"b", replace=True)
    assert keys(store) == ["b"]
    assert await find(tree, "b") is inode
    assert await names_in(tree, ROOT) == ["b"]


async def test_rename_does_not_replace_what_it_did_not_see(tree: Tree, store: Store) -> None:
    put(store, "a", b"1")
    put(store, "b", b"2")
    await names_in(tree, ROOT)
    put(store, "b", b"changed by somebody")
    with pytest.raises(errors.ObjectChanged):
        await tree.rename(tree.table.root, "a", tree.table.root, b"b", replace=True)
    assert keys(store) == ["a", "b"]


async def test_renaming_a_directory_moves_all_below_it(tree: Tree, store: Store) -> None:
    for key in ("d/", "d/a", "d/e/b"):
        put(store, key, key.encode() if not key.endswith("/") else b"")
    inode = await find(tree, "d/e/b")
    await tree.rename(tree.table.root, "d", tree.table.root, b"new", replace=True)
    assert keys(store) == ["new/", "new/a", "new/e/b"]
    assert await find(tree, "new/e/b") is inode
    assert inode.key == "new/e/b"
    assert await missing(tree, ROOT, "d")


async def test_a_failed_directory_rename_leaves_everything_as_it_was(
    tree: Tree, store: Store
) -> None:
    for number in range(5):
        put(store, f"d/{number}", b"x")

    def refuse(verb: str, key: str) -> None:
        if verb == "copy_object" and key.endswith("/3"):
            raise errors.AccessDenied("no", key=key)

    connection_of(store).before = refuse
    with pytest.raises(errors.AccessDenied):
        await tree.rename(tree.table.root, "d", tree.table.root, b"new", replace=True)
    assert keys(store) == [f"d/{number}" for number in range(5)]


async def test_renaming_over_a_thousand_objects_is_left_to_the_program(
    tree: Tree, store: Store
) -> None:
    for number in range(1001):
        put(store, f"d/{number:04}", b"")
    with pytest.raises(errors.CrossesDevices):
        await tree.rename(tree.table.root, "d", tree.table.root, b"new", replace=True)
    assert len(keys(store)) == 1001


async def test_a_listing_asked_for_before_a_change_does_not_undo_it(
    tree: Tree, store: Store
) -> None:
    for name in ("a", "b"):
        put(store, name, b"1")
    opened = await tree.open_directory(ROOT)
    seen = []
    async for inode, _ in opened.entries(0):
        seen.append(inode.name)
        if inode.name == "a":
            await tree.unlink(tree.table.root, "a")
    assert seen[0] == "a"
    assert await names_in(tree, ROOT) == ["b"]


async def test_a_directory_of_many_pages_is_listed_once_and_whole(tree: Tree, store: Store) -> None:
    wanted = [f"{number:05}" for number in range(2500)]
    for name in wanted:
        put(store, "d/" + name, b"")
    directory = await find(tree, "d")
    assert await names_in(tree, directory.number) == wanted
    assert store.requests["list"] == 3


async def test_a_listing_goes_on_from_any_position(tree: Tree, store: Store) -> None:
    wanted = [f"{number:05}" for number in range(2500)]
    for name in wanted:
        put(store, "d/" + name, b"")
    opened = await tree.open_directory((await find(tree, "d")).number)
    found = [(inode.name, position) async for inode, position in opened.entries(0)]
    for index in (0, 999, 1000, 1001, 2498):
        name, position = found[index]
        rest = [inode.name async for inode, _ in opened.entries(position)]
        assert rest == wanted[index + 1 :], name


@pytest.mark.parametrize("key", ["a//b", "/a", "./a", "a/../b", "x" * 300])
async def test_a_key_that_is_no_path_is_hidden_and_counted(
    tree: Tree, store: Store, key: str
) -> None:
    put(store, key, b"1")
    put(store, "fine", b"1")

    async def walk(number: InodeNumber) -> list[str]:
        opened = await tree.open_directory(number)
        found: list[str] = []
        async for inode, _ in opened.entries(0):
            found.append(inode.path)
            if inode.is_dir:
                found += await walk(inode.number)
        return found

    assert "/fine" in await walk(ROOT)
    assert tree.hidden_keys == 1


async def test_names_of_storefs_itself_cannot_be_used(tree: Tree, store: Store) -> None:
    put(store, ".storefs-attributes", b"{}")
    assert await names_in(tree, ROOT) == []
    assert await missing(tree, ROOT, ".storefs-attributes")
    with pytest.raises(errors.NameReserved):
        await tree.mkdir(tree.table.root, b".storefs-x")


async def test_a_name_that_is_not_utf8_is_missing_and_cannot_be_made(tree: Tree) -> None:
    assert isinstance(await tree.lookup(ROOT, b"\xff"), Missing)
    with pytest.raises(errors.NameNotUtf8) as caught:
        tree.create(tree.table.root, b"\xff", exclusive=True)
    assert errno_of(caught.value) == errno.EILSEQ


async def test_two_normal_forms_of_a_name_are_two_files(tree: Tree, store: Store) -> None:
    put(store, "\u00e9", b"1")
    put(store, "e\u0301", b"22")
    assert (await find(tree, "\u00e9")).size == 1
    assert (await find(tree, "e\u0301")).size == 2


async def test_inodes_that_the_kernel_gave_back_are_forgotten(tree: Tree, store: Store) -> None:
    for number in range(50):
        put(store, f"d/{number}", b"")
    directory = await find(tree, "d")
    opened = await tree.open_directory(directory.number)
    told = []
    async for inode, _ in opened.entries(0):
        tree.counted(inode)
        told.append(inode.number)
    for number in told:
        tree.forget(number, 1)
    tree.forget(directory.number, 1)
    assert len(tree.table) == 1


async def test_above_its_bound_the_table_asks_the_kernel_to_give_inodes_back(
    store: Store, files: NoFiles, nursery: trio.Nursery, tree: Tree
) -> None:
    for number in range(100):
        put(store, f"{number:03}", b"")
    asked: list[str] = []
    tree.table.most = 50
    tree.give_back = lambda parent, name: asked.append(name)
    opened = await tree.open_directory(ROOT)
    async for inode, _ in opened.entries(0):
        tree.counted(inode)
    assert asked
    assert asked[0] == "000"


async def test_a_read_only_tree_changes_nothing(
    store: Store, files: NoFiles, nursery: trio.Nursery, tree: Tree
) -> None:
    from dataclasses import replace

    put(store, "a", b"1")
    tree.config = replace(tree.config, read_only=True)
    with pytest.raises(errors.ReadOnly):
        await tree.unlink(tree.table.root, "a")
    with pytest.raises(errors.ReadOnly):
        await tree.mkdir(tree.table.root, b"d")
    assert keys(store) == ["a"]
