"""The composition root's own decisions; the mount itself is tested under tests/mounted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from storefs.config import (
    CacheConfig,
    LogConfig,
    MountConfig,
    StoreConfig,
    StoreUrl,
    TreeConfig,
    WriteConfig,
)
from storefs.mount import INODE_BYTES, Mount, _within_budget, content_type
from storefs.units import MIB

CONFIG = MountConfig(
    mountpoint=Path("/mnt"),
    store=StoreConfig(url=StoreUrl("memory", "bucket")),
    cache=CacheConfig(directory=None),
    tree=TreeConfig(),
    write=WriteConfig(state_dir=Path("/state")),
    log=LogConfig(),
)


@pytest.mark.parametrize("limit_mib", [256, 512, 4096])
def test_the_memory_limit_is_divided_and_not_exceeded(limit_mib: int) -> None:
    config = _within_budget(replace(CONFIG, memory_limit_bytes=limit_mib * MIB))
    planned = (
        config.cache.memory_bytes
        + config.tree.max_inodes * INODE_BYTES
        + config.write.memory_bytes
        + 96 * MIB  # the program itself, with one SDK
    )
    assert planned <= limit_mib * MIB


def test_a_larger_memory_limit_gives_more_to_every_layer() -> None:
    small = _within_budget(replace(CONFIG, memory_limit_bytes=256 * MIB))
    large = _within_budget(replace(CONFIG, memory_limit_bytes=1024 * MIB))
    assert large.cache.memory_bytes > small.cache.memory_bytes
    assert large.tree.max_inodes > small.tree.max_inodes


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("site/index.html", "text/html"),
        ("a.json", "application/json"),
        ("backup.tar.gz", "application/octet-stream"),
        ("README", "application/octet-stream"),
    ],
)
def test_a_new_object_is_called_what_its_name_says(key: str, expected: str) -> None:
    assert content_type(key).content_type == expected


def options_of(config: MountConfig) -> set[str]:
    return Mount(config, lambda: None)._options()


def test_a_mount_gives_nobody_rights_by_what_stands_in_the_bucket() -> None:
    assert {"nosuid", "nodev", "default_permissions"} <= options_of(CONFIG)
    asked = options_of(replace(CONFIG, options=("suid", "dev")))
    assert not {"nosuid", "nodev"} & asked


def test_the_mount_table_names_the_bucket_and_the_type() -> None:
    assert {"fsname=memory://bucket", "subtype=storefs"} <= options_of(CONFIG)


def test_access_for_others_and_read_only_reach_the_kernel() -> None:
    assert not {"allow_other", "ro"} & options_of(CONFIG)
    asked = options_of(replace(CONFIG, allow_other=True, read_only=True))
    assert {"allow_other", "ro"} <= asked
