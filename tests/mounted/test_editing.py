"""Files changed in place, the ways programs do it."""

from __future__ import annotations

import os
import random
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.support.places import shows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.places import Place


def test_a_line_is_appended(place: Place) -> None:
    place.put("log", b"one\n")
    place.sh("echo two >> log; echo three >> log; echo new >> other; cat log")
    assert place.get("log") == b"one\ntwo\nthree\n"
    assert place.get("other") == b"new\n"


def test_a_line_is_appended_to_a_large_object(place: Place) -> None:
    body = os.urandom(12 * 2**20)
    place.put("large", body)
    place.sh("echo tail >> large; tail -c 5 large")
    assert place.get("large") == body + b"tail\n"


def test_sed_edits_in_place(place: Place) -> None:
    place.put("conf", b"a = 1\nb = 2\n")
    place.sh("sed -i 's/^b.*/b = 3/' conf")
    assert place.get("conf") == b"a = 1\nb = 3\n"
    assert place.names() == ["conf"]


def test_an_editor_saves_aside_and_renames_over(place: Place) -> None:
    place.put("text", b"old\n")
    place.py(
        """
        for n in range(3):
            with open(".text.swp", "w") as file:
                file.write(f"version {n}\\n")
                file.flush()
                os.fsync(file.fileno())
            if n:
                os.unlink("text~")
            os.rename("text", "text~")
            os.rename(".text.swp", "text")
            directory = os.open(".", os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
            assert open("text").read() == f"version {n}\\n"
        """
    )
    assert place.get("text") == b"version 2\n"
    assert place.get("text~") == b"version 1\n"
    assert place.names() == ["text", "text~"]


def test_tail_follows_what_is_appended_beside_it(place: Place) -> None:
    place.put("log", b"first\n")
    printed = place.out(
        """
        tail -n +1 -f log > "$HOME/followed" &
        tail=$!
        trap 'kill $tail' EXIT
        for line in second third; do
            echo $line >> log
            n=0
            until grep -q $line "$HOME/followed"; do
                n=$((n + 1)); test $n -lt 100; sleep 0.1
            done
        done
        cat "$HOME/followed"
        """
    )
    assert printed == "first\nsecond\nthird"


