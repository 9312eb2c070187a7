"""A store that fails, loses answers, falls silent or is slow: nothing lies, nothing hangs."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import eventually
from tests.support.mounting import is_mounted, storefs
from tests.support.places import shows
from tests.support.relay import Exchange, Relay, method

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.places import Place

TIMEOUT = ["--timeout", "3", "--stop-timeout", "6", "--metadata-ttl", "1", "--negative-ttl", "1"]
SLACK = 5  # a busy machine, two processors for all


@pytest.fixture
def broken(own: Callable[..., Place]) -> Place:
    """A mount with short limits, whose store was reached and written to before it breaks."""
    place = own("s3", *TIMEOUT)
    place.bucket.put("d/here", b"")
    place.mount.mount()
    place.mount.sh("echo warm > warm")
    return place


def relay_of(place: Place) -> Relay:
    """The relay of a place that has one."""
    assert place.relay is not None
    return place.relay


def shown_of(place: Place) -> str:
    """What `storefs status` shows a person."""
    shown: str = storefs("status", str(place.mount.path), env=place.mount.env).stdout
    return shown


CLOSE_AND_TELL = """
files = [os.open(f"f{n}", os.O_WRONLY | os.O_CREAT) for n in range(int(sys.argv[1]))]
for n, fd in enumerate(files):
    os.write(fd, b"%d kept " % n * 100)
print("open")
sys.stdin.readline()
for fd in files:
    started = time.monotonic()
    try:
        os.close(fd)
        told = "stored"
    except OSError as error:
        told = errno.errorcode[error.errno]
    print(told, round(time.monotonic() - started, 1))
