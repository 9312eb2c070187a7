"""Large files and large directories, in bounded memory."""

from __future__ import annotations

import hashlib
import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.places import Place

MIB = 2**20


def write_random(path: Path, size: int, seed: int) -> str:
    """A file of reproducible bytes; its SHA-256."""
    rng = random.Random(seed)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // MIB):
            piece = rng.randbytes(MIB)
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


@pytest.mark.timeout(240)
def test_a_large_file_goes_in_and_comes_back_within_the_memory_limit(
    own: Callable[..., Place], kind: str, tmp_path: Path
) -> None:
    limit = 256 * MIB
    place = own(kind, "--memory-limit", "256M")
    source = tmp_path / "source"
    digest = write_random(source, 300 * MIB, 3)
    place.mount.mount()
    place.mount.sh(f"cp '{source}' large", timeout=120)
    assert place.bucket.head("large").size == 300 * MIB
    wrote = place.mount.high_water_bytes()
    place.mount.remount(empty_cache=True)
    assert place.mount.sh("sha256sum large", timeout=120).stdout.split()[0] == digest
    read = place.mount.high_water_bytes()
    assert wrote <= limit, f"{wrote / MIB:.0f} MiB while writing"
    assert read <= limit, f"{read / MIB:.0f} MiB while reading"
    run(["rm", "-f", str(source)], env=place.mount.env)


def test_readers_at_many_places_of_one_file_get_the_right_bytes(place: Place) -> None:
    body = random.Random(4).randbytes(20 * MIB)
    place.put("file", body)
    code = """
    import concurrent.futures, hashlib, random
    fd = os.open("file", os.O_RDONLY)
    rng = random.Random(1)
    spans = [(rng.randrange(0, 20 << 20), rng.choice([1, 4096, 70_000, 1 << 20]))
             for _ in range(60)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for (at, size), data in zip(spans, pool.map(lambda s: os.pread(fd, s[1], s[0]), spans)):
            print(at, size, hashlib.md5(data).hexdigest())
    """
    for line in place.py(code, timeout=60).split("\n"):
        at, size, digest = line.split()
        piece = body[int(at) : int(at) + int(size)]
        assert digest == hashlib.md5(piece).hexdigest(), line


def test_many_writers_at_once_store_every_file(place: Place) -> None:
    code = """
    import concurrent.futures
    def write(n):
        with open(f"f{n}", "wb") as file:
            for k in range(4):
                file.write(b"%d " % n * 20_000)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(60)))
    """
    place.py(code, timeout=60)
    assert place.names() == sorted(f"f{n}" for n in range(60))
    for n in range(60):
        assert place.get(f"f{n}") == b"%d " % n * 80_000


def test_a_large_directory_lists_every_name_once(place: Place) -> None:
    names = [f"entry-{n:05}{'x' * (n % 40)}" for n in range(5000)]
    place.put_many({f"many/{name}": b"" for name in names})
    place.put("many/entry-00007/below", b"")
    expected = sorted([*names, "entry-00007"])
    listed = place.out("ls -U many", timeout=60).split("\n")
    assert len(listed) == len(set(listed)), "some names are listed twice"
    assert sorted(listed) == expected
    assert place.out("find many -type f | wc -l", timeout=60) == "5001"
    assert place.out("ls -lU many | wc -l", timeout=60) == "5002"


def test_a_listing_in_small_steps_with_changes_meanwhile_keeps_what_stays(place: Place) -> None:
    place.put_many({f"many/{n:04}": b"" for n in range(2500)})
    code = """
    seen = []
    with os.scandir("many") as entries:
        for n, entry in enumerate(entries):
            seen.append(entry.name)
            if n % 100 == 50:
                os.unlink(f"many/{n - 50:04}")
                open(f"many/new{n}", "w").close()
    assert len(seen) == len(set(seen)), "a name came twice"
    missing = {f"{n:04}" for n in range(2500)} - set(seen)
    assert not {name for name in missing if int(name) % 100}, missing
    print(len(os.listdir("many")))
    """
    assert int(place.py(code, timeout=60)) == 2500


@pytest.mark.parametrize("size", [8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB, 17 * MIB + 5])
def test_sizes_around_a_part_are_stored_whole(place: Place, size: int) -> None:
    body = os.urandom(size)
    source = place.mount.directory / "source"
    source.write_bytes(body)
    place.sh(f"cp '{source}' file; cmp file '{source}'")
    assert place.get("file") == body
    place.sh(f"printf END >> file; printf MID | dd of=file bs=1 seek={size // 2} conv=notrunc")
    edited = bytearray(body + b"END")
    edited[size // 2 : size // 2 + 3] = b"MID"
    assert place.get("file") == bytes(edited)
