"""Names, attributes and small values that programs trip over."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.places import Place


@pytest.mark.parametrize(
    ("what", "change", "expected"),
    [
        ("an append", "echo more >> file", b"text\nmore\n"),
        ("an edit", "printf XX | dd of=file conv=notrunc status=none", b"XXxt\n"),
        ("a truncation", "truncate -s 2 file", b"te"),
        ("being written anew", "echo new > file", b"new\n"),
        ("a rename", "mv file other; mv other file", b"text\n"),
    ],
)
def test_content_type_and_metadata_survive(
    place: Place, what: str, change: str, expected: bytes
) -> None:
    attributes = {"project": "storefs", "owner": "somebody"}
    place.put("file", b"text\n", content_type="text/x-special", metadata=attributes)
    place.sh(change)
    assert place.get("file") == expected
    stored = place.head("file")
    assert stored.content_type == "text/x-special", what
    assert attributes.items() <= stored.metadata.items(), what


def test_content_type_and_metadata_survive_an_append_to_a_large_object(place: Place) -> None:
    place.put("file", b"x" * 11_000_000, content_type="text/x-large", metadata={"a": "1"})
    place.sh("echo more >> file")
    stored = place.head("file")
    assert (stored.size, stored.content_type) == (11_000_005, "text/x-large")
    assert stored.metadata.get("a") == "1"


def test_stat_says_blocks_links_and_block_size(place: Place) -> None:
    place.put("f", b"x" * 1025)
    place.put("d/g", b"")
    told = place.out("stat -c '%s %b %B %o %h %F' f d/g d")
    lines = told.split("\n")
    assert lines[0] == "1025 3 512 1048576 1 regular file"
    assert lines[1] == "0 0 512 1048576 1 regular empty file"
    assert lines[2].endswith(" 1 directory")


def test_statfs_promises_a_pebibyte_and_names_of_255_bytes(place: Place) -> None:
    told = place.py(
        """
        s = os.statvfs(".")
        print(s.f_bsize, s.f_frsize, s.f_namemax, s.f_bavail * s.f_frsize >> 50, s.f_files > 10**6)
        """
    )
    assert told == "4096 4096 255 1 True"


def test_owner_and_modes_are_those_of_the_mount(place: Place) -> None:
    place.put("f", b"")
    place.sh("mkdir d; touch made")
    told = place.out("stat -c '%u %g %a' f d made").split("\n")
    mine = f"{os.getuid()} {os.getgid()}"
    assert told == [f"{mine} 644", f"{mine} 755", f"{mine} 644"]


def test_times_are_the_stores_and_can_be_set(place: Place) -> None:
    place.put("f", b"")
    age = place.py('print(abs(time.time() - os.stat("f").st_mtime))')
    assert float(age) < 60
    place.sh("touch -d '2020-01-02 03:04:05' f; test $(stat -c %Y f) = 1577934245")


def test_a_hard_link_is_refused_in_the_way_that_programs_fall_back_on(place: Place) -> None:
    place.put("f", b"")
    assert place.errno_of('os.link("f", "g")') == "EPERM"


def test_allocation_is_not_supported_and_says_so(place: Place) -> None:
    place.sh("touch f")
    code = 'os.posix_fallocate(os.open("f", os.O_RDWR), 0, 100)'
    assert place.errno_of(code) in ("ENOTSUP", "none")


def test_foreign_attribute_classes_are_not_supported(place: Place) -> None:
    place.put("f", b"")
    assert place.errno_of('os.getxattr("f", "security.selinux")') == "ENOTSUP"
    assert place.errno_of('os.getxattr("f", "trusted.x")') == "ENOTSUP"
    assert place.errno_of('os.getxattr("f", "user.none")') == "ENODATA"
    assert place.py('print(os.listxattr("f"))') == "[]"


def test_symbolic_links_are_kept(place: Place) -> None:
    place.sh("mkdir d; echo x > d/target; ln -s d/target link; ln -s nowhere broken")
    assert place.out("cat link; readlink link broken") == "x\nd/target\nnowhere"
    assert place.out("stat -c %s link") == "8"
    place.mount.remount(empty_cache=True)
    assert place.out("cat link; readlink link broken; ls -l link | cut -c1") == (
        "x\nd/target\nnowhere\nl"
    )


def test_a_symbolic_link_is_still_one_after_it_was_moved(place: Place) -> None:
    place.sh("mkdir -p d/e; ln -s nowhere a; ln -s nowhere d/e/b; mv a d/a; mv d moved")
    place.mount.remount(empty_cache=True)
    assert place.out("readlink moved/a moved/e/b") == "nowhere\nnowhere"


def test_names_that_look_alike_are_two_files(place: Place) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    place.put(composed, b"NFC")
    place.sh(f"printf NFD > '{decomposed}'; test $(ls | wc -l) = 2")
    assert place.out(f"cat '{composed}' '{decomposed}'") == "NFCNFD"
    assert place.names() == sorted([composed, decomposed])


def test_odd_names_are_the_same_on_both_sides(place: Place) -> None:
    names = [
        " leading", "trailing ", "new\nline", "tab\t", "quote'\"", "*?[]", "-dash",
        "%41", "a+b&c=d", "\u96ea\u2603\U0001f600", "#hash", "~", "semi;colon", "x" * 255,
    ]  # fmt: skip
    if place.bucket.kind == "local":
        names.append("back\\slash")  # SeaweedFS makes a directory of it
    place.put_many({f"in/{name}": name.encode() for name in names})
    told = place.py(
        """
        for name in os.listdir("in"):
            with open(os.path.join("in", name), "rb") as file:
                assert file.read() == os.fsencode(name), name
        os.mkdir("out")
        for name in json.loads(sys.argv[1]):
            with open(os.path.join("out", name), "wb") as file:
                file.write(os.fsencode(name))
        print(json.dumps(sorted(os.listdir("in"))))
        """,
        json.dumps(names),
    )
    assert json.loads(told) == sorted(names)
    for name in names:
        assert place.get(f"out/{name}") == name.encode()


def test_a_new_name_that_is_not_utf8_is_refused(place: Place) -> None:
    assert place.errno_of('open(b"caf\\xe9", "w")') == "EILSEQ"
    assert place.errno_of('os.mkdir(b"\\xff")') == "EILSEQ"
    place.sh("touch f")
    assert place.errno_of('os.rename("f", b"\\xff")') == "EILSEQ"
    assert place.errno_of('os.stat(b"caf\\xe9")') in ("ENOENT", "EILSEQ")
    assert place.names() == ["f"]


def test_names_of_storefs_itself_are_out_of_reach(place: Place) -> None:
    place.sh("echo x > f")
    assert place.errno_of('open(".storefs", "w")') == "EPERM"
    assert place.errno_of('os.mkdir(".storefs-attributes")') == "EPERM"
    assert place.errno_of('os.rename("f", ".storefs-index")') == "EPERM"
    assert place.errno_of('os.unlink(".storefs-index")') in ("EPERM", "ENOENT")
    assert place.out("ls -A") == "f"


def test_names_and_paths_that_are_too_long_are_refused(place: Place) -> None:
    assert place.errno_of('open("x" * 256, "w")') == "ENAMETOOLONG"
    long_path = '"/".join(["d" * 200] * 6)'
    assert place.errno_of(f"os.makedirs({long_path})") == "ENAMETOOLONG"


def test_files_and_directories_are_not_taken_for_each_other(place: Place) -> None:
    place.sh("mkdir d; echo x > f")
    assert place.errno_of('os.rmdir("f")') == "ENOTDIR"
    assert place.errno_of('os.unlink("d")') == "EISDIR"
    assert place.errno_of('open("d", "w")') == "EISDIR"
    assert place.errno_of('os.stat("f/g")') == "ENOTDIR"
    assert place.errno_of('os.rename("d", "f")') == "ENOTDIR"
    assert place.errno_of('os.rename("f", "d")') == "EISDIR"
    assert place.errno_of('os.rmdir("none")') == "ENOENT"
    assert place.errno_of('os.unlink("none")') == "ENOENT"
    assert place.errno_of('os.rename("none", "x")') == "ENOENT"
    assert place.errno_of('os.rename("d", "d/e")') == "EINVAL"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_the_kernel_checks_access_by_owner_and_mode(place: Place) -> None:
    """Mounted by root, a mount is for all, and `default_permissions` guards it."""
    place.sh("echo secret > f; chmod 600 f; echo open > g; chmod 644 g")
    told = place.py(
        """
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        print(open("g").read().strip())
        for action in (lambda: open("f"), lambda: open("g", "a"), lambda: open("new", "w")):
            try:
                action()
                print("allowed")
            except PermissionError:
                print("refused")
        """
    )
    assert told.split() == ["open", "refused", "refused", "refused"]
