"""Files written through handles: when they reach the store, and in how many requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from storefs.errors import BadHandle
from storefs.handle import admission
from storefs.units import KIB, InodeNumber
from tests.handle.conftest import PART

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.handle.conftest import Setup

ONE = InodeNumber(1)


async def test_a_new_file_is_one_put_at_its_close(autojump_clock: MockClock, mount: Setup) -> None:
    await mount.store_file("a", b"hello")
    assert mount.body("a") == b"hello"
    assert mount.asked() == {"put": 1}
    assert mount.staged() == []


async def test_a_shell_redirection_is_two_puts(autojump_clock: MockClock, mount: Setup) -> None:
    handle = await mount.open("a", "w")
    await mount.files.flush(handle)
    assert mount.body("a") == b""
    await mount.files.write(handle, 0, b"hi\n")
    await mount.close(handle)
    assert mount.body("a") == b"hi\n"
    assert mount.asked() == {"put": 2}


async def test_a_flush_of_nothing_new_asks_nothing(autojump_clock: MockClock, mount: Setup) -> None:
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"x")
    await mount.files.flush(handle)
    mount.asked()
    await mount.files.flush(handle)
    await mount.files.fsync(handle)
    await mount.files.release(handle)
    assert mount.asked() == {}


async def test_a_new_file_opened_for_reading_only_is_created_too(
    autojump_clock: MockClock, mount: Setup
) -> None:
    await mount.close(await mount.open("a", "r"))
    assert mount.body("a") == b""


async def test_emptying_an_object_waits_for_the_data(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", b"old")
    handle = await mount.open("a", "w")
    await mount.files.flush(handle)
    assert mount.body("a") == b"old"
    await mount.files.write(handle, 0, b"new!")
    await mount.close(handle)
    assert mount.body("a") == b"new!"
    assert mount.asked() == {"head": 1, "put": 1}


async def test_an_emptied_object_is_stored_by_fsync(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", b"old")
    handle = await mount.open("a", "w")
    await mount.files.fsync(handle)
    assert mount.body("a") == b""


async def test_an_emptied_object_is_stored_behind_its_release(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", b"old")
    await mount.close(await mount.open("a", "w"))
    await mount.files.settle(ONE)
    assert mount.body("a") == b""


async def test_writes_through_a_mapping_after_the_flush_are_stored_behind_release(
    autojump_clock: MockClock,
    mount: Setup,
) -> None:
    handle = await mount.open("a")
    await mount.files.write(handle, 0, b"1234")
    await mount.files.flush(handle)
    await mount.files.write(handle, 1, b"MAP")
    await mount.files.release(handle)
    assert await mount.files.drain(5) == []
    assert mount.body("a") == b"1MAP"


async def test_a_reader_s_close_commits_nothing(autojump_clock: MockClock, mount: Setup) -> None:
    mount.put("a", b"old")
    writer, reader = await mount.open("a"), await mount.open("a", "r")
    await mount.files.write(writer, 0, b"half")
    await mount.close(reader)
    assert mount.body("a") == b"old"
    await mount.close(writer)
    assert mount.body("a") == b"half"


async def test_two_handles_see_each_other_s_bytes(autojump_clock: MockClock, mount: Setup) -> None:
    one, two = await mount.open("a"), await mount.open("a")
    await mount.files.write(one, 0, b"one")
    await mount.files.write(two, 3, b"two")
    assert await mount.files.read(one, 0, 100) == b"onetwo"
    await mount.close(one)
    assert mount.body("a") == b"onetwo"
    await mount.files.write(two, 0, b"T")
    await mount.close(two)
    assert mount.body("a") == b"Tnetwo"


async def test_an_append_never_lands_before_the_end(
    autojump_clock: MockClock, mount: Setup
) -> None:
    one, two = await mount.open("a", "a"), await mount.open("a", "a")
    await mount.files.write(one, 0, b"first\n")
    await mount.files.write(two, 0, b"second\n")
    await mount.close(one)
    await mount.close(two)
    assert mount.body("a") == b"first\nsecond\n"


async def test_appending_again_and_again_never_conflicts_with_ourselves(
    autojump_clock: MockClock, mount: Setup
) -> None:
    handle = await mount.open("log", "a")
    for line in range(20):
        await mount.files.write(handle, line * 2, b"%d\n" % (line % 10))
        await mount.files.flush(handle)
    reader = await mount.open("log", "r")
    assert await mount.files.read(reader, 0, 1000) == mount.body("log")
    await mount.close(reader)
    await mount.close(handle)
    assert mount.body("log") == b"".join(b"%d\n" % (line % 10) for line in range(20))


async def test_a_shrink_then_a_growth_reads_zeros(autojump_clock: MockClock, mount: Setup) -> None:
    mount.put("a", b"0123456789")
    handle = await mount.open("a")
    await mount.files.truncate(ONE, "a", None, 4, handle)
    await mount.files.truncate(ONE, "a", None, 8, handle)
    assert await mount.files.read(handle, 0, 100) == b"0123\0\0\0\0"
    await mount.close(handle)
    assert mount.body("a") == b"0123\0\0\0\0"


async def test_a_write_beyond_the_end_leaves_zeros(autojump_clock: MockClock, mount: Setup) -> None:
    handle = await mount.open("a")
    await mount.files.write(handle, 5, b"x")
    assert await mount.files.read(handle, 0, 100) == b"\0\0\0\0\0x"
    await mount.close(handle)
    assert mount.body("a") == b"\0\0\0\0\0x"


async def test_cutting_without_a_handle_is_stored_when_it_answers(
    autojump_clock: MockClock, mount: Setup
) -> None:
    version = mount.put("a", b"0123456789")
    await mount.files.truncate(ONE, "a", version, 3, None)
    assert mount.body("a") == b"012"
    await mount.files.truncate(ONE, "a", mount.version("a"), 0, None)
    assert mount.body("a") == b""
    await mount.files.truncate(ONE, "a", mount.version("a"), 2, None)
    assert mount.body("a") == b"\0\0"


async def test_the_tree_is_told_of_every_commit(autojump_clock: MockClock, mount: Setup) -> None:
    await mount.store_file("a", b"hello", number=7)
    assert mount.committed == [(7, "a", mount.committed[0][2])]
    assert mount.committed[0][2].size == 5
    assert mount.committed[0][2].etag == mount.version("a").etag  # type: ignore[union-attr]


async def test_local_state_is_told_while_it_differs_and_not_afterwards(
    autojump_clock: MockClock, mount: Setup
) -> None:
    assert mount.files.local(ONE) is None
    handle = await mount.open("a", "w")
    local = mount.files.local(ONE)
    assert local is not None and local.is_dirty and not local.exists_in_store
    await mount.files.write(handle, 0, b"abc")
    local = mount.files.local(ONE)
    assert local is not None and local.size == 3
    mount.files.set_mtime(ONE, 1234)
    local = mount.files.local(ONE)
    assert local is not None and local.mtime_ns == 1234
    await mount.files.flush(handle)
    assert mount.files.local(ONE) is None
    assert mount.files.has_handles(ONE)
    await mount.files.release(handle)
    assert not mount.files.has_handles(ONE)


async def test_what_was_written_is_read_back_without_a_request(
    autojump_clock: MockClock, mount: Setup
) -> None:
    body = bytes(range(256)) * 160  # 40 KiB: two and a half chunks
    await mount.store_file("a", body)
    mount.asked()
    reader = await mount.open("a", "r")
    assert await mount.files.read(reader, 0, len(body)) == body
    assert mount.asked() == {}
    await mount.close(reader)


async def test_a_large_file_is_read_back_without_a_request(
    autojump_clock: MockClock, mount: Setup
) -> None:
    body = bytes(range(256)) * 4 * 300
    await mount.store_file("a", body)
    mount.asked()
    reader = await mount.open("a", "r")
    assert await mount.files.read(reader, 0, len(body)) == body
    assert mount.asked() == {}
    await mount.close(reader)


async def test_writing_to_a_handle_that_is_for_reading_is_refused(
    autojump_clock: MockClock, mount: Setup
) -> None:
    handle = await mount.open("a", "r")
    with pytest.raises(BadHandle):
        await mount.files.write(handle, 0, b"x")
    await mount.close(handle)
    with pytest.raises(BadHandle):
        await mount.files.read(handle, 0, 1)


async def test_a_write_keeps_the_attributes_and_tags_of_the_object(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put(
        "a", b"old", content_type="text/css", metadata={"mode": "33188"}, tags={"team": "red"}
    )
    handle = await mount.open("a", "a")
    await mount.files.write(handle, 3, b"+new")
    await mount.close(handle)
    assert mount.body("a") == b"old+new"
    kept = mount.attributes("a")
    assert kept.content_type == "text/css"
    assert kept.metadata == {"mode": "33188"}
    assert kept.tags == {"team": "red"}


async def test_a_multipart_commit_keeps_the_attributes_too(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", bytes(10 * PART), content_type="text/css")
    handle = await mount.open("a", "a")
    await mount.files.write(handle, 10 * PART, b"tail")
    await mount.close(handle)
    assert mount.attributes("a").content_type == "text/css"


async def test_a_new_file_carries_the_attributes_given_for_it(
    autojump_clock: MockClock, mount: Setup
) -> None:
    await mount.store_file("a", b"x")
    assert mount.attributes("a").content_type == "text/x-new"


async def test_appending_a_line_to_a_large_object_copies_it_in_the_store(
    autojump_clock: MockClock, mount: Setup
) -> None:
    body = bytes(range(256)) * 4 * KIB  # 1 MiB: sixteen parts
    mount.put("a", body)
    handle = await mount.open("a", "a")
    await mount.files.write(handle, len(body), b"a line\n")
    await mount.close(handle)
    assert mount.body("a") == body + b"a line\n"
    asked = mount.asked()
    assert asked == {
        "head": 1,
        "create_multipart": 1,
        "copy_part": 1,
        "upload_part": 1,
        "complete_multipart": 1,
    }
    assert mount.uploads() == 0


async def test_an_edit_in_the_middle_of_a_large_object_moves_one_part(
    autojump_clock: MockClock, mount: Setup
) -> None:
    body = bytearray(bytes(range(256)) * 4 * KIB)
    mount.put("a", bytes(body))
    handle = await mount.open("a")
    await mount.files.write(handle, 500_000, b"edited")
    await mount.close(handle)
    body[500_000:500_006] = b"edited"
    assert mount.body("a") == bytes(body)
    assert mount.asked()["upload_part"] == 1


async def test_full_parts_are_sent_while_the_file_is_written(
    autojump_clock: MockClock, mount: Setup
) -> None:
    handle = await mount.open("a", "w")
    for index in range(40):
        await mount.files.write(handle, index * 16 * KIB, bytes([index]) * 16 * KIB)
    await mount.files.read(await mount.open("a", "r"), 0, 1)
    assert mount.asked()["upload_part"] >= 6
    await mount.close(handle)
    assert mount.asked().get("upload_part", 0) <= 4
    assert mount.body("a") == b"".join(bytes([index]) * 16 * KIB for index in range(40))
    assert mount.uploads() == 0


async def test_a_part_that_was_sent_and_written_over_is_sent_again(
    autojump_clock: MockClock, mount: Setup
) -> None:
    handle = await mount.open("a", "w")
    for index in range(40):
        await mount.files.write(handle, index * 16 * KIB, bytes([index]) * 16 * KIB)
    await mount.files.write(handle, 100, b"header")
    await mount.close(handle)
    expected = bytearray(b"".join(bytes([index]) * 16 * KIB for index in range(40)))
    expected[100:106] = b"header"
    assert mount.body("a") == bytes(expected)


async def test_a_file_cut_after_its_parts_were_sent_is_stored_as_it_is(
    autojump_clock: MockClock, mount: Setup
) -> None:
    handle = await mount.open("a", "w")
    for index in range(40):
        await mount.files.write(handle, index * 16 * KIB, bytes([index]) * 16 * KIB)
    await mount.files.truncate(ONE, "a", None, 5 * 16 * KIB + 7, handle)
    await mount.close(handle)
    whole = b"".join(bytes([index]) * 16 * KIB for index in range(40))
    assert mount.body("a") == whole[: 5 * 16 * KIB + 7]
    await mount.files.drain(5)
    assert mount.uploads() == 0


async def test_a_rename_in_the_store_carries_handles_and_cache_along(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", b"x" * 1000)
    handle = await mount.open("a")
    assert await mount.files.read(handle, 0, 10) == b"x" * 10
    async with mount.files.held(ONE):
        moved = await mount.store.copy("a", "b")
        await mount.store.delete("a")
        mount.files.moved(ONE, "b", moved)
    mount.asked()
    assert await mount.files.read(handle, 0, 1000) == b"x" * 1000
    assert mount.asked() == {}
    await mount.files.write(handle, 0, b"y")
    await mount.close(handle)
    assert mount.body("a") is None
    assert mount.body("b") == b"y" + b"x" * 999


async def test_settle_stores_what_is_dirty(autojump_clock: MockClock, mount: Setup) -> None:
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"abc")
    assert [file.key for file in mount.files.pending()] == ["a"]
    await mount.files.settle(ONE)
    assert mount.body("a") == b"abc"
    assert mount.files.pending() == []
    await mount.close(handle)


async def test_a_rename_in_the_midst_of_a_commit_leaves_one_file_with_the_new_bytes(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", b"old")
    handle = await mount.open("a")
    await mount.files.write(handle, 0, b"new")

    def rename_first(verb: str, key: str) -> None:
        if verb == "put_object":
            mount.well()
            moved = mount.put("b", b"old")
            mount.files.moved(ONE, "b", moved)

    mount.bucket.before = rename_first
    await mount.close(handle)
    assert mount.body("a") is None
    assert mount.body("b") == b"new"
    assert [key for _, key, _ in mount.committed] == ["b"]


async def test_bytes_just_written_are_read_back_while_others_write_and_commit(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", bytes(4 * PART))

    async def work(index: int) -> None:
        handle = await mount.open("a")
        for turn in range(30):
            offset = index * PART + turn * 1000
            data = bytes([index * 30 + turn + 1]) * 1500
            await mount.files.write(handle, offset, data)
            assert await mount.files.read(handle, offset, 1500) == data
            if turn % (index + 3) == 0:
                await mount.files.flush(handle)
        await mount.close(handle)

    async with trio.open_nursery() as nursery:
        for index in range(4):
            nursery.start_soon(work, index)
    expected = bytearray(4 * PART)
    for index in range(4):
        for turn in range(30):
            offset = index * PART + turn * 1000
            expected[offset : offset + 1500] = bytes([index * 30 + turn + 1]) * 1500
    assert mount.body("a") == bytes(expected)


async def test_a_file_reopened_again_and_again_while_its_bytes_go_into_the_cache(
    autojump_clock: MockClock, mount: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "AT_ONCE_BYTES", 0)
    for turn in range(5):
        handle = await mount.open("a")
        await mount.files.write(handle, 0, b"turn %d" % turn)
        await mount.close(handle)
    assert mount.body("a") == b"turn 4"
