"""Whole trees: copied in, seen from outside, archived, cloned, moved, removed."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.places import Place

FEW_PACKAGES = (
    "asyncio", "concurrent", "email", "encodings", "http", "importlib", "json", "logging",
    "multiprocessing", "unittest", "xml",
)  # fmt: skip


def copy_of_library(target: Path, packages: tuple[str, ...] | None) -> Path:
    """The Python standard library without what is not part of it, or some packages of it."""
    source = Path(sysconfig.get_paths()["stdlib"])
    left_out = shutil.ignore_patterns(
        "__pycache__", "site-packages", "dist-packages", "*.so", "*.a"
    )
    if packages is None:
        shutil.copytree(source, target, ignore=left_out, symlinks=False)
        return target
    for name in packages:
        shutil.copytree(source / name, target / name, ignore=left_out, symlinks=False)
    (target / "json" / "link.py").symlink_to("decoder.py")
    (target / "with space").mkdir()
    (target / "with space" / "naïve file's name.txt").write_bytes(b"\xff\x00")
    (target / "empty").write_bytes(b"")
    (target / "run.sh").write_text("#!/bin/sh\necho ran\n")
    return target


def files_of(tree: Path) -> dict[str, bytes]:
    """Relative name to bytes of every regular file; links are left out."""
    found = {}
    for parent, _, names in os.walk(tree):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                found[str(path.relative_to(tree))] = path.read_bytes()
    return found


def copied_tree_survives(place: Place, tree: Path, timeout: float) -> None:
    """Copy in, unmount, mount with an empty cache, compare; compare from outside too."""
    place.sh(f"cp -r '{tree}' copy", timeout=timeout)
    place.mount.remount(empty_cache=True)
    place.sh(f"diff -r --no-dereference '{tree}' copy", timeout=timeout)
    expected = files_of(tree)
    links = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_symlink()}
    names = {name.removeprefix("copy/") for name in place.names("copy/")}
    assert names - links == set(expected)
    for name, body in expected.items():
        assert place.get(f"copy/{name}") == body, name


def test_a_tree_copied_in_is_the_same_after_a_mount_with_an_empty_cache(
    place: Place, tmp_path: Path
) -> None:
    tree = copy_of_library(tmp_path / "tree", FEW_PACKAGES)
    assert len(files_of(tree)) > 250
    copied_tree_survives(place, tree, timeout=90)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_whole_standard_library_is_the_same_after_a_mount_with_an_empty_cache(
    own: Callable[..., Place], tmp_path: Path
) -> None:
    place = own("s3")
    place.mount.mount()
    tree = copy_of_library(tmp_path / "tree", None)
    copied_tree_survives(place, tree, timeout=200)


def test_objects_put_by_others_appear(place: Place) -> None:
    place.put("d/one", b"first")
    place.put("d/e/two", b"second")
    assert place.out("cat d/one d/e/two") == "firstsecond"
    assert place.out("ls -A . d d/e") == ".:\nd\n\nd:\ne\none\n\nd/e:\ntwo"
    place.put("d/three", b"third")
    place.sh("sleep 1.2; test -f d/three; test $(ls d | wc -l) = 3; test $(cat d/three) = third")


def test_git_clones_checks_and_commits(place: Place, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    source = copy_of_library(tmp_path / "source", ("json", "logging"))
    env = place.mount.env | {"GIT_CONFIG_GLOBAL": "/dev/null"}
    script = 'cd "$0"; git init -q .; git add .; git commit -q -m one; git gc -q'
    run(["/bin/sh", "-ec", script, str(source)], env=env)
    place.sh(f"git clone -q 'file://{source}' work", env=env, timeout=90)
    told = place.sh(
        """
        cd work
        git fsck --full --strict
        test -z "$(git status --porcelain)"
        echo more >> json/__init__.py
        git mv logging/config.py logging/moved.py
        git commit -q -a -m two
        git checkout -q -b other HEAD~1
        git checkout -q -
        git fsck --full --strict
        git log --oneline | wc -l
        """,
        env=env,
        timeout=90,
    )
    assert told.stdout.split()[-1] == "2"
    place.mount.remount(empty_cache=True)
    again = place.sh("cd work; git fsck --full; git status --porcelain; tail -n1 json/__init__.py",
                     env=env, timeout=90)  # fmt: skip
    assert again.stdout == "more\n"


def test_sparse_aware_archivers_and_copies_keep_every_byte(place: Place, tmp_path: Path) -> None:
    body = b"\0" * 100_000 + os.urandom(70_000) + b"\0" * 300_000 + b"end"
    place.put("sparse", body)
    place.put("full", os.urandom(1_000_000))
    target = tmp_path / "out"
    target.mkdir()
    place.sh(f"tar -S -cf - sparse full | tar -xf - -C '{target}'")
    assert (target / "sparse").read_bytes() == body
    assert (target / "full").read_bytes() == place.get("full")
    place.sh(f"cp --sparse=always sparse '{target}/copied'; cp --sparse=always sparse inside")
    assert (target / "copied").read_bytes() == body
    assert place.get("inside") == body


def test_a_sparse_file_written_here_reads_back_with_its_holes(place: Place) -> None:
    place.sh("truncate -s 5000000 holes; printf x | dd of=holes bs=1 seek=3000000 conv=notrunc")
    expected = bytearray(5_000_000)
    expected[3_000_000] = ord("x")
    assert place.get("holes") == bytes(expected)
    place.sh("tar -S -cf archive holes; mkdir out; tar -xf archive -C out; cmp holes out/holes")


def test_du_and_df_tell_the_truth(place: Place) -> None:
    place.put("a", b"x" * 100_000)
    place.put("sub/b", b"x" * 1)
    assert place.out("du -b a sub/b | cut -f1") == "100000\n1"
    assert place.out("du --block-size=512 a sub/b | cut -f1") == "196\n1"
    total, free, kind, point = place.out(
        "df --output=size,avail,fstype,target . | tail -n1"
    ).split()
    assert int(total) * 1024 >= 2**50
    assert int(free) * 1024 >= 2**49
    assert kind == "fuse.storefs"
    assert point == str(place.mount.path)


def test_a_directory_is_renamed_with_all_below_it(place: Place) -> None:
    place.sh("mkdir -p a/b/c a/none; echo 1 > a/one; echo 2 > a/b/two; echo 3 > a/b/c/three")
    place.sh("mv a z; test ! -e a; cat z/one z/b/two z/b/c/three; test -d z/none")
    assert place.names() == ["z/b/c/three", "z/b/two", "z/one"]
    assert place.get("z/b/c/three") == b"3\n"


def test_a_directory_of_more_than_a_thousand_is_moved_by_copying(place: Place) -> None:
    """`rename` answers EXDEV above what can be done at once, and `mv` then copies and removes."""
    place.put_many({f"big/{n:04}": b"%d" % n for n in range(1_010)})
    expression = 'os.rename("big", "other")'
    assert place.errno_of(expression) == "EXDEV"
    assert len(place.names()) == 1_010
    place.sh("mkdir few; for n in 1 2 3; do echo $n > few/$n; done; mv few moved; test ! -e few")
    assert place.get("moved/2") == b"2\n"


def test_a_directory_is_renamed_over_an_empty_one_only(place: Place) -> None:
    place.sh("mkdir a empty full; echo 1 > a/f; echo 2 > full/g")
    assert place.errno_of('os.rename("a", "full")') == "ENOTEMPTY"
    place.sh("mv -T a empty; test $(cat empty/f) = 1; test ! -e a")


def test_a_tree_is_removed(place: Place) -> None:
    place.sh(
        "mkdir -p t/u/v; for n in 1 2 3 4 5 6 7 8 9; do echo $n > t/u/$n; done; echo > t/u/v/w"
    )
    assert place.errno_of('os.rmdir("t/u")') == "ENOTEMPTY"
    place.sh('rm -r t; test ! -e t; test -z "$(ls -A)"')
    assert place.names() == []


def test_a_directory_stays_when_its_last_file_goes(place: Place) -> None:
    place.put("d/only", b"x")
    place.sh('rm d/only; test -d d; sleep 1.2; test -d d; test -z "$(ls d)"; rmdir d; test ! -e d')


def test_find_and_du_count_what_is_there(place: Place) -> None:
    place.put_many({f"{a}/{b}/{c}": b"12345" for a in "ab" for b in "cde" for c in "fghi"})
    assert place.out("find . -type f | wc -l; find . -type d | wc -l") == "24\n9"
    assert place.out("find . -type f -printf '%s\\n' | sort -u") == "5"
