"""Hundreds of random operations give the same answers as on a local directory, every one."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.commands import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.places import Place

SCRIPT = Path(__file__).parent / "apply_operations.py"
NAMES = ["a", "b", "c", "d", "e", "f"]
OPEN_FLAGS = [
    os.O_RDONLY,
    os.O_RDWR,
    os.O_RDWR | os.O_CREAT,
    os.O_RDWR | os.O_CREAT | os.O_EXCL,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_WRONLY | os.O_APPEND,
]
WEIGHTS = {
    "write_file": 10,
    "append": 6,
    "read_file": 10,
    "truncate": 5,
    "unlink": 6,
    "mkdir": 6,
    "rmdir": 4,
    "rename": 10,
    "list": 8,
    "stat": 8,
    "symlink": 2,
    "readlink": 2,
    "open": 8,
    "close": 6,
    "pwrite": 10,
    "pread": 8,
    "ftruncate": 4,
    "fsync": 3,
    "fstat": 4,
}


def operations(seed: int, count: int) -> list[list[Any]]:
    """So many operations on a handful of names, so that they meet one another."""
    rng = random.Random(seed)

    def name() -> str:
        return "/".join(rng.choice(NAMES) for _ in range(rng.choice([1, 1, 2, 2, 3])))

    def data() -> str:
        return rng.choice("uvwxyz") * rng.choice([0, 1, 10, 5000, 70_000])

    def size() -> int:
        return rng.choice([0, 1, 100, 4096, 5000, 80_000])

    arguments: dict[str, Callable[[], list[Any]]] = {
        "write_file": lambda: [name(), data()],
        "append": lambda: [name(), data()],
        "truncate": lambda: [name(), size()],
        "rename": lambda: [name(), name()],
        "list": lambda: [rng.choice([".", name()])],
        "symlink": lambda: ["nowhere", name()],
        "open": lambda: [rng.randrange(4), name(), rng.choice(OPEN_FLAGS)],
        "close": lambda: [rng.randrange(4)],
        "pwrite": lambda: [rng.randrange(4), data(), size()],
        "pread": lambda: [rng.randrange(4), size(), size()],
        "ftruncate": lambda: [rng.randrange(4), size()],
        "fsync": lambda: [rng.randrange(4)],
        "fstat": lambda: [rng.randrange(4)],
    }
    chosen = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
    return [[one, *(arguments[one]() if one in arguments else [name()])] for one in chosen]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_operations_match_a_local_directory(place: Place, tmp_path: Path, seed: int) -> None:
    local = tmp_path / "local"
    local.mkdir()
    todo = operations(seed, 500)
    done = run(
        [sys.executable, str(SCRIPT), str(place.path), str(local)],
        env=place.mount.env,
        stdin=json.dumps(todo),
        timeout=120,
        check=False,
        when_stuck=place.mount.kill,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    place.mount.remount(empty_cache=True)
    place.sh(f"diff -r --no-dereference . '{local}'")
    expected = {
        str(path.relative_to(local)): path.read_bytes()
        for path in local.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    for name, body in expected.items():
        assert place.get(name) == body, name
    links = {str(path.relative_to(local)) for path in local.rglob("*") if path.is_symlink()}
    assert set(place.names()) - links == set(expected)
