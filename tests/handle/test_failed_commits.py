"""Commits that fail: what the user is told, what is kept, and when it is tried again."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from storefs.drivers.models import Condition
from storefs.errors import (
    AccessDenied,
    ObjectChanged,
    StagingFull,
    StoreError,
    StoreUnavailable,
)
from storefs.handle.commit import Guard, guard
from storefs.handle.staging import Staging
from storefs.units import KIB, InodeNumber

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from tests.handle.conftest import Make, Setup

ONE = InodeNumber(1)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Error lines are expected here."""
    caplog.set_level(logging.INFO, logger="storefs.handle")
    yield


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.ERROR) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


async def test_a_flush_reports_the_store_s_error_again_and_again(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.failing("put_object", error=StoreUnavailable)
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"precious")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await mount.files.flush(handle)
    with pytest.raises(StoreUnavailable):
        await mount.files.fsync(handle)
    await mount.files.release(handle)
    pending = mount.files.pending()
    assert [(file.key, file.state, file.bytes_total) for file in pending] == [("a", "waiting", 8)]
    assert pending[0].error


async def test_a_pending_file_is_stored_when_the_store_is_well_again(
    autojump_clock: MockClock, mount: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    mount.failing(error=StoreUnavailable)
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"precious")
    with pytest.raises(StoreUnavailable):
        await mount.close(handle)
    await trio.sleep(100)
    assert len(mount.files.pending()) == 1
    mount.well()
    await trio.sleep(60)
    assert mount.body("a") == b"precious"
    assert mount.files.pending() == []
    assert mount.files.local(ONE) is None
    assert len(lines(caplog)) == 1 and "a could not be stored" in lines(caplog)[0]
    assert "a is stored now" in lines(caplog, logging.INFO)


async def test_a_file_pending_beyond_its_release_shows_its_local_bytes(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", b"old")
    mount.failing("put_object", error=StoreUnavailable)
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"local bytes")
    with pytest.raises(StoreUnavailable):
        await mount.close(handle)
    reader = await mount.open("a", "r")
    assert await mount.files.read(reader, 0, 100) == b"local bytes"
    local = mount.files.local(ONE)
    assert local is not None and local.size == 11 and local.is_dirty and local.exists_in_store
    await mount.close(reader)  # a reader has nothing to fail for
    mount.well()


async def test_reading_a_new_file_that_is_pending_fails_for_nothing(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.failing("put_object", error=StoreUnavailable)
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"local bytes")
    with pytest.raises(StoreUnavailable):
        await mount.close(handle)
    reader = await mount.open("a", "r")
    assert await mount.files.read(reader, 0, 100) == b"local bytes"
    await mount.close(reader)


async def test_an_error_behind_release_is_answered_by_the_next_flush(
    autojump_clock: MockClock, mount: Setup
) -> None:
    handle, other = await mount.open("a"), await mount.open("a")
    mount.failing("put_object", error=StoreUnavailable)
    await mount.files.write(handle, 0, b"through a mapping")
    await mount.files.release(handle)
    with pytest.raises(StoreUnavailable):
        await mount.files.flush(other)
    mount.well()
    await mount.close(other)
    assert mount.body("a") == b"through a mapping"


async def test_two_who_close_during_one_attempt_share_its_answer(
    autojump_clock: MockClock, mount: Setup
) -> None:
    one, two = await mount.open("a"), await mount.open("a")
    await mount.files.write(one, 0, b"x")
    mount.asked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mount.files.flush, one)
        nursery.start_soon(mount.files.flush, two)
    assert mount.asked() == {"put": 1}
    await mount.files.release(one)
    await mount.files.release(two)


async def test_a_refused_file_goes_to_lost_and_found_and_is_not_tried_again(
    autojump_clock: MockClock, mount: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    mount.failing("put_object", error=AccessDenied)
    handle = await mount.open("dir/a", "w")
    await mount.files.write(handle, 0, b"precious")
    with pytest.raises(AccessDenied):
        await mount.files.flush(handle)
    mount.asked()
    with pytest.raises(AccessDenied):
        await mount.files.fsync(handle)
    await mount.files.release(handle)
    await trio.sleep(1000)
    assert mount.asked() == {}
    assert mount.files.local(ONE) is None  # the mount shows what the store has
    assert mount.given_up == [ONE]
    (lost,) = mount.files.lost_and_found()
    assert (lost.key, lost.whole, lost.ranges) == ("dir/a", True, [(0, 8)])
    assert Path(lost.data).read_bytes() == b"precious"
    assert [file.state for file in mount.files.pending()] == ["failed"]
    assert len(lines(caplog)) == 1 and lost.data in lines(caplog)[0]


async def test_a_refused_file_that_is_written_on_is_tried_again(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.failing("put_object", error=AccessDenied)
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"precious")
    with pytest.raises(AccessDenied):
        await mount.files.flush(handle)
    mount.well()
    await mount.files.write(handle, 8, b"!")
    await mount.close(handle)
    assert mount.body("a") == b"precious!"
    assert mount.lost() == []


@pytest.mark.parametrize("error", [AccessDenied, StoreUnavailable])
async def test_writing_a_failed_file_anew_supersedes_it(
    autojump_clock: MockClock, mount: Setup, error: type[StoreError]
) -> None:
    mount.failing("put_object", error=error)
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"first")
    with pytest.raises(error):
        await mount.close(handle)
    mount.well()
    await mount.store_file("a", b"second")
    await trio.sleep(100)
    assert mount.body("a") == b"second"
    assert mount.files.pending() == []
    assert mount.lost() == []