def test_random_writes_match_the_same_writes_to_a_local_file(place: Place, tmp_path: Path) -> None:
    rng = random.Random(11)
    before = rng.randbytes(3_000_000)
    place.put("file", before)
    local = tmp_path / "file"
    local.write_bytes(before)
    script = []
    for _ in range(25):
        size, seek = rng.choice([(1, 700), (512, 9), (4096, 3), (65536, 2), (4096, 900)])
        at = rng.randrange(0, 3_500_000 // size)
        source = f"head -c {size * seek} /dev/urandom"
        script.append(
            f'{source} > "$HOME/piece"; '
            f"dd if=\"$HOME/piece\" of='{local}' bs={size} seek={at} conv=notrunc status=none; "
            f'dd if="$HOME/piece" of=file bs={size} seek={at} conv=notrunc status=none'
        )
    place.sh("\n".join([*script, f"cmp file '{local}'"]), timeout=120)
    assert place.get("file") == local.read_bytes()


def test_a_shrinking_ftruncate_shrinks(place: Place) -> None:
    place.put("file", b"0123456789" * 1000)
    place.py(
        """
        fd = os.open("file", os.O_RDWR)
        os.ftruncate(fd, 15)
        assert os.fstat(fd).st_size == 15
        assert os.pread(fd, 100, 0) == b"012345678901234"
        os.close(fd)
        assert os.stat("file").st_size == 15
        """
    )
    assert place.get("file") == b"012345678901234"
    place.sh("truncate -s 5 file")
    assert place.get("file") == b"01234"
    place.py('os.truncate("file", 8)')
    assert place.get("file") == b"01234\0\0\0"


def test_shrunk_bytes_do_not_come_back_when_the_file_grows_again(place: Place) -> None:
    place.put("file", b"secret" * 10_000)
    place.py(
        """
        with open("file", "r+b") as file:
            file.truncate(3)
            file.truncate(50_000)
            file.seek(49_000)
            file.write(b"end")
        assert open("file", "rb").read() == b"sec" + bytes(48_997) + b"end" + bytes(997)
        """
    )
    assert place.get("file") == b"sec" + bytes(48_997) + b"end" + bytes(997)


def test_opening_for_reading_with_o_creat_creates(place: Place) -> None:
    place.py('os.close(os.open("new", os.O_RDONLY | os.O_CREAT, 0o644))')
    assert place.get("new") == b""


def test_an_empty_file_and_a_truncated_one_are_stored(place: Place) -> None:
    place.put("full", b"bytes")
    place.sh("touch empty; : > full")
    assert place.get("empty") == b""
    shows(place, "full", b"")


def test_a_file_emptied_and_removed_at_once_is_no_conflict(place: Place) -> None:
    """The emptying is stored after the close, and may not meet the removal as somebody else's."""
    place.mount.new_log()
    place.sh("for n in 1 2 3 4 5 6 7 8; do echo x > f$n; : > f$n; rm f$n; done")
    place.sh("echo x > g; : > g; mv g h; test ! -s h; echo y > h")
    assert place.names() == ["h"]
    assert "could not be stored" not in place.mount.new_log()
    assert place.mount.status()["failed"] == []


def test_exclusive_creation_of_what_exists_is_refused(place: Place) -> None:
    place.put("there", b"x")
    assert place.errno_of('os.open("there", os.O_CREAT | os.O_EXCL | os.O_WRONLY)') == "EEXIST"
    assert place.errno_of('os.mkdir("there")') == "EEXIST"
    assert place.get("there") == b"x"


def test_a_write_is_read_back_before_it_is_stored(place: Place) -> None:
    place.put("file", b"." * 100)
    place.py(
        """
        one, two = os.open("file", os.O_RDWR), os.open("file", os.O_RDWR)
        os.pwrite(one, b"AAA", 10)
        assert os.pread(two, 5, 9) == b".AAA."
        os.pwrite(two, b"BBB", 200)
        assert os.pread(one, 300, 0) == b"." * 10 + b"AAA" + b"." * 87 + bytes(100) + b"BBB"
        assert os.fstat(one).st_size == os.stat("file").st_size == 203
        os.close(one)
        os.close(two)
        """
    )
    assert place.get("file") == b"." * 10 + b"AAA" + b"." * 87 + bytes(100) + b"BBB"


def test_appends_through_two_descriptors_do_not_overwrite_each_other(place: Place) -> None:
    place.py(
        """
        one = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        two = os.open("log", os.O_WRONLY | os.O_APPEND)
        for n in range(20):
            os.write(one if n % 2 else two, b"%d\\n" % n)
        os.close(one)
        os.close(two)
        """
    )
    assert place.get("log") == b"".join(b"%d\n" % n for n in range(20))


def test_fsync_stores_while_the_file_stays_open(place: Place) -> None:
    code = """
    file = open("file", "wb")
    for n in range(2):
        file.write(b"line %d\\n" % n)
        file.flush()
        os.fsync(file.fileno())
    print("synced", flush=True)
    time.sleep(0.2)
    os._exit(0)
    """
    assert place.py(code) == "synced"
    assert place.get("file") == b"line 0\nline 1\n"


def test_what_is_written_through_a_mapping_after_close_reaches_the_bucket(place: Place) -> None:
    place.put("mapped", b"a" * 10_000)
    place.py(
        """
        import mmap
        fd = os.open("mapped", os.O_RDWR)
        view = mmap.mmap(fd, 10_000)
        os.close(fd)
        view[5_000:5_003] = b"XYZ"
        view.close()
        """
    )
    shows(place, "mapped", b"a" * 5_000 + b"XYZ" + b"a" * 4_997)


def test_msync_stores_what_a_mapping_changed(place: Place) -> None:
    place.put("mapped", b"a" * 8192)
    place.py(
        """
        import mmap
        with open("mapped", "r+b") as file:
            view = mmap.mmap(file.fileno(), 0)
            view[0:2] = b"hi"
            view.flush()
            os.fsync(file.fileno())
            view.close()
        """
    )
    assert place.get("mapped")[:4] == b"hiaa"


def test_a_file_unlinked_while_open_reads_on_and_says_so(place: Place) -> None:
    body = os.urandom(3_000_000)
    place.put("gone", body)
    place.py(
        """
        import hashlib
        file = open("gone", "rb")
        assert os.fstat(file.fileno()).st_nlink == 1
        os.unlink("gone")
        assert not os.path.exists("gone")
        assert os.fstat(file.fileno()).st_nlink == 0
        print(hashlib.sha256(file.read()).hexdigest())
        """
    )
    assert place.names() == []


def test_a_temporary_file_without_a_name_keeps_its_bytes_and_leaves_nothing(place: Place) -> None:
    place.py(
        """
        fd = os.open("tmp", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.write(fd, b"x" * 100_000)
        os.unlink("tmp")
        os.write(fd, b"y" * 100_000)
        assert os.fstat(fd).st_nlink == 0
        assert os.pread(fd, 300_000, 0) == b"x" * 100_000 + b"y" * 100_000
        os.close(fd)
        """
    )
    assert place.names() == []


def test_a_name_is_used_again_while_the_unlinked_file_is_open(place: Place) -> None:
    place.py(
        """
        old = open("name", "w+")
        old.write("old")
        old.flush()
        os.unlink("name")
        with open("name", "w") as new:
            new.write("new")
        old.seek(0)
        assert old.read() == "old"
        old.write(" more")
        old.close()
        assert open("name").read() == "new"
        """
    )
    assert place.get("name") == b"new"


def test_an_open_file_is_renamed_and_written_on(place: Place) -> None:
    place.put("over", b"will go")
    place.py(
        """
        file = open("from", "wb")
        file.write(b"before ")
        file.flush()
        os.rename("from", "to")
        file.write(b"after")
        file.close()
        with open("to", "rb") as reader:
            os.rename("to", "over")
            assert reader.read() == b"before after"
        """
    )
    assert place.names() == ["over"]
    assert place.get("over") == b"before after"


def test_a_rename_over_an_open_file_leaves_its_reader_the_old_bytes(place: Place) -> None:
    place.put("target", b"old " * 1000)
    place.put("source", b"new")
    place.py(
        """
        reader = open("target", "rb")
        assert reader.read(4) == b"old "
        os.rename("source", "target")
        assert reader.read() == b"old " * 999
        assert open("target", "rb").read() == b"new"
        """
    )
    assert place.get("target") == b"new"


def test_rename_without_replacing_is_honoured(place: Place) -> None:
    place.sh("echo a > a; echo b > b; mv -n a b; cat a b")
    code = """
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.renameat2(-100, b"a", -100, b"b", 1) == -1
    print(errno.errorcode[ctypes.get_errno()])
    """
    assert place.py(code) == "EEXIST"
    assert (place.get("a"), place.get("b")) == (b"a\n", b"b\n")


def test_a_rename_onto_itself_changes_nothing(place: Place) -> None:
    place.put("same", b"bytes")
    place.py('os.rename("same", "same")')
    assert place.get("same") == b"bytes"


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_database_is_made_and_queried(place: Place, tmp_path: Path, journal: str) -> None:
    place.py(
        """
        import sqlite3
        base = sqlite3.connect("base.db")
        mode = base.execute(f"pragma journal_mode={sys.argv[1]}").fetchone()[0]
        base.execute("create table t (n integer primary key, text)")
        with base:
            base.executemany("insert into t values (?, ?)", [(n, "x" * n) for n in range(500)])
        with base:
            base.execute("delete from t where n % 7 = 0")
        base.close()
        """,
        journal,
        timeout=60,
    )
    count = """
    import sqlite3
    base = sqlite3.connect("base.db")
    assert base.execute("pragma integrity_check").fetchone() == ("ok",)
    print(base.execute("select count(*), sum(length(text)) from t").fetchone())
    """
    expected = str((428, sum(n for n in range(500) if n % 7)))
    assert place.py(count) == expected
    (tmp_path / "base.db").write_bytes(place.get("base.db"))
    outside = sqlite3.connect(tmp_path / "base.db")
    assert outside.execute("select count(*) from t").fetchone() == (428,)
    outside.close()
