"""The daemon killed, the cache taken away, the service stopped: what was acknowledged is there."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from tests.support.commands import eventually, run
from tests.support.mounting import is_mounted, storefs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.places import Place


def test_a_killed_daemon_is_cleaned_up_after_by_the_next_mount(
    own: Callable[..., Place], kind: str
) -> None:
    place = own(kind)
    place.mount.mount()
    place.mount.sh("mkdir d; echo kept > d/file")
    place.mount.kill()
    assert is_mounted(place.mount.path), "the dead mount should still be in the way"
    told = place.mount.mount() + place.mount.log()
    assert str(place.mount.path) in told
    assert any(word in told.lower() for word in ("dead", "clean", "left behind", "stale")), told
    place.mount.sh("test $(cat d/file) = kept; echo more >> d/file")
    assert place.bucket.get("d/file") == b"kept\nmore\n"
    place.mount.umount()


def test_what_was_closed_before_the_kill_is_in_the_bucket(
    own: Callable[..., Place], kind: str
) -> None:
    """A writer that works file by file is cut off; each file that it finished is whole."""
    place = own(kind)
    place.mount.mount()
    finished = place.mount.directory / "finished"
    finished.touch()
    code = """
    out = open(sys.argv[1], "a")
    for n in range(10_000):
        with open(f"f{n}", "wb") as file:
            file.write(b"%d " % n * 1000)
        print(n, file=out, flush=True)
    """
    with place.mount.talk(code, str(finished)):
        eventually(lambda: len(finished.read_text().split()) >= 15, what="fifteen files")
        place.mount.kill()
    done = [int(word) for word in finished.read_text().split()]
    for n in done:
        assert place.bucket.get(f"f{n}") == b"%d " % n * 1000
    place.mount.mount()
    for n in done[-3:]:
        assert place.mount.sh(f"cat f{n}").stdout == f"{n} " * 1000


def test_bytes_of_a_file_open_at_the_kill_are_kept_and_named(
    own: Callable[..., Place], kind: str
) -> None:
    place = own(kind)
    place.mount.mount()
    code = """
    file = open("precious", "wb", buffering=0)
    file.write(b"only copy " * 1000)
    print("written")
    time.sleep(600)
    """
    staging = place.mount.state_dir
    with place.mount.talk(code) as writer:
        assert writer.hear() == "written"
        place.mount.kill()
    place.mount.mount()
    kept = [
        path
        for path in staging.rglob("*")
        if path.is_file() and path.stat().st_size >= 10_000 and b"only copy" in path.read_bytes()
    ]
    assert kept, "the bytes are gone"
    shown = storefs("status", str(place.mount.path), env=place.mount.env).stdout
    assert "precious" in shown, shown
    assert "precious" in place.mount.log()


def test_the_cache_may_be_deleted_under_a_busy_mount(own: Callable[..., Place], kind: str) -> None:
    place = own(kind, "--metadata-ttl", "1")
    body = os.urandom(24 * 2**20)
    place.bucket.put("large", body)
    place.mount.mount()
    expected = place.mount.directory / "expected"
    expected.write_bytes(body)
    stop = threading.Event()
    cache = place.mount.cache_dir

    def delete() -> None:
        while not stop.is_set():
            run(["rm", "-rf", str(cache)], env=place.mount.env, check=False)
            stop.wait(0.05)

    deleter = threading.Thread(target=delete)
    deleter.start()
    try:
        place.mount.sh(
            f"""
            for n in 1 2 3; do
                cmp large '{expected}'
                dd if=large of=/dev/null iflag=direct bs=1M status=none || true
                cp '{expected}' copy$n
                echo $n >> appended
            done
            cmp copy2 '{expected}'
            """,
            timeout=90,
        )
    finally:
        stop.set()
        deleter.join()
    assert place.bucket.get("copy1") == place.bucket.get("copy3") == body
    assert place.bucket.get("appended") == b"1\n2\n3\n"
    place.mount.umount()


def test_damaged_chunks_in_the_cache_are_fetched_again(
    own: Callable[..., Place], kind: str
) -> None:
    place = own(kind)
    body = os.urandom(6 * 2**20)
    place.bucket.put("file", body)
    expected = place.mount.directory / "expected"
    expected.write_bytes(body)
    place.mount.mount()
    place.mount.sh(f"cmp file '{expected}'")
    place.mount.umount()
    damaged = 0
    for path in place.mount.cache_dir.rglob("*"):
        if path.is_file() and path.stat().st_size >= 2**19:
            with path.open("r+b") as file:
                file.seek(path.stat().st_size // 2)
                old = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([old[0] ^ 1]))
            damaged += 1
    assert damaged, "there are no chunks in the cache directory"
    place.mount.mount()
    place.mount.sh(f"cmp file '{expected}'")


def test_what_was_read_is_served_from_the_cache_after_a_new_mount(
    own: Callable[..., Place],
) -> None:
    place = own("s3")
    assert place.relay is not None
    place.bucket.put("file", os.urandom(6 * 2**20))
    place.mount.mount()
    first = place.mount.sh("cksum file").stdout
    place.mount.remount()
    place.relay.forget()
    assert place.mount.sh("cksum file").stdout == first
    assert place.relay.counts()["GET"] <= 1, place.relay.story()
    assert sum(one.bytes_down for one in place.relay.log) < 100_000, place.relay.story()


def test_sigterm_stores_what_is_dirty_and_unmounts(own: Callable[..., Place], kind: str) -> None:
    place = own(kind, "--stop-timeout", "20")
    place.mount.mount()
    code = """
    file = open("open", "wb", buffering=0)
    file.write(b"x" * 300_000)
    print("written")
    sys.stdin.readline()
    """
    with place.mount.talk(code) as writer:
        assert writer.hear() == "written"
        place.mount.signal(signal.SIGTERM)
        place.mount.wait_for_end(25)
    assert not is_mounted(place.mount.path)
    kept = list(place.mount.state_dir.rglob("*"))
    in_bucket = "open" in place.bucket.all_keys()
    assert in_bucket or any(p.is_file() and p.stat().st_size >= 300_000 for p in kept)
    if in_bucket:
        assert place.bucket.get("open") == b"x" * 300_000


def test_hang_up_and_broken_pipe_do_not_end_the_daemon(own: Callable[..., Place]) -> None:
    place = own("local")
    place.mount.mount()
    place.mount.signal(signal.SIGHUP)
    place.mount.signal(signal.SIGPIPE)
    place.mount.sh("echo alive > file; cat file")
    assert place.bucket.get("file") == b"alive\n"


def test_umount_names_who_keeps_the_mount_busy(own: Callable[..., Place]) -> None:
    place = own("local")
    place.mount.mount()
    with place.mount.talk('print("here"); sys.stdin.readline()') as busy:
        assert busy.hear() == "here"
        done = place.mount.umount(check=False)
        told = done.stdout + done.stderr
        assert done.returncode != 0
        assert str(busy.process.pid) in told, told
        assert is_mounted(place.mount.path)
        busy.say("go")
        busy.finish()
    place.mount.umount()
