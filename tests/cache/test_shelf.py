"""The whole cache over a real directory, with its threads; nothing here waits for a clock."""

from __future__ import annotations

import logging
import shutil
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from storefs.cache import disk as disk_module
from storefs.cache import files
from storefs.cache import shelf as shelf_module
from storefs.errors import ConfigError
from storefs.units import ByteRange
from tests.cache.disks import full
from tests.cache.sources import CHUNK, Source, config, expect, started, whole

if TYPE_CHECKING:
    from pathlib import Path

    from storefs.cache import Cache, ObjectVersion

COUNT = 20


@pytest.fixture
def source() -> Source:
    return Source(delay_seconds=0)


async def fill(source: Source, directory: Path) -> tuple[ObjectVersion, bytes]:
    """A mount that read an object, and ended."""
    version, data = source.put("k", COUNT * CHUNK + 17)
    async with started(source, config(directory)) as cache:
        await cache.read(version, whole(version))
    source.requests.clear()
    return version, data


async def written(cache: Cache) -> None:
    """Wait until nothing waits to be written to disk."""
    while cache._shelf.queued_bytes:
        await cache._shelf._shrunk.park()


async def test_a_new_mount_reads_from_disk_what_the_last_one_fetched(
    source: Source, tmp_path: Path
) -> None:
    version, data = await fill(source, tmp_path)
    async with started(source, config(tmp_path)) as cache:
        assert await cache.read(version, whole(version)) == data
        assert cache.stats.disk_hits == COUNT + 1
        assert cache.stats.misses == 0
    assert source.requests == []


async def test_reading_ahead_takes_from_disk_what_is_there(source: Source, tmp_path: Path) -> None:
    version, data = await fill(source, tmp_path)
    async with started(source, config(tmp_path)) as cache:
        cache.prefetch_nowait(version, whole(version))
        assert await cache.read(version, whole(version)) == data
    assert source.requests == []


async def test_a_random_read_takes_from_disk_what_is_there(source: Source, tmp_path: Path) -> None:
    version, data = source.put("k", 100 * CHUNK)
    async with started(source, config(tmp_path)) as cache:
        await cache.read(version, ByteRange(0, CHUNK))
    source.requests.clear()
    async with started(source, config(tmp_path)) as cache:
        found = await cache.read(version, ByteRange(100, CHUNK + 100), whole_chunks=False)
        assert found == data[100 : CHUNK + 100]
    assert source.requests == [("k", ByteRange(CHUNK, CHUNK + 100))]


async def test_another_version_finds_nothing_of_the_old_one(source: Source, tmp_path: Path) -> None:
    old, _ = await fill(source, tmp_path)
    new, data = source.put("k", old.size, "e2")
    async with started(source, config(tmp_path)) as cache:
        assert await cache.read(new, whole(new)) == data


async def test_another_bucket_finds_nothing_of_this_one(source: Source, tmp_path: Path) -> None:
    await fill(source, tmp_path)
    other = Source(delay_seconds=0)
    version, _ = other.put("k", COUNT * CHUNK + 17)
    other.objects["k"] = ("e1", bytes(version.size))
    async with started(other, config(tmp_path), "another") as cache:
        assert await cache.read(version, whole(version)) == bytes(version.size)


async def test_a_chunk_spoilt_on_disk_is_fetched_again(source: Source, tmp_path: Path) -> None:
    version, data = await fill(source, tmp_path)
    victims = [path for path in (tmp_path / "chunks").rglob("*") if path.is_file()][:3]
    for path in victims:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    async with started(source, config(tmp_path)) as cache:
        assert await cache.read(version, whole(version)) == data
    assert source.fetched_bytes <= 3 * CHUNK
    assert len(source.requests) in (1, 2, 3)