async def test_removing_a_pending_file_drops_it_for_good(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.failing("put_object", error=StoreUnavailable)
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"first")
    with pytest.raises(StoreUnavailable):
        await mount.close(handle)
    await mount.files.discard(ONE)
    mount.well()
    await trio.sleep(100)
    assert mount.body("a") is None
    assert mount.files.pending() == [] and mount.files.local(ONE) is None
    assert mount.staged() == []


async def test_somebody_else_s_change_is_not_overwritten(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", b"base")
    handle = await mount.open("a")
    await mount.files.write(handle, 4, b"+ours")
    mount.put("a", b"theirs")
    for _ in range(2):
        with pytest.raises(ObjectChanged):
            await mount.files.flush(handle)
    await mount.files.release(handle)
    assert mount.body("a") == b"theirs"
    reader = await mount.open("a", "r")
    assert await mount.files.read(reader, 0, 100) == b"theirs"
    await mount.close(reader)
    (lost,) = mount.files.lost_and_found()
    assert (lost.key, lost.whole, lost.ranges) == ("a", False, [(4, 9)])
    assert Path(lost.data).read_bytes()[4:] == b"+ours"


async def test_a_new_file_does_not_overwrite_one_that_appeared(
    autojump_clock: MockClock, mount: Setup
) -> None:
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"ours")
    mount.put("a", b"theirs")
    with pytest.raises(ObjectChanged):
        await mount.close(handle)
    assert mount.body("a") == b"theirs"