"""


def closed_while(
    place: Place, breaking: Callable[[], object], count: int = 1
) -> list[tuple[str, float]]:
    """What so many closes answered, and after how many seconds, once the store is broken."""
    with place.mount.talk(CLOSE_AND_TELL, str(count)) as writer:
        assert writer.hear() == "open"
        breaking()
        writer.say("go")
        answers = [writer.hear(timeout=60).split() for _ in range(count)]
        writer.finish()
    return [(told, float(seconds)) for told, seconds in answers]


def test_while_the_store_answers_500_every_close_fails_and_recovery_stores_it_all(
    broken: Place,
) -> None:
    relay = relay_of(broken)
    for told, seconds in closed_while(broken, lambda: relay.answer(500), count=3):
        assert told == "EIO"
        assert seconds <= 3 + SLACK
    shown = shown_of(broken)
    for n in range(3):
        assert re.search(rf"\bf{n}\b", shown), f"f{n} is not shown as pending:\n{shown}"
    assert broken.mount.sh("cat f1").stdout == "1 kept " * 100, "a reader has nothing to fail for"
    relay.heal()
    for n in range(3):
        shows(broken, f"f{n}", b"%d kept " % n * 100, within=40)
    eventually(
        lambda: not re.search(r"\bf[0-2]\b", shown_of(broken)),
        within=20,
        what="status without pending files",
    )
    broken.mount.sh("echo more >> f1")
    assert broken.bucket.get("f1") == b"1 kept " * 100 + b"more\n"


def test_a_reader_gets_the_truth_while_the_store_answers_500(broken: Place) -> None:
    broken.bucket.put("d/file", b"bytes")
    fault = relay_of(broken).answer(500)
    started = time.monotonic()
    assert broken.mount.errno_of('open("d/file").read()') == "EIO"
    assert time.monotonic() - started < 3 + SLACK
    fault.clear()
    assert broken.mount.sh("cat d/file").stdout == "bytes"


def test_a_few_500_are_not_seen_by_the_user(broken: Place) -> None:
    broken.bucket.put("d/file", b"bytes")
    relay_of(broken).answer(503, times=2, code="SlowDown")
    assert broken.mount.sh("cat d/file").stdout == "bytes"
    relay_of(broken).answer(500, when=method("PUT"), times=1)
    broken.mount.sh("echo new > d/new")
    assert broken.bucket.get("d/new") == b"new\n"


def test_a_refused_write_is_eacces_and_its_bytes_are_kept(broken: Place) -> None:
    relay = relay_of(broken)
    answers = closed_while(
        broken, lambda: relay.answer(403, when=method("PUT"), code="AccessDenied")
    )
    assert [told for told, _ in answers] == ["EACCES"]
    shown = shown_of(broken)
    assert "f0" in shown, shown
    kept = [p for p in broken.mount.state_dir.rglob("*") if p.is_file()]
    assert any(b"0 kept 0 kept" in p.read_bytes() for p in kept)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may raise the kernel's max_background")
def test_two_hundred_reads_stuck_on_a_silent_store_do_not_delay_a_cached_one(
    own: Callable[..., Place],
) -> None:
    place = own("s3", "--timeout", "60", "--metadata-ttl", "600")
    place.bucket.put_many({f"stuck/{n}": b"x" * 70_000 for n in range(200)})
    place.bucket.put("cached", b"c" * 3_000_000)
    place.mount.mount()
    place.mount.sh("cat cached | wc -c; ls -l stuck | wc -l")
    fault = relay_of(place).hold(when=method("GET", containing="/stuck/"))
    code = """
    import threading
    def read(n):
        with open(f"stuck/{n}", "rb") as file:
            assert len(file.read()) == 70_000
    threads = [threading.Thread(target=read, args=(n,)) for n in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    """
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(place.mount.py, code, timeout=100)
        eventually(lambda: fault.hits >= 12, within=20, what="requests that are held")
        time.sleep(1)  # the rest of the two hundred reach the kernel's queue
        told = place.mount.py(
            """
            fd = os.open("cached", os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            started = time.monotonic()
            assert os.pread(fd, 4096, 1_000_000) == b"c" * 4096
            print(time.monotonic() - started)
            """,
            timeout=50,
        )
        assert not stuck.done()
        fault.clear()
        stuck.result()
    assert float(told) < 2, told


def lost(place: Place, *verbs: str, containing: str = "") -> Callable[[], int]:
    """Lose the next answer of such a request; how often that has happened."""
    fault = relay_of(place).lose_answer(when=method(*verbs, containing=containing))
    return lambda: fault.hits


def test_a_lost_answer_of_a_put_is_not_a_conflict(broken: Place) -> None:
    hits = lost(broken, "PUT", containing="/d/new")
    broken.mount.sh("cp warm d/new; cat d/new")
    assert (hits(), broken.bucket.get("d/new")) == (1, b"warm\n")
    hits = lost(broken, "PUT", containing="/d/new")
    broken.mount.sh("echo more >> d/new; cat d/new")
    assert (hits(), broken.bucket.get("d/new")) == (1, b"warm\nmore\n")
    assert broken.names("d/") == ["d/here", "d/new"]


def test_a_lost_answer_of_a_multipart_completion_is_not_a_conflict(broken: Place) -> None:
    body = os.urandom(20 * 2**20)
    source = broken.mount.directory / "source"
    source.write_bytes(body)
    hits = lost(broken, "POST", containing="uploadId=")
    broken.mount.sh(f"cp '{source}' large", timeout=60)
    assert (hits(), broken.bucket.get("large")) == (1, body)


def test_a_lost_answer_of_an_upload_s_beginning_or_part_is_not_a_failure(broken: Place) -> None:
    body = os.urandom(20 * 2**20)
    source = broken.mount.directory / "source"
    source.write_bytes(body)
    begun = lost(broken, "POST", containing="?uploads")
    part = lost(broken, "PUT", containing="partNumber=2")
    broken.mount.sh(f"cp '{source}' large", timeout=60)
    assert (begun(), part(), broken.bucket.get("large")) == (1, 1, body)


def test_a_lost_answer_of_a_deletion_is_not_a_failure(broken: Place) -> None:
    broken.mount.sh("cp warm d/gone")
    hits = lost(broken, "DELETE")
    broken.mount.sh("rm d/gone; test ! -e d/gone")
    assert hits() == 1
    assert "d/gone" not in broken.bucket.all_keys("d/")


def test_a_lost_answer_of_a_copy_is_not_a_failure(broken: Place) -> None:
    broken.mount.sh("echo bytes > d/from")

    def is_copy(exchange: Exchange) -> bool:
        return exchange.method == "PUT" and "x-amz-copy-source" in exchange.headers

    fault = relay_of(broken).lose_answer(when=is_copy)
    broken.mount.sh("mv d/from d/to; cat d/to; test ! -e d/from")
    assert fault.hits == 1
    assert broken.bucket.get("d/to") == b"bytes\n"
    assert "d/from" not in broken.bucket.all_keys("d/")


def test_a_body_cut_short_is_fetched_to_its_end(broken: Place) -> None:
    body = os.urandom(6 * 2**20)
    broken.bucket.put("d/file", body)
    expected = broken.mount.directory / "expected"
    expected.write_bytes(body)
    fault = relay_of(broken).truncate(
        when=method("GET", containing="/d/file"), after_bytes=100_000, times=3
    )
    broken.mount.sh(f"cmp d/file '{expected}'")
    assert fault.hits == 3


def test_connections_reset_in_mid_work_are_not_seen_by_the_user(broken: Place) -> None:
    body = os.urandom(20 * 2**20)
    source = broken.mount.directory / "source"
    source.write_bytes(body)
    relay = relay_of(broken)
    relay.link_bytes = 10_000_000
    relay.reset_requests(when=method("PUT", containing="partNumber"), times=2)
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(
            broken.mount.sh, f"cp '{source}' large; cmp large '{source}'", timeout=60
        )
        for wanted in (3, 6, 9):
            eventually(lambda: len(relay.log) >= wanted or work.done(), within=20)  # noqa: B023
            relay.reset_all()
        work.result()
    assert broken.bucket.get("large") == body


def test_a_silent_store_is_answered_with_eio_and_all_works_when_it_is_back(broken: Place) -> None:
    broken.bucket.put("d/file", b"bytes")
    for told, seconds in closed_while(broken, relay_of(broken).stall):
        assert told == "EIO"
        assert seconds < 3 + SLACK
    started = time.monotonic()
    assert broken.mount.errno_of('open("d/file").read()', timeout=40) == "EIO"
    assert time.monotonic() - started < 3 + SLACK
    relay_of(broken).resume()
    assert broken.mount.sh("cat d/file").stdout == "bytes"
    shows(broken, "f0", b"0 kept " * 100, within=40)
    broken.mount.sh("echo new > d/new")
    assert broken.bucket.get("d/new") == b"new\n"


def test_a_store_that_is_gone_and_comes_back_needs_no_new_mount(broken: Place) -> None:
    broken.bucket.put("d/file", b"bytes")
    relay_of(broken).refuse()
    assert broken.mount.errno_of('open("d/file").read()', timeout=40) == "EIO"
    relay_of(broken).accept()
    assert broken.mount.sh("cat d/file").stdout == "bytes"


def test_cached_bytes_are_read_while_the_store_is_silent(own: Callable[..., Place]) -> None:
    place = own("s3", "--timeout", "3", "--metadata-ttl", "600")
    place.bucket.put("file", b"c" * 3_000_000)
    place.mount.mount()
    place.mount.sh("cat file | wc -c")
    relay_of(place).stall()
    code = """
    fd = os.open("file", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.read(fd, 4_000_000) == b"c" * 3_000_000
    """
    place.mount.py(code, timeout=20)


@pytest.mark.parametrize("dirty", [False, True], ids=["clean", "dirty"])
@pytest.mark.parametrize("way", ["umount", "SIGTERM"])
def test_a_mount_of_a_silent_store_still_ends_in_time(broken: Place, way: str, dirty: bool) -> None:
    if dirty:
        closed_while(broken, relay_of(broken).stall)
    else:
        relay_of(broken).stall()
    started = time.monotonic()
    if way == "umount":
        done = broken.mount.umount(check=False, timeout=60)
        if dirty:
            assert done.returncode == 1
            assert "f0" in done.stdout + done.stderr
    else:
        broken.mount.signal(signal.SIGTERM)
    broken.mount.wait_for_end(6 + SLACK)
    assert time.monotonic() - started < 6 + SLACK
    assert not is_mounted(broken.mount.path)
    if dirty:
        relay_of(broken).resume()
        broken.mount.mount()
        eventually(
            lambda: is_safe(broken, "f0", b"0 kept " * 100),
            within=20,
            what="f0 in the bucket, or kept and named",
        )


def is_safe(place: Place, name: str, body: bytes) -> bool:
    """Whether bytes are in the bucket, or kept in the state directory and shown by `status`."""
    try:
        return place.get(name) == body
    except KeyError:
        kept = [p for p in place.mount.state_dir.rglob("*") if p.is_file()]
        return name in shown_of(place) and any(body == p.read_bytes() for p in kept)


@pytest.mark.timeout(180)
def test_a_slow_link_stores_four_mebibytes_however_short_the_timeout(broken: Place) -> None:
    body = os.urandom(4 * 2**20)
    source = broken.mount.directory / "source"
    source.write_bytes(body)
    relay_of(broken).link_bytes = 200_000
    started = time.monotonic()
    broken.mount.sh(f"cp '{source}' slow", timeout=120)
    assert time.monotonic() - started > 15
    relay_of(broken).heal()
    assert broken.bucket.get("slow") == body


@pytest.mark.timeout(180)
def test_a_slow_link_delivers_what_is_read_however_short_the_timeout(broken: Place) -> None:
    body = os.urandom(3 * 2**19)
    broken.bucket.put("slow", body)
    expected = broken.mount.directory / "expected"
    expected.write_bytes(body)
    relay_of(broken).link_bytes = 200_000
    broken.mount.sh(f"cmp slow '{expected}'", timeout=120)


def test_an_upload_damaged_on_the_way_is_sent_again_or_refused(broken: Place) -> None:
    fault = relay_of(broken).corrupt_upload(when=method("PUT", containing="/d/file"))
    broken.mount.sh("cp warm d/file", check=False)
    assert fault.hits == 1
    shows(broken, "d/file", b"warm\n")
