"""Random operations on the cache, side by side, against what the objects really hold."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest
import trio

from storefs.errors import ObjectNotFound, StoreUnavailable
from storefs.units import ByteRange
from tests.cache.sources import CHUNK, Source, config, started

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from storefs.cache import Cache, ObjectVersion

STEPS = 60


class Player:
    """One task that does random things to a few objects and checks every byte it reads."""

    def __init__(self, cache: Cache, source: Source, seed: int, pace: float) -> None:
        self.cache = cache
        self.source = source
        self.choose = random.Random(seed)
        self.versions: list[ObjectVersion] = []
        self.number = seed * 1000
        self.pace = pace  # seconds

    async def play(self) -> None:
        for _ in range(STEPS):
            if not self.versions or self.choose.random() < 0.1:
                self.create()
            version = self.choose.choice(self.versions)
            act = self.choose.choice(
                [self.read, self.read, self.read, self.prefetch, self.admit, self.rename, self.fail]
            )
            with trio.move_on_after(self.pace * self.choose.choice([0.5, 100])):
                await act(version)
            self.cache.check_invariants()

    def create(self) -> None:
        self.number += 1
        size = self.choose.choice([1, CHUNK - 1, CHUNK, 7 * CHUNK + 5, 90 * CHUNK])
        self.versions.append(self.source.put(f"k{self.number}", size)[0])

    async def read(self, version: ObjectVersion) -> None:
        start = self.choose.randrange(version.size)
        span = ByteRange(start, self.choose.randint(start, version.size))
        whole = self.choose.random() < 0.5
        try:
            found = await self.cache.read(version, span, whole_chunks=whole)
        except (StoreUnavailable, ObjectNotFound):
            return
        assert found == self.source.objects[version.key][1][span.start : span.stop]

    async def prefetch(self, version: ObjectVersion) -> None:
        span = ByteRange(self.choose.randrange(version.size), version.size)
        reached = self.cache.prefetch_nowait(version, span, request_bytes=3 * CHUNK)
        assert span.start <= reached <= span.stop
        if self.choose.random() < 0.5:
            await trio.sleep(self.pace * self.choose.random())
            self.cache.abandon(version, span)

    async def admit(self, version: ObjectVersion) -> None:
        start = self.choose.randrange(version.size) // CHUNK * CHUNK
        await self.cache.admit(version, start, self.source.objects[version.key][1][start:])

    async def rename(self, version: ObjectVersion) -> None:
        self.versions.remove(version)
        self.number += 1
        new, _ = self.source.put(f"k{self.number}", version.size, "renamed")
        self.source.objects[new.key] = ("renamed", self.source.objects[version.key][1])
        self.cache.rename(version, new)
        if self.choose.random() < 0.5:
            self.cache.drop(version)
        self.versions.append(new)

    async def fail(self, version: ObjectVersion) -> None:
        self.source.failures.append(StoreUnavailable("now and then"))


async def play(source: Source, cache: Cache, seed: int, pace: float) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(Player(cache, source, 10 * seed + number, pace).play)


@pytest.mark.parametrize("seed", range(12))
async def test_in_memory_every_read_is_right_and_memory_is_given_back(
    seed: int, autojump_clock: MockClock
) -> None:
    source = Source(delay_seconds=0.3)
    settings = config(chunks=[1, 5, 16, 64][seed % 4])
    async with started(source, settings) as cache:
        await play(source, cache, seed, 1.0)
        await trio.sleep(100)
        assert cache.stats.in_flight_bytes == 0


@pytest.mark.parametrize("seed", range(6))
async def test_on_disk_every_read_is_right_whatever_happens_to_the_directory(
    seed: int, tmp_path: Path
) -> None:
    source = Source(delay_seconds=0.0005)
    directory = tmp_path / "cache"
    settings = config(directory, chunks=16, disk_chunks=[30, 1000][seed % 2])

    async def destroy() -> None:
        choose = random.Random(seed)
        while True:
            await trio.sleep(0.02)
            found = [
                os.path.join(top, name) for top, _, names in os.walk(directory) for name in names
            ]
            if seed % 3 == 0 or not found:
                shutil.rmtree(directory, ignore_errors=True)
            elif seed % 3 == 1:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(choose.choice(found))

    async with (
        started(source, settings) as one,
        started(source, settings) as two,
        trio.open_nursery() as destroyer,
    ):
        destroyer.start_soon(destroy)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play, source, one, seed, 0.01)
            nursery.start_soon(play, source, two, seed + 100, 0.01)
        destroyer.cancel_scope.cancel()
