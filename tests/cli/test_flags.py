"""Each flag reaches the field that it is for, from each place where it may be said."""

from __future__ import annotations

import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from storefs.cli.app import LS_FLAGS, cli
from storefs.cli.flags import FLAGS, Flag, Kind
from storefs.cli.options import command_line, mount_config, store_config
from storefs.cli.reference import page
from storefs.cli.sources import gather, split_options
from storefs.config import (
    CacheConfig,
    LogConfig,
    MountConfig,
    StoreConfig,
    StoreUrl,
    TreeConfig,
    WriteConfig,
)
from storefs.units import GIB, MIB

URL = "s3://bucket/prefix"

# Flag, what to write, the fields that it must reach with the value they must have.
EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "endpoint-url": (
        "https://s3.example.org:8333",
        {"store.endpoint_url": "https://s3.example.org:8333"},
    ),
    "region": ("eu-central-1", {"store.region": "eu-central-1"}),
    "profile": ("work", {"store.profile": "work"}),
    "addressing": ("path", {"store.addressing": "path"}),
    "anonymous": ("yes", {"store.anonymous": True}),
    "requester-pays": ("yes", {"store.requester_pays": True}),
    "sse": ("AES256", {"store.sse": "AES256"}),
    "sse-kms-key-id": ("key-1", {"store.sse_kms_key_id": "key-1"}),
    "storage-class": ("STANDARD_IA", {"store.storage_class": "STANDARD_IA"}),
    "acl": ("bucket-owner-full-control", {"store.acl": "bucket-owner-full-control"}),
    "ca-bundle": ("/etc/ca.pem", {"store.ca_bundle": "/etc/ca.pem"}),
    "no-verify-tls": ("yes", {"store.verify_tls": False}),
    "cache-dir": ("/var/tmp/c", {"cache.directory": Path("/var/tmp/c")}),
    "cache-size": ("3G", {"cache.size_bytes": 3 * GIB}),
    "cache-min-free": ("5M", {"cache.min_free_bytes": 5 * MIB}),
    "state-dir": (
        "/var/tmp/s",
        {"write.state_dir": Path("/var/tmp/s"), "log.fallback_dir": Path("/var/tmp/s")},
    ),
    "read-only": ("yes", {"read_only": True, "store.read_only": True, "tree.read_only": True}),
    "allow-other": ("yes", {"allow_other": True}),
    "uid": ("1234", {"tree.uid": 1234}),
    "gid": ("2345", {"tree.gid": 2345}),
    "file-mode": ("0600", {"tree.file_mode": 0o600}),
    "dir-mode": ("0711", {"tree.dir_mode": 0o711}),
    "metadata-ttl": ("2m", {"tree.metadata_ttl_seconds": 120.0}),
    "negative-ttl": ("250ms", {"tree.negative_ttl_seconds": 0.25}),
    "timeout": ("7", {"store.timeout_seconds": 7.0, "write.timeout_seconds": 7.0}),
    "stop-timeout": ("9", {"write.stop_timeout_seconds": 9.0}),
    "memory-limit": ("1G", {"memory_limit_bytes": GIB}),
    "log-level": ("debug", {"log.level": "debug"}),
    "log-file": ("/var/tmp/log", {"log.file": Path("/var/tmp/log")}),
    "foreground": ("yes", {"log.foreground": True}),
}
COMPANIONS = {"sse-kms-key-id": {"sse": "aws:kms"}}

each_flag = pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)


def field(config: MountConfig, dotted: str) -> Any:
    value: Any = config
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


def build(**said: Any) -> MountConfig:
    return mount_config(gather(url=URL, directory="/mountpoint", **{"environ": {}, **said}))


def assert_reached(config: MountConfig, flag: Flag) -> None:
    for dotted, wanted in EXAMPLES[flag.name][1].items():
        assert field(config, dotted) == wanted, dotted


def test_every_flag_has_an_example_and_every_example_a_flag() -> None:
    assert set(EXAMPLES) == {flag.name for flag in FLAGS}


@each_flag
def test_the_example_covers_all_fields_of_the_flag(flag: Flag) -> None:
    assert set(EXAMPLES[flag.name][1]) == set(flag.fields)


@each_flag
def test_a_flag_changes_its_fields(flag: Flag) -> None:
    """An example that is the default would prove nothing."""
    before = mount_config(gather(url=URL, directory="/mountpoint", environ={}))
    changed = [
        dotted
        for dotted, wanted in EXAMPLES[flag.name][1].items()
        if field(before, dotted) != wanted
    ]
    assert changed == list(flag.fields) or (flag.name == "allow-other" and os.getuid() == 0)


@each_flag
def test_a_flag_of_the_command_line_reaches_its_fields(flag: Flag) -> None:
    said = {**COMPANIONS.get(flag.name, {}), flag.name: EXAMPLES[flag.name][0]}
    assert_reached(build(flags=said), flag)


