"""Both sides of the control socket: what registers is found, asked in time, and forgotten."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.lowlevel

from storefs import control, mounttable
from storefs.cli.options import mount_config
from storefs.cli.sources import gather
from storefs.control import KnownMount, MountRecord, State
from storefs.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def make_record(mountpoint: str = "/some/where", **flags: str) -> MountRecord:
    settings = gather(url="s3://bucket/p", directory=mountpoint, flags=flags, environ={})
    return MountRecord.of(mount_config(settings))


def entry(mountpoint: str, fstype: str = "fuse.storefs") -> mounttable.MountEntry:
    return mounttable.MountEntry(mountpoint, "s3://bucket/p", fstype, (0, 99), os.getuid())


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> list[mounttable.MountEntry]:
    """The mount table, as the test says it is."""
    entries: list[mounttable.MountEntry] = []
    monkeypatch.setattr(mounttable, "read", lambda: list(entries))
    monkeypatch.setattr(mounttable, "is_dead", lambda mountpoint: True)
    return entries


async def ask(mount: KnownMount, command: str, **more: Any) -> dict[str, Any]:
    return await trio.to_thread.run_sync(lambda: control.ask(mount, command, **more))


def echo(request: dict[str, Any]) -> dict[str, Any]:
    return {"heard": request}


async def test_a_served_mount_is_found_and_answers(
    nursery: trio.Nursery, table: list[mounttable.MountEntry]
) -> None:
    table.append(entry("/some/where"))
    await nursery.start(control.serve, make_record(region="r1"), echo)

    (mount,) = control.list_mounts()

    assert (mount.mountpoint, mount.url, mount.state) == (
        "/some/where",
        "s3://bucket/p",
        State.MOUNTED,
    )
    assert mount.record is not None and mount.record.store["region"] == "r1"
    assert await ask(mount, "status", more=1) == {"heard": {"command": "status", "more": 1}}


async def test_a_handler_may_be_asynchronous(nursery: trio.Nursery) -> None:
    async def later(request: dict[str, Any]) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"slow": True}

    await nursery.start(control.serve, make_record(), later)
    (mount,) = control.list_mounts()
    assert await ask(mount, "status") == {"slow": True}


async def test_an_error_of_the_handler_is_answered_and_ends_nothing(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(request: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("pending")

    await nursery.start(control.serve, make_record(), broken)
    (mount,) = control.list_mounts()
    for _ in range(2):
        assert await ask(mount, "status") == {"error": "KeyError: 'pending'"}
    assert "control request 'status' failed" in caplog.text


async def test_the_registry_is_empty_and_private_after_the_mount(home: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(control.serve, make_record(), echo)
        directory = home / "run"
        assert directory.stat().st_mode & 0o777 == 0o700
        assert {path.suffix for path in directory.iterdir()} == {".json", ".sock"}
        nursery.cancel_scope.cancel()
    assert list(directory.iterdir()) == []


async def test_what_is_unsent_at_the_end_is_left_to_be_named_once() -> None:
    reply = {"pending": [{"path": "a"}], "failed": []}
    async with trio.open_nursery() as nursery:
        await nursery.start(control.serve, make_record(), lambda request: reply)
        (mount,) = control.list_mounts()
        nursery.cancel_scope.cancel()
    assert control.take_last_word(mount) == reply
    assert control.take_last_word(mount) is None


async def test_a_path_longer_than_a_socket_address_works(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sun_path holds 108 bytes; runtime directories of tests and containers are longer."""
    directory = tmp_path / ("x" * 100) / ("y" * 100)
    monkeypatch.setattr(control, "runtime_dir", lambda: directory)
    monkeypatch.setattr(control, "_directories", lambda: [directory])
    await nursery.start(control.serve, make_record(), echo)
    (mount,) = control.list_mounts()
    assert await ask(mount, "status")


async def test_a_client_that_says_nonsense_is_told_and_others_are_served(
    nursery: trio.Nursery,
) -> None:
    await nursery.start(control.serve, make_record(), echo)
    (mount,) = control.list_mounts()
    assert mount.directory is not None and mount.record is not None
    with control._short_path(mount.directory, f"{mount.record.stem}.sock") as path:
        stream = await trio.open_unix_socket(path)
    await stream.send_all(b"[1, 2]\n")
    assert json.loads(await stream.receive_some()) == {"error": "a request is one line of JSON"}
    assert await ask(mount, "status")
    await stream.aclose()


def listening(home: Path, record: MountRecord) -> socket.socket:
    """A daemon's socket behind which nobody answers."""
    directory = home / "run"
    directory.mkdir(mode=0o700)
    (directory / f"{record.stem}.json").write_text(json.dumps(asdict(record)))
    silent = socket.socket(socket.AF_UNIX)
    with control._short_path(directory, f"{record.stem}.sock") as path:
        silent.bind(path)
    silent.listen()
    return silent


def test_a_daemon_that_hangs_is_given_up_after_the_timeout(home: Path) -> None:
    with listening(home, make_record()):
        (mount,) = control.list_mounts()
        with pytest.raises(TimeoutError):
            control.ask(mount, "status", timeout_seconds=0.05)


def test_a_record_whose_process_is_gone_is_removed(
    home: Path, table: list[mounttable.MountEntry]
) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = control.start_ticks(process.pid) or 0
    record = replace(make_record(), pid=process.pid, start_ticks=ticks)
    with listening(home, record):
        assert [mount.record for mount in control.list_mounts()] == [record]
        process.communicate()
        assert control.list_mounts() == []
        assert list((home / "run").iterdir()) == []


def test_a_process_number_used_again_is_not_taken_for_the_daemon(home: Path) -> None:
    record = make_record()
    with listening(home, replace(record, start_ticks=record.start_ticks - 1)):
        assert control.list_mounts() == []


def test_a_mount_without_a_daemon_is_dead(table: list[mounttable.MountEntry]) -> None:
    table += [entry("/gone"), entry("/other", "ext4")]
    assert [(mount.mountpoint, mount.state) for mount in control.list_mounts()] == [
        ("/gone", State.DEAD)
    ]


def test_a_daemon_whose_directory_is_free_again_drains(
    home: Path, table: list[mounttable.MountEntry]
) -> None:
    with listening(home, make_record()):
        found = control.find("/some/where")
        assert found is not None and found.state is State.DRAINING


def test_a_record_of_another_shape_or_owner_is_no_mount(home: Path) -> None:
    record = make_record()
    with listening(home, replace(record, uid=record.uid + 1)):
        (home / "run" / "junk.json").write_text("[]")
        assert control.list_mounts() == []


@pytest.mark.parametrize("name", ["/m/ü", "/m/\udcff", "/m/with space"])
def test_a_mountpoint_of_any_bytes_survives_the_registry(home: Path, name: str) -> None:
    with listening(home, make_record(name)):
        assert [mount.mountpoint for mount in control.list_mounts()] == [name]


def test_a_runtime_directory_of_somebody_else_is_refused(home: Path) -> None:
    (home / "run").mkdir()
    (home / "run").chmod(0o777)
    with pytest.raises(ConfigError, match="is not a directory that only you can write"):
        control.prepare_directory()
