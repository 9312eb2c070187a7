"""The mount table, links to mount points, and a stat that cannot hang."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from storefs import mounttable

if TYPE_CHECKING:
    from pathlib import Path

TABLE = rb"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
90 22 0:52 / /mnt/a\040b rw,nosuid,nodev - fuse.storefs s3://bucket/p rw,user_id=1000,group_id=1000
91 22 0:53 / /mnt/a\040b/c rw - tmpfs none rw
92 90 0:54 / /mnt/a\040b rw shared:7 master:3 - fuse.storefs s3://other rw,user_id=0
broken line
"""


def test_a_table_is_read_with_escapes_optional_fields_and_owners() -> None:
    entries = mounttable.parse(TABLE)
    assert [entry.mountpoint for entry in entries] == ["/", "/mnt/a b", "/mnt/a b/c", "/mnt/a b"]
    assert entries[1] == mounttable.MountEntry(
        "/mnt/a b", "s3://bucket/p", "fuse.storefs", (0, 52), 1000
    )
    assert not entries[0].is_storefs


def test_the_uppermost_of_two_mounts_is_found() -> None:
    found = mounttable.find("/mnt/a b", mounttable.parse(TABLE))
    assert found is not None and found.source == "s3://other"


def test_a_path_belongs_to_the_longest_mountpoint_around_it() -> None:
    table = mounttable.parse(TABLE)
    for path, mountpoint in (("/mnt/a b/c/d", "/mnt/a b/c"), ("/mnt/a bc", "/"), ("/", "/")):
        found = mounttable.containing(path, table)
        assert found is not None and found.mountpoint == mountpoint


def test_links_are_followed_up_to_a_mount_and_not_into_it(tmp_path: Path) -> None:
    base = os.path.realpath(tmp_path)
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount" / "inside").symlink_to("elsewhere")
    (tmp_path / "link").symlink_to("mount")
    table = [mounttable.MountEntry(f"{base}/mount", "s3://b", "fuse.storefs", (0, 9))]
    assert mounttable.resolve(f"{base}/link/inside", table) == f"{base}/mount/inside"
    assert mounttable.resolve(f"{base}/link/inside", []) == f"{base}/mount/elsewhere"
    assert mounttable.resolve(f"{base}/link/../link/x/../y", table) == f"{base}/mount/y"


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    try:
        mounttable.resolve(str(tmp_path / "loop"), [])
    except OSError as exc:
        assert exc.errno == errno.ELOOP
    else:
        raise AssertionError("it found an end")


def test_a_probe_answers_the_errno_of_statfs(tmp_path: Path) -> None:
    assert mounttable.probe(str(tmp_path)) == 0
    assert mounttable.probe(str(tmp_path / "none")) == errno.ENOENT