@each_flag
def test_an_option_of_fstab_reaches_its_fields(flag: Flag) -> None:
    said = {**COMPANIONS.get(flag.name, {}), flag.name: EXAMPLES[flag.name][0]}
    options = [f"{name.replace('-', '_')}={text}" for name, text in said.items()]
    assert_reached(build(options=options), flag)


@each_flag
def test_an_environment_variable_reaches_its_fields(flag: Flag) -> None:
    said = {**COMPANIONS.get(flag.name, {}), flag.name: EXAMPLES[flag.name][0]}
    environ = {f"STOREFS_{name.upper().replace('-', '_')}": text for name, text in said.items()}
    assert_reached(build(environ=environ), flag)


@each_flag
def test_a_key_of_the_file_reaches_its_fields(flag: Flag, tmp_path: Path) -> None:
    said = {**COMPANIONS.get(flag.name, {}), flag.name: EXAMPLES[flag.name][0]}
    path = tmp_path / "mount.conf"
    path.write_text("".join(f'{name} = "{text}"\n' for name, text in said.items()))
    assert_reached(build(config=str(path)), flag)


@each_flag
def test_the_command_line_of_the_daemon_gives_the_same_configuration(flag: Flag) -> None:
    """`foreground` alone is not handed on: the daemon is told by its pipe."""
    if flag.name == "foreground":
        return
    said = {**COMPANIONS.get(flag.name, {}), flag.name: EXAMPLES[flag.name][0]}
    settings = gather(url=URL, directory="/mountpoint", flags=said, environ={})
    config = mount_config(settings)

    again = parse_command_line(command_line(settings, config))

    assert again == config


def parse_command_line(arguments: list[str]) -> MountConfig:
    """What `storefs mount` would make of these arguments."""
    from storefs.cli.app import said as said_flags

    command = cli.commands["mount"]
    context = command.make_context("mount", list(arguments))
    parameters = dict(context.params)
    settings = gather(
        url=parameters.pop("url"),
        directory=parameters.pop("directory"),
        options=split_options(",".join(parameters.pop("mount_options"))),
        flags=said_flags(parameters),
        environ={},
    )
    return mount_config(settings)


@pytest.mark.parametrize(
    "flag", [flag for flag in FLAGS if flag.kind is Kind.SWITCH], ids=lambda flag: flag.name
)
def test_a_switch_of_the_file_is_turned_off_on_the_command_line(flag: Flag, tmp_path: Path) -> None:
    path = tmp_path / "mount.conf"
    path.write_text(f"{flag.name} = true\n")
    config = build(config=str(path), flags={flag.name: "no"})
    for dotted, wanted in EXAMPLES[flag.name][1].items():
        assert field(config, dotted) == (not wanted)


def test_defaults_of_the_table_are_those_of_the_dataclasses() -> None:
    """Two places name a default; this is the promise that they agree."""
    config = build()
    assert config.store == StoreConfig(StoreUrl("s3", "bucket", "prefix/"))
    assert config.cache == CacheConfig(config.cache.directory, memory_bytes=128 * MIB)
    ignored = {"max_inodes"}
    for made, plain in (
        (config.tree, TreeConfig()),
        (config.write, WriteConfig(config.write.state_dir)),
    ):
        assert is_dataclass(made)
        for each in fields(made):
            if each.name not in ignored:
                assert getattr(made, each.name) == getattr(plain, each.name), each.name
    assert config.log == LogConfig(foreground=False, fallback_dir=config.write.state_dir)
    assert config.memory_limit_bytes == 512 * MIB


def test_every_mount_flag_is_an_option_of_the_mount_command() -> None:
    names = {name for each in cli.commands["mount"].params for name in each.opts}
    assert {f"--{flag.name}" for flag in FLAGS} <= names


def test_ls_takes_the_flags_of_the_store() -> None:
    flags = {flag.name: EXAMPLES[flag.name][0] for flag in LS_FLAGS}
    for name in ("anonymous", "no-verify-tls"):  # each forbids another one
        del flags[name]
    flags["sse"] = "aws:kms"
    store = store_config(gather(url=URL, flags=flags, environ={}))
    assert (store.endpoint_url, store.region) == ("https://s3.example.org:8333", "eu-central-1")
    assert store.timeout_seconds == 7.0


def test_flags_that_do_not_exist_yet_are_not_accepted() -> None:
    names = {flag.name for flag in FLAGS}
    later = {"write-mode", "on-conflict", "metadata", "sync-unlink", "exclusive-create"}
    assert not names & (later | {"staging-size", "preserve-acl", "restore-on-read"})


def test_the_reference_page_is_current() -> None:
    """Run `make docs` if this fails."""
    written = Path(__file__).resolve().parents[2] / "docs" / "options.md"
    assert written.read_text() == page()