async def test_a_file_that_was_removed_elsewhere_does_not_come_back(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", b"base")
    handle = await mount.open("a")
    await mount.files.write(handle, 0, b"B")
    mount.store.driver.delete_object(mount.store.connection, "a", "bucket")
    with pytest.raises(ObjectChanged):
        await mount.close(handle)
    assert mount.body("a") is None


async def test_after_a_conflict_the_file_can_be_written_anew_and_the_loser_stays(
    autojump_clock: MockClock,
    mount: Setup,
) -> None:
    mount.put("a", b"base")
    handle = await mount.open("a")
    await mount.files.write(handle, 4, b"+ours")
    mount.put("a", b"theirs")
    with pytest.raises(ObjectChanged):
        await mount.close(handle)
    await mount.store_file("a", b"decided")
    assert mount.body("a") == b"decided"
    assert mount.lost() == ["a"]
    assert mount.files.pending() == []


async def test_a_large_file_that_lost_a_conflict_leaves_no_upload_behind(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", bytes(600 * KIB))
    handle = await mount.open("a", "a")
    await mount.files.write(handle, 600 * KIB, b"tail")
    mount.put("a", b"theirs")
    with pytest.raises(ObjectChanged):
        await mount.close(handle)
    await mount.files.drain(1)
    assert mount.uploads() == 0


async def test_parts_that_were_sent_are_not_sent_again_after_a_failure(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.failing("complete_multipart_upload", error=StoreUnavailable)
    handle = await mount.open("a", "w")
    for index in range(40):
        await mount.files.write(handle, index * 16 * KIB, bytes([index]) * 16 * KIB)
    with pytest.raises(StoreUnavailable):
        await mount.files.flush(handle)
    mount.asked()
    mount.well()
    await mount.files.flush(handle)
    assert mount.asked() == {"head": 1, "complete_multipart": 1}  # was it done, unanswered?
    await mount.files.release(handle)
    assert mount.body("a") == b"".join(bytes([index]) * 16 * KIB for index in range(40))


async def test_a_writer_ahead_of_a_dead_store_is_told_and_loses_nothing(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.failing("upload_part", error=StoreUnavailable)
    handle = await mount.open("a", "w")
    offset = 0
    with pytest.raises(StoreUnavailable):
        while offset < 10_000 * KIB:
            await mount.files.write(handle, offset, b"x" * 16 * KIB)
            offset += 16 * KIB
    assert offset < 2_000 * KIB
    mount.well()
    await mount.close(handle)
    assert mount.body("a") == b"x" * (offset + 16 * KIB)


@pytest.mark.parametrize("verb", ["put_object", "complete_multipart_upload"])
async def test_an_answer_lost_after_the_store_acted_is_no_conflict(
    autojump_clock: MockClock, mount: Setup, verb: str
) -> None:
    size = 10 if verb == "put_object" else 600 * KIB
    times = iter([True])

    def after(operation: str, key: str) -> None:
        if operation == verb and next(times, False):
            raise StoreUnavailable("the answer was lost")

    mount.bucket.after = after
    await mount.store_file("a", b"z" * size)
    assert mount.body("a") == b"z" * size
    assert mount.files.pending() == []


async def test_answers_lost_until_the_deadline_are_no_conflict_either(
    autojump_clock: MockClock, mount: Setup
) -> None:
    mount.put("a", b"base")
    handle = await mount.open("a")
    await mount.files.write(handle, 0, b"ours")

    def after(operation: str, key: str) -> None:
        if operation == "put_object":
            mount.failing(error=StoreUnavailable)
            raise StoreUnavailable("the answer was lost")

    mount.bucket.after = after
    with pytest.raises(StoreUnavailable):
        await mount.files.flush(handle)
    assert mount.body("a") == b"ours"
    await mount.files.write(handle, 4, b" and more")
    mount.well()
    await mount.close(handle)
    assert mount.body("a") == b"ours and more"
    assert mount.lost() == []


async def test_a_full_disk_is_told_and_what_fitted_is_kept(
    autojump_clock: MockClock, mount: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"fits")
    whole = Staging._write_all
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "_write_all", lambda self, at, data: whole(self, at, data[:2]))
        with pytest.raises(StagingFull):
            await mount.files.write(handle, 4, b"does not")
    await mount.close(handle)
    assert mount.body("a") == b"fitsdo"


async def test_a_mistake_of_ours_ends_neither_the_mount_nor_the_bytes(
    autojump_clock: MockClock, mount: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(mount.store, "put", broken)
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"precious")
    await mount.files.release(handle)
    await trio.sleep(1)
    assert mount.lost() == ["a"]


# -- stores without conditions ---------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("condition", list(Condition))
@pytest.mark.parametrize("etag", ["e", None])
def test_what_a_store_does_not_promise_is_compared_just_before(
    condition: Condition, known: bool, etag: str | None
) -> None:
    made = guard(condition, known, etag)
    can = condition is Condition.ETAG or (condition is Condition.CREATE_ONLY and etag is None)
    assert made.check_first == (not (can and known))
    assert made == Guard(
        etag if can else None, "*" if can and etag is None else None, made.check_first
    )


async def test_without_conditions_the_version_is_compared_before_the_write(
    make: Make, autojump_clock: MockClock
) -> None:
    async with make() as mount:
        mount.store.capabilities = replace(
            mount.store.capabilities,
            conditional_put=Condition.NONE,
            conditional_complete=Condition.NONE,
        )
        mount.put("a", b"base")
        handle = await mount.open("a")
        await mount.files.write(handle, 0, b"B")
        await mount.files.flush(handle)
        assert mount.asked() == {"head": 1, "get": 1, "put": 1}
        await mount.files.write(handle, 0, b"C")
        await mount.files.flush(handle)  # our own commit is younger than a second
        assert mount.asked() == {"put": 1}
        await trio.sleep(2)
        mount.put("a", b"theirs")
        await mount.files.write(handle, 0, b"D")
        with pytest.raises(ObjectChanged):
            await mount.close(handle)
        assert mount.body("a") == b"theirs"


# -- the end ---------------------------------------------------------------------------------------


async def test_a_drain_stores_open_files_and_names_nothing(
    autojump_clock: MockClock, mount: Setup
) -> None:
    handle = await mount.open("a", "w")
    await mount.files.write(handle, 0, b"half way")
    assert await mount.files.drain(10) == []
    assert mount.body("a") == b"half way"


async def test_a_drain_ends_at_its_deadline_and_keeps_what_is_left(
    make: Make, autojump_clock: MockClock
) -> None:
    async with make(aclose=False) as mount:
        mount.failing(error=StoreUnavailable)
        handle = await mount.open("dir/a", "w")
        await mount.files.write(handle, 0, b"precious")
        began = trio.current_time()
        left = await mount.files.drain(7)
        assert trio.current_time() - began == pytest.approx(7)
        assert [file.key for file in left] == ["dir/a"]
        await mount.files.aclose()
        (path,) = (mount.state_dir / "lost+found").glob("*.json")
        told = json.loads(path.read_text())
        assert told["key"] == "dir/a" and told["whole"]
        assert path.with_suffix(".data").read_bytes() == b"precious"
        assert list((mount.state_dir / "instances").iterdir()) == []


async def test_a_drain_waits_for_a_store_to_come_back(
    make: Make, autojump_clock: MockClock
) -> None:
    async with make(aclose=False) as mount:
        mount.failing(error=StoreUnavailable)
        handle = await mount.open("a", "w")
        await mount.files.write(handle, 0, b"precious")

        async def recover() -> None:
            await trio.sleep(20)
            mount.well()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(recover)
            assert await mount.files.drain(200) == []
        assert mount.body("a") == b"precious"
        await mount.files.aclose()
