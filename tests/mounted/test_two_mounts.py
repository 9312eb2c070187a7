"""Several mounts, and other programs, on one bucket: each sees the others' changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.places import Place

TTL_SECONDS = 1.0
TTL = ["--metadata-ttl", "1", "--negative-ttl", "1"]
GRACE = 2.0


@pytest.fixture
def pair(own: Callable[..., Place], kind: str) -> tuple[Place, Place]:
    """Two mounts of one bucket, with caches and state of their own."""
    one = own(kind, *TTL)
    two = own(kind, *TTL, like=one)
    one.mount.mount()
    two.mount.mount()
    return one, two


def soon(place: Place, script: str) -> None:
    """A shell condition becomes true within the time to live (and what a busy machine adds)."""
    started = time.monotonic()
    eventually(
        lambda: place.mount.sh(script, check=False).returncode == 0,
        within=TTL_SECONDS + GRACE,
        what=script,
    )
    assert time.monotonic() - started <= TTL_SECONDS + GRACE


def test_what_one_mount_does_the_other_sees_within_the_time_to_live(
    pair: tuple[Place, Place],
) -> None:
    one, two = pair
    two.mount.sh("test ! -e d; ls")
    one.mount.sh("mkdir d; echo first > d/file")
    soon(two, "test $(cat d/file) = first")
    two.mount.sh("echo second > d/file")
    soon(one, "test $(cat d/file) = second")
    one.mount.sh("echo third >> d/file")
    soon(two, 'test "$(tail -n1 d/file)" = third')
    two.mount.sh("mv d/file d/moved")
    soon(one, "test ! -e d/file && test -e d/moved")
    one.mount.sh("rm d/moved")
    soon(two, 'test ! -e d/moved && test -z "$(ls d)"')


def test_a_listing_follows_changes_from_outside(pair: tuple[Place, Place]) -> None:
    one, two = pair
    one.bucket.put_many({f"l/{n}": b"x" for n in range(20)})
    for place in pair:
        assert len(place.mount.sh("ls l").stdout.split()) == 20
    one.bucket.delete("l/7")
    one.bucket.put("l/new", b"12345")
    for place in pair:
        soon(place, "test ! -e l/7 && test $(stat -c %s l/new) = 5 && test $(ls l | wc -l) = 20")
    two.mount.sh("rm -r l")
    soon(one, "test ! -e l/1")


def test_a_replaced_object_is_never_a_mixture_of_two_versions(pair: tuple[Place, Place]) -> None:
    one, _ = pair
    old, new = b"a" * 9_000_000, b"b" * 9_000_000
    one.bucket.put("file", old)
    one.mount.sh("head -c 10 file")
    code = """
    fd = os.open("file", os.O_RDONLY)
    seen = set(os.pread(fd, 100, 0))
    print("open")
    sys.stdin.readline()
    try:
        for at in range(0, 9_000_000, 1_000_000):
            seen |= set(os.pread(fd, 100, at))
    except OSError as error:
        assert error.errno == errno.ESTALE, error
    assert seen == {ord("a")}, seen
    """
    with one.mount.talk(code) as reader:
        assert reader.hear() == "open"
        one.bucket.put("file", new)
        reader.say("go")
        reader.finish()
    soon(one, 'test "$(tail -c 3 file)" = bbb')


CONFLICT = """
fd = os.open("file", os.O_RDWR)
os.pwrite(fd, b"LOSER", 0)
print("dirty")
sys.stdin.readline()
for end in (os.fsync, os.close):
    try:
        end(fd)
        print("stored")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


def test_of_two_writers_the_later_one_gets_estale_and_overwrites_nothing(
    pair: tuple[Place, Place],
) -> None:
    one, two = pair
    one.bucket.put("file", b"0123456789")
    one.mount.sh("cat file")
    with one.mount.talk(CONFLICT) as loser:
        assert loser.hear() == "dirty"
        two.mount.sh("echo winner > file")
        loser.say("go")
        told = loser.finish()
    assert told.split()[0] == "ESTALE", told
    assert one.bucket.get("file") == b"winner\n"
    soon(one, "test $(cat file) = winner")
    kept = [p for p in one.mount.state_dir.rglob("*") if p.is_file() and p.stat().st_size]
    names = one.bucket.all_keys()
    in_bucket = [n for n in names if ".conflict-" in n and one.bucket.get(n) == b"LOSER56789"]
    assert in_bucket or any(b"LOSER" in p.read_bytes() for p in kept), (names, kept)


def test_two_mounts_that_create_one_name_do_not_overwrite_each_other(
    pair: tuple[Place, Place],
) -> None:
    one, two = pair
    code = """
    fd = os.open("new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, sys.argv[1].encode())
    print("open")
    sys.stdin.readline()
    try:
        os.close(fd)
        print("stored")
    except OSError as error:
        print(errno.errorcode[error.errno])
    """
    with one.mount.talk(code, "one") as first, two.mount.talk(code, "two") as second:
        both = (first, second)
        assert [writer.hear() for writer in both] == ["open", "open"]
        for writer in both:
            writer.say("go")
        told = [writer.finish().strip() for writer in both]
    assert told.count("stored") == 1, told
    assert set(told) - {"stored"} <= {"ESTALE", "EEXIST"}, told
    assert one.bucket.get("new") == (b"one" if told[0] == "stored" else b"two")


def test_an_object_changed_between_two_opens_is_seen_by_the_second(
    pair: tuple[Place, Place],
) -> None:
    """With a listing and page cache warm: same name, same size, other bytes."""
    one, _ = pair
    one.bucket.put("d/file", b"one")
    one.mount.sh("ls -l d; test $(cat d/file) = one")
    one.bucket.put("d/file", b"two")
    soon(one, "test $(cat d/file) = two")


def test_a_ttl_of_zero_sees_every_change_at_once(own: Callable[..., Place], kind: str) -> None:
    place = own(kind, "--metadata-ttl", "0", "--negative-ttl", "0")
    place.mount.mount()
    place.mount.sh("test ! -e file")
    for n in range(4):
        place.bucket.put("file", b"%d" % n)
        assert place.mount.sh("cat file").stdout == str(n)
    place.bucket.delete("file")
    place.mount.sh("test ! -e file")


def test_a_read_only_mount_reads_and_refuses_to_write(own: Callable[..., Place], kind: str) -> None:
    place = own(kind, "--read-only")
    place.bucket.put("d/file", b"bytes")
    before = place.bucket.all_keys()
    place.mount.mount()
    assert place.mount.sh("cat d/file; ls d").stdout == "bytesfile\n"
    for expression in (
        'open("d/file", "a")',
        'open("new", "w")',
        'os.mkdir("new")',
        'os.unlink("d/file")',
        'os.rename("d/file", "new")',
        'os.truncate("d/file", 0)',
    ):
        assert place.mount.errno_of(expression) == "EROFS", expression
    assert place.bucket.all_keys() == before


def test_a_prefix_is_all_that_its_mount_sees_and_touches(
    own: Callable[..., Place], kind: str
) -> None:
    if kind == "local":
        pytest.skip("a local bucket is mounted whole")
    place = own(kind)
    place.bucket.put("inside/deep/file", b"in")
    place.bucket.put("outside", b"out")
    place.bucket.put("inside-not", b"out")
    place.mount.url += "/inside"
    place.mount.mount()
    assert place.mount.sh("find . -type f").stdout == "./deep/file\n"
    place.mount.sh("echo new > new; rm -r deep")
    assert [k for k in place.bucket.all_keys() if not k.endswith("/")] == [
        "inside-not",
        "inside/new",
        "outside",
    ]