async def test_the_directory_may_vanish_at_any_moment(source: Source, tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    version, data = source.put("k", COUNT * CHUNK + 17)
    # Memory for two chunks, so that nearly every read goes to the disk.
    async with started(source, config(directory, chunks=4)) as cache:
        for _ in range(5):
            assert await cache.read(version, whole(version)) == data
            shutil.rmtree(directory, ignore_errors=True)
            assert await cache.read(version, whole(version)) == data


async def test_reads_and_deletion_side_by_side_give_no_wrong_byte(
    source: Source, tmp_path: Path
) -> None:
    directory = tmp_path / "cache"
    objects = [source.put(f"k{number}", 5 * CHUNK) for number in range(8)]

    async def read(cache: Cache, version: ObjectVersion, data: bytes) -> None:
        for _ in range(10):
            await expect(cache, version, whole(version), data)

    async with (
        started(source, config(directory, chunks=4)) as cache,
        trio.open_nursery() as nursery,
    ):
        for version, data in objects:
            nursery.start_soon(read, cache, version, data)
        for _ in range(10):
            shutil.rmtree(directory, ignore_errors=True)
            await trio.sleep(0.002)


async def test_two_mounts_share_one_directory(source: Source, tmp_path: Path) -> None:
    version, data = source.put("k", COUNT * CHUNK)
    async with (
        started(source, config(tmp_path)) as one,
        started(source, config(tmp_path)) as two,
    ):
        await one.read(version, whole(version))
        await written(one)
        source.requests.clear()
        assert await two.read(version, whole(version)) == data
    assert source.requests == []


async def test_a_full_disk_stops_nobody_from_reading(
    source: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    full(monkeypatch, files, "write_chunk")
    version, data = source.put("k", COUNT * CHUNK)
    async with started(source, config(tmp_path, chunks=4)) as cache:
        for _ in range(3):
            assert await cache.read(version, whole(version)) == data
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1


async def test_a_disk_that_hangs_stops_neither_reader_nor_writer(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = threading.Event()
    write = disk_module.ChunkDisk._write

    def wait_and_write(*args: object) -> object:
        stuck.wait()
        return write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(shelf_module, "HANGING_SECONDS", 0.01)
    monkeypatch.setattr(disk_module.ChunkDisk, "_write", wait_and_write)
    async with started(source, config(tmp_path, chunks=8)) as cache:
        try:
            for number in range(50):
                version, data = source.put(f"k{number}", 3 * CHUNK)
                assert await cache.read(version, whole(version)) == data
            version, data = source.put("written", 40 * CHUNK)
            for _ in range(3):  # the first waits for a while, the others know
                await cache.admit(version, 0, data)
            cache.check_invariants()
        finally:
            stuck.set()


async def test_what_was_written_here_is_on_disk_for_the_next_mount(
    source: Source, tmp_path: Path
) -> None:
    version, data = source.put("k", COUNT * CHUNK + 5)
    async with started(source, config(tmp_path, chunks=6)) as cache:
        await cache.admit(version, 0, data[: 10 * CHUNK])
        await cache.admit(version, 10 * CHUNK, data[10 * CHUNK :])
    async with started(source, config(tmp_path)) as cache:
        assert await cache.read(version, whole(version)) == data
    assert source.requests == []


@pytest.mark.parametrize("still_queued", [True, False])
async def test_a_renamed_object_is_found_on_disk_by_its_new_name(
    source: Source, tmp_path: Path, still_queued: bool
) -> None:
    old, data = source.put("old", COUNT * CHUNK)
    new, _ = source.put("new", COUNT * CHUNK, "e2")
    source.objects["new"] = ("e2", data)
    async with started(source, config(tmp_path)) as cache:
        await cache.read(old, whole(old))
        if not still_queued:
            await written(cache)
        cache.rename(old, new)
        cache.drop(old)
    source.requests.clear()
    async with started(source, config(tmp_path)) as cache:
        assert await cache.read(new, whole(new)) == data
    assert source.requests == []


async def test_a_rename_counts_at_once_for_what_is_only_on_disk(
    source: Source, tmp_path: Path
) -> None:
    old, data = await fill(source, tmp_path)
    new, _ = source.put("new", old.size, "e2")
    source.objects["new"] = ("e2", data)
    async with started(source, config(tmp_path)) as cache:
        assert await cache.read(new, ByteRange(0, 1)) == data[:1]  # learns that it is not there
        cache.drop(new)
        source.requests.clear()
        cache.rename(old, new)
        assert await cache.read(new, whole(new)) == data
    assert source.requests == []


async def test_a_dropped_version_is_gone_from_disk(source: Source, tmp_path: Path) -> None:
    version, data = await fill(source, tmp_path)
    async with started(source, config(tmp_path)) as cache:
        cache.drop(version)
        assert await cache.read(version, whole(version)) == data
    assert source.fetched_bytes == version.size


async def test_the_disk_stays_within_its_limit(source: Source, tmp_path: Path) -> None:
    settings = config(tmp_path, disk_chunks=10)
    async with started(source, settings) as cache:
        for number in range(10):
            version, data = source.put(f"k{number}", 5 * CHUNK)
            assert await cache.read(version, whole(version)) == data
    stored = [path for path in (tmp_path / "chunks").rglob("*") if path.is_file()]
    assert 0 < len(stored) <= 10
    assert cache.stats.disk_bytes <= settings.size_bytes


async def test_a_directory_of_a_newer_storefs_is_refused(source: Source, tmp_path: Path) -> None:
    (tmp_path / "format").write_text("7")
    with pytest.raises(BaseExceptionGroup) as caught:
        async with started(source, config(tmp_path)):
            pass
    assert caught.group_contains(ConfigError, match=str(tmp_path))


async def test_closing_in_the_middle_of_everything_leaves_a_good_directory(
    source: Source, tmp_path: Path
) -> None:
    version, data = source.put("k", 200 * CHUNK)
    async with started(source, config(tmp_path)) as cache, trio.open_nursery() as nursery:
        cache.prefetch_nowait(version, whole(version), request_bytes=CHUNK)
        nursery.start_soon(cache.admit, version, 0, data)
        await trio.sleep(0.005)
        nursery.cancel_scope.cancel()
    async with started(source, config(tmp_path)) as cache:
        assert await cache.read(version, whole(version)) == data
