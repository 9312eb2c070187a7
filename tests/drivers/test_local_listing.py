"""A directory as a bucket: listings, and many at work in it at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from storefs.drivers import local_listing
from tests.drivers.conftest import Place, files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest


# -- listing -------------------------------------------------------------------------------------


def test_a_large_directory_is_read_once_for_all_its_pages(
    local: Place, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        (root / f"{number:03d}").touch()
    os.utime(root, ns=(0, 0))  # changed long ago
    scans: list[object] = []
    scandir = os.scandir

    def counted(path: Any) -> Any:
        scans.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)

    marker, names = None, []
    while True:
        page, marker = local.page(max_keys=7, marker=marker)
        names += [found.name for found in page]
        if marker is None:
            break

    assert names == [f"{number:03d}" for number in range(60)]
    assert len(scans) == 1


def test_a_directory_that_has_just_changed_is_read_again(
    local: Place, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels stamp a directory every 4 ms: two changes may leave one time."""
    monkeypatch.setattr(local_listing, "_SETTLED_NS", 10**18)
    (root / "a").touch()
    assert local.keys() == ["a"]
    stamp = root.stat()
    (root / "b").touch()
    os.utime(root, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    assert local.keys() == ["a", "b"]


def test_pages_go_on_though_objects_come_and_go(local: Place) -> None:
    for name in ("b", "d/x", "d/y", "f"):
        local.put(name, b"x")
    page, marker = local.page(max_keys=2)
    assert [found.name for found in page] == ["b", "d/x"]

    local.delete("d/x")
    local.put("a", b"x")
    local.put("e", b"x")

    assert [found.name for found in local.page(marker=marker)[0]] == ["d/y", "e", "f"]


def test_the_order_is_that_of_the_bytes_of_whole_keys(local: Place) -> None:
    keys = sorted(["a-", "a/b", "a.", "a0", "a/b-", "a/b.x/y", "a/c/", "b\U0001f600", "b\uffee"])
    for key in keys:
        local.put(key, b"" if key.endswith("/") else b"x")

    assert local.keys() == sorted(keys, key=str.encode)


# -- many processes ------------------------------------------------------------------------------

_WRITER = """
import sys
from storefs.drivers.local import LocalDriver
from storefs.drivers.local_connection import LocalConnection
from storefs.errors import PositionMismatch
driver, connection = LocalDriver(), LocalConnection(durable=False)
bucket, line = sys.argv[1], sys.argv[2].encode()
position = 0
for _ in range(20):
    while True:
        try:
            position = driver.append_object(
                connection, line, bucket, "log", position
            ).next_position
            break
        except PositionMismatch as exc:
            position = exc.length
"""


def test_appends_of_two_processes_are_all_there(local: Place) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", _WRITER, local.bucket, line], env=_environment())
        for line in ("aaaa\n", "bbbb\n")
    ]
    assert [process.wait(60) for process in processes] == [0, 0]

    lines = local.get("log").splitlines()
    assert sorted(lines) == [b"aaaa"] * 20 + [b"bbbb"] * 20


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_objects_come_into_directories_that_go(local: Place, root: Path) -> None:
    """A delete takes the empty directory away that a put of the same moment needs."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def churn(key: str) -> None:
        try:
            while not stop.is_set():
                local.put(key, b"x")
                assert local.get(key) == b"x"
                local.delete(key)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=churn, args=(f"d/e/{name}",)) for name in "abcd"]
    for thread in threads:
        thread.start()
    time.sleep(0.5)  # how long to try, not what is waited for
    stop.set()
    for thread in threads:
        thread.join()

    assert errors == []
    assert files(root) == set()


def test_a_version_is_told_the_same_before_and_after_its_commit(local: Place) -> None:
    """Readers beside a writer see ETags of versions that were put, never one in between."""
    put: set[str] = {local.put("key", b"0").extra["etag"]}
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> Iterator[None]:
        while not stop.is_set():
            seen.add(local.head("key").etag)
            seen.update(found.etag for found in local.page()[0])
            yield

    thread = threading.Thread(target=lambda: list(watch()))
    thread.start()
    for number in range(150):
        put.add(local.put("key", str(number).encode()).extra["etag"])
    stop.set()
    thread.join()

    assert seen <= put
