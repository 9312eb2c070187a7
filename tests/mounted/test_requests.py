"""What everyday work costs in requests, counted outside the process by the relay.

Each count begins when the mount is ready, on a mount that knows nothing of the bucket yet. The
store's conditional writes were probed by an earlier mount with the same state directory, as on any
machine that has mounted this store before.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.relay import Relay

from tests.support.buckets import S3Bucket
from tests.support.mounting import Mount
from tests.support.places import Place, Probed

NOT_WAITED_FOR = {"forget", "release", "releasedir"}


@pytest.fixture(scope="module")
def known(probed: Probed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A bucket with some objects in it, on a server whose conditional writes are known."""
    whole, relay = probed.bucket, probed.relay
    bucket = S3Bucket(whole.server, whole.endpoint_url, name=whole.name, prefix="counted/")
    mount = Mount(
        bucket.url, tmp_path_factory.mktemp("counted"), env=bucket.env, flags=bucket.flags
    )
    mount.state_dir.mkdir(mode=0o700)
    shutil.copy(probed.noted, mount.state_dir)
    bucket.put("dir/file", b"hello")
    bucket.put_many({f"many/{n:04}": b"x" * (n % 7) for n in range(1000)})
    bucket.put_many({f"few/{n}": b"x" for n in range(5)})
    yield Place(mount, bucket, relay=relay)
    mount.close()


@pytest.fixture
def fresh(known: Place) -> Iterator[Place]:
    """The bucket newly mounted, and the relay's log empty."""
    assert known.relay is not None
    known.relay.forget()
    known.mount.mount()
    started = known.relay.log
    assert len(started) <= 2, f"the mount itself sent more than two:\n{known.relay.story()}"
    known.relay.forget()
    yield known
    known.relay.heal()
    known.mount.umount()


def relay_of(place: Place) -> Relay:
    """The relay of a place that has one."""
    assert place.relay is not None
    return place.relay


def test_cat_of_a_file_in_a_directory_costs_three_requests_in_two_round_trips(
    fresh: Place,
) -> None:
    relay = relay_of(fresh)
    relay.latency_seconds = 0.2
    assert fresh.mount.sh("cat dir/file").stdout == "hello"
    assert len(relay.log) <= 3, relay.story()
    assert relay.round_trips() <= 2, relay.story()
    assert relay.counts()["GET"] >= 1


def test_cat_again_costs_nothing(fresh: Place) -> None:
    relay = relay_of(fresh)
    fresh.mount.sh("cat dir/file")
    relay.forget()
    assert fresh.mount.sh("cat dir/file").stdout == "hello"
    assert not relay.log, relay.story()


def test_ls_of_a_thousand_entries_costs_two_requests_and_hardly_more_than_its_pages(
    fresh: Place,
) -> None:
    relay = relay_of(fresh)
    before = fresh.mount.fuse_requests()
    assert len(fresh.mount.sh("ls -l many").stdout.splitlines()) == 1001
    assert len(relay.log) <= 2, relay.story()
    after = fresh.mount.fuse_requests()
    asked = {
        name: count - before.get(name, 0)
        for name, count in after.items()
        if count > before.get(name, 0) and name not in NOT_WAITED_FOR
    }
    pages = asked.pop("readdir")
    assert pages <= 10, asked
    # `ls` itself asks for two attributes of the directory before it gives up on all entries.
    assert asked.pop("getxattr", 0) <= 2, asked
    assert sum(asked.values()) <= 2, asked


def test_a_new_small_file_in_a_known_directory_costs_the_put_and_one_more_at_most(
    fresh: Place, tmp_path: Path
) -> None:
    relay = relay_of(fresh)
    source = tmp_path / "source"
    source.write_bytes(b"small")
    fresh.mount.sh("ls few")
    relay.forget()
    fresh.mount.sh(f"cp '{source}' few/new-file")
    assert fresh.bucket.get("few/new-file") == b"small"
    assert relay.counts()["PUT"] == 1, relay.story()
    assert len(relay.log) <= 2, relay.story()
    relay.forget()
    assert fresh.mount.sh("cat few/new-file").stdout == "small"
    assert not relay.log, f"reading it back is not free:\n{relay.story()}"


def test_a_line_echoed_into_a_new_file_costs_two_puts_at_most(fresh: Place) -> None:
    relay = relay_of(fresh)
    fresh.mount.sh("ls few")
    relay.forget()
    fresh.mount.sh("sh -c 'echo hi > few/echoed'")
    assert fresh.bucket.get("few/echoed") == b"hi\n"
    assert relay.counts()["PUT"] <= 2, relay.story()


def test_a_loop_redirected_into_a_file_costs_one_put_for_each_flush_with_something_dirty(
    fresh: Place,
) -> None:
    """Six: the empty new file when the shell moves its descriptor, then one for each `echo`."""
    relay = relay_of(fresh)
    fresh.mount.sh("for n in 1 2 3 4 5; do /bin/echo $n; done > few/looped")
    assert fresh.bucket.get("few/looped") == b"1\n2\n3\n4\n5\n"
    assert relay.counts()["PUT"] <= 6, relay.story()


def test_many_builtin_writes_to_one_open_file_are_not_a_put_each(fresh: Place) -> None:
    relay = relay_of(fresh)
    code = """
    with open("few/lines", "wb", buffering=0) as file:
        for n in range(200):
            file.write(b"%d\\n" % n)
    """
    fresh.mount.py(code)
    assert relay.counts()["PUT"] == 1, relay.story()


def test_a_deletion_costs_one_delete(fresh: Place) -> None:
    relay = relay_of(fresh)
    fresh.bucket.put("gone/soon", b"x")
    fresh.mount.sh("ls gone; rm gone/soon")
    assert relay.counts()["DELETE"] == 1, relay.story()
    assert "gone/soon" not in fresh.bucket.all_keys("gone/")


def test_writing_a_large_file_sends_each_byte_once(fresh: Place) -> None:
    relay = relay_of(fresh)
    size = 20 * 2**20
    fresh.mount.sh(f"head -c {size} /dev/urandom > large", timeout=60)
    sent = sum(one.bytes_up for one in relay.log if one.method == "PUT")
    assert size <= sent < size * 1.01, relay.story()


def test_appending_a_line_to_a_large_object_moves_little(fresh: Place) -> None:
    relay = relay_of(fresh)
    fresh.bucket.put("grown", bytes(range(256)) * 2**18)
    fresh.mount.sh("ls .")
    relay.forget()
    fresh.mount.sh("echo line >> grown")
    assert fresh.bucket.head("grown").size == 2**26 + 5
    moved = sum(one.bytes_up + one.bytes_down for one in relay.log)
    assert moved < 2**16, relay.story()


def test_random_reads_fetch_what_was_asked(fresh: Place) -> None:
    relay = relay_of(fresh)
    fresh.bucket.put("random", bytes(range(256)) * 2**17)
    code = """
    import random
    rng = random.Random(5)
    fd = os.open("random", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for _ in range(20):
        at = rng.randrange(0, 2**25 - 65536)
        assert os.pread(fd, 65536, at) == bytes((at + n) % 256 for n in range(65536))
    """
    fresh.mount.py(code)
    down = sum(one.bytes_down for one in relay.log if one.method == "GET")
    assert down < 2**25 * 0.9, relay.story()
