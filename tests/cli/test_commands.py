"""What the commands say: one clear line for a mistake, never a traceback."""

from __future__ import annotations

import json
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from storefs import __version__, control, mounttable
from storefs.cli import detach, helper, preflight, status, text, umount
from storefs.cli.explain import explain
from storefs.cli.ls import line
from storefs.config import MountConfig, StoreConfig, StoreUrl
from storefs.control import KnownMount, State
from storefs.drivers.models import Object
from storefs.errors import (
    AccessDenied,
    ConfigError,
    ContainerNotFound,
    DeadlineExceeded,
    ObjectNotFound,
    StorefsError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Commands


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mount"], "no bucket is named: write s3://bucket/prefix"),
        (["mount", "s3://b"], "no directory to mount on is named"),
        (["mount", "ftp://b", "/m"], "'ftp://b': unknown scheme; storefs mounts s3://, file://"),
        (["mount", "s3://me:pw@b", "/m"], "a URL holds no credentials"),
        (["mount", "s3://b", "/m", "--cache-size", "big"], "--cache-size: 'big' is not a size"),
        (["mount", "s3://b", "/m", "--memory-limit", "1M"], "at least 256M is needed"),
        (["mount", "s3://b", "/m", "--write-mode", "back"], "No such option '--write-mode'"),
        (["mount", "s3://b", "/m", "--region"], "requires an argument"),
        (["mount", "s3://b", "/m", "-o", "bogus"], "unknown option 'bogus'"),
        (["mount", "s3://b", "/m", "--config", "/none"], "cannot read the configuration file"),
        (["mount", "s3://b", "/m", "more"], "unexpected extra argument"),
        (["mount", "s3://b", "/nowhere"], "there is no directory /nowhere: make it with"),
        (["umount", "/nowhere"], "there is no directory /nowhere"),
        (["umount", "/proc"], "/proc is no mount of storefs"),
        (["umount", "/proc", "--stop-timeout", "x"], "--stop-timeout: 'x' is not a duration"),
        (["status", "/nowhere"], "no storefs mount at /nowhere"),
        (["ls", "/nowhere"], "neither a URL (s3://bucket) nor in a mounted directory"),
        (["ls"], "Missing argument 'TARGET'"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["--bogus"], "No such option '--bogus'"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    storefs: Commands, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setattr(preflight, "check_fuse", lambda: None)
    ran = storefs(*arguments)
    assert ran.code == 2
    assert len(ran.lines) == 1
    assert ran.lines[0].startswith("storefs: ")
    assert said in ran.lines[0]
    assert ran.out == ""


def test_version_and_help(storefs: Commands) -> None:
    assert storefs("--version").out == f"storefs {__version__}\n"
    for command in ("mount", "umount", "status", "ls"):
        ran = storefs(command, "--help")
        assert ran.code == 0 and ran.out.startswith(f"Usage: storefs {command}")


def test_storefs_alone_shows_its_help(storefs: Commands) -> None:
    ran = storefs()
    assert ran.code == 2 and "Commands:" in ran.err


# -- mount in the foreground, over a mount that is only played -------------------------------------


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[MountConfig]]:
    """`storefs.mount.run` that raises or returns what the test wants."""
    (tmp_path / "bucket").mkdir()
    (tmp_path / "m").mkdir()
    monkeypatch.setattr(preflight, "check_fuse", lambda: None)
    monkeypatch.setattr("storefs.log.configure", lambda config: "stderr")

    def play(outcome: Any, *, ready_first: bool = False) -> list[MountConfig]:
        seen: list[MountConfig] = []

        def run(config: MountConfig, *, ready: Callable[[], None]) -> int:
            seen.append(config)
            if ready_first:
                ready()
            if isinstance(outcome, Exception):
                raise outcome
            return int(outcome)

        module = types.ModuleType("storefs.mount")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "storefs.mount", module)
        return seen

    return play


def mount_here(storefs: Commands, tmp_path: Path, *more: str) -> Any:
    return storefs("mount", f"file://{tmp_path}/bucket", tmp_path / "m", "--foreground", *more)


@pytest.mark.parametrize("code", [0, 1])
def test_the_code_of_the_mount_is_the_command_s(
    storefs: Commands, played: Callable[..., list[MountConfig]], tmp_path: Path, code: int
) -> None:
    seen = played(code, ready_first=True)
    assert mount_here(storefs, tmp_path, "--uid", "7").code == code
    assert seen[0].tree.uid == 7 and seen[0].log.foreground


@pytest.mark.parametrize(
    "error",
    [
        ContainerNotFound("no such bucket"),
        ExceptionGroup(
            "nursery", [ExceptionGroup("nursery", [ContainerNotFound("no such bucket")])]
        ),
    ],
)
def test_a_start_that_fails_is_one_line_and_code_2(
    storefs: Commands,
    played: Callable[..., list[MountConfig]],
    tmp_path: Path,
    error: Exception,
) -> None:
    played(error)
    ran = mount_here(storefs, tmp_path)
    assert (ran.code, ran.lines) == (2, [f"storefs: file://{tmp_path}/bucket: no such bucket"])


def test_an_error_nobody_thought_of_is_one_line_too_and_its_traceback_is_logged(
    storefs: Commands,
    played: Callable[..., list[MountConfig]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    played(RuntimeError("broken\ntwice"))
    ran = mount_here(storefs, tmp_path)
    assert ran.code == 2
    assert ran.lines == ["storefs: RuntimeError: broken twice; its traceback is in stderr"]
    assert "Traceback" in caplog.text


# -- hints -----------------------------------------------------------------------------------------

REFUSED = AccessDenied("refused", request_id="REQ1", operation="list_objects")
S3 = StoreConfig(StoreUrl("s3", "bucket"), endpoint_url="https://s3.example.org")


@pytest.mark.parametrize(
    ("error", "store", "said"),
    [
        (REFUSED, S3, "credentials were looked for in AWS_ACCESS_KEY_ID (not set)"),
        (REFUSED, S3, "profile 'default' of"),
        (ObjectNotFound("404"), S3, "https://s3.example.org does not answer like an S3 server"),
        (
            REFUSED,
            StoreConfig(S3.url, anonymous=True),
            "leave --anonymous out and give credentials",
        ),
        (ContainerNotFound("none"), S3, "looked for bucket 'bucket' at https://s3.example.org"),
        (DeadlineExceeded("no answer"), S3, "check --endpoint-url and the network"),
        (ConfigError("as it is"), S3, "as it is"),
    ],
)
def test_an_error_of_the_store_has_a_hint(
    error: StorefsError, store: StoreConfig, said: str
) -> None:
    explained = explain(error, store)
    assert said in explained
    assert "\n" not in explained


# -- umount ----------------------------------------------------------------------------------------


@pytest.fixture
def busy_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A mount at `tmp_path` that does not go."""
    mountpoint = str(tmp_path)
    entry = mounttable.MountEntry(mountpoint, "s3://b", "fuse.storefs", (0, 99))
    monkeypatch.setattr(mounttable, "read", lambda: [entry])
    monkeypatch.setattr(mounttable, "is_dead", lambda mountpoint: False)

    def refuse(mountpoint: str, *, lazy: bool) -> None:
        raise detach.MountBusy(mountpoint)

    monkeypatch.setattr(umount, "detach", refuse)
    return mountpoint


def test_a_busy_mount_is_answered_with_names_and_lazy(
    storefs: Commands, busy_mount: str, tmp_path: Path
) -> None:
    with open(tmp_path / "open", "w"):
        ran = storefs("umount", busy_mount)
    assert ran.code == 2
    assert "is in use by" in ran.err and "file)" in ran.err and "--lazy" in ran.err


def test_a_directory_in_a_mount_is_answered_with_the_mount(
    storefs: Commands, busy_mount: str
) -> None:
    ran = storefs("umount", f"{busy_mount}/below")
    assert f"lies in a mount: `storefs umount {busy_mount}` ends it" in ran.err


def test_a_dead_mount_is_unmounted_and_said(
    storefs: Commands, busy_mount: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(mounttable, "is_dead", lambda mountpoint: True)
    monkeypatch.setattr(umount, "detach", lambda mountpoint, lazy: asked.append(lazy))
    ran = storefs("umount", busy_mount)
    assert (ran.code, asked) == (0, [True])
    assert "its daemon was dead; unmounted what it left" in ran.err


def test_a_user_is_told_whose_mount_it_is(busy_mount: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = mounttable.MountEntry(busy_mount, "s3://b", "fuse.storefs", (0, 99), 0)
    monkeypatch.setattr(mounttable, "read", lambda: [entry])
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="was mounted by root: unmount it with sudo"):
        detach.detach(busy_mount, lazy=False)


def test_unsent_files_are_named_and_the_code_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"path": "/a\nb", "bytes_total": 2048, "bytes_sent": 1024, "error": "AccessDenied"}
    assert umount._name_unsent({"failed": [failed], "mountpoint": "/m"}, {}) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "storefs: not stored: /a\\nb, 1.0 KiB of 2.0 KiB, AccessDenied"
    assert umount._name_unsent({}, {}) == 0


def test_users_of_a_directory_are_found_by_their_links_alone(tmp_path: Path) -> None:
    with open(tmp_path / "open", "w"):
        found = detach.users(str(tmp_path))
    assert [user.by for user in found] == ["file"]
    assert detach.describe_users(found).startswith("by ")


# -- status ----------------------------------------------------------------------------------------

REPLY: dict[str, Any] = {
    "url": "s3://b",
    "mountpoint": "/m",
    "pid": 12,
    "since": 0,
    "write_mode": "through",
    "conditions": "conditional writes",
    "requests": {"PUT": 2, "GET": 1},
    "pending": [{"path": "/f", "bytes_total": 10, "bytes_sent": 5, "state": "uploading"}],
    "failed": [{"path": "/g", "error": "AccessDenied"}],
    "lost_found": [{"path": "/l", "bytes": 3}],
    "hidden_keys": 2,
    "cache": {"bytes": 1024, "limit_bytes": 2048},
    "inodes": 4,
    "draining": False,
}


def test_status_shows_all_there_is() -> None:
    shown = "\n".join(text.mount_lines("/m", "s3://b", "mounted", REPLY))
    for part in (
        "s3://b on /m: mounted",
        "pid 12",
        "writes through, conditional writes",
        "requests: GET 1, PUT 2",
        "cache: 1.0 KiB of 2.0 KiB",
        "inodes: 4",
        "not shown: 2",
        "waiting to be stored: /f, 5 B of 10 B, uploading",
        "NOT STORED: /g, AccessDenied",
        "lost+found: /l, 3 B",
    ):
        assert part in shown


@pytest.mark.parametrize("left_out", [*REPLY, "everything"])
def test_status_takes_a_reply_with_fields_missing_or_odd(left_out: str) -> None:
    """A daemon may be older or newer than the command."""
    missing = {} if left_out == "everything" else {k: v for k, v in REPLY.items() if k != left_out}
    assert text.mount_lines("/m", "s3://b", "mounted", missing)
    assert text.mount_lines("/m", "s3://b", "mounted", {**REPLY, left_out: "odd"})
    assert isinstance(text.progress_line(missing), str)


def test_status_in_json_names_each_mount_and_its_state(
    storefs: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = KnownMount("/m", "s3://b", State.DEAD)
    monkeypatch.setattr(control, "list_mounts", lambda: [dead])
    ran = storefs("status", "--json")
    (shown,) = json.loads(ran.out)
    assert ran.code == 1
    assert (shown["mountpoint"], shown["url"]) == ("/m", "s3://b")
    assert shown["state"].startswith("dead")


def test_a_mount_of_another_user_is_shown_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = KnownMount("/m", "s3://b", State.UNKNOWN, user_id=4242)
    monkeypatch.setattr(control, "list_mounts", lambda: [other])
    (answer,) = status.collect("/m/below")
    assert "another user (uid 4242)" in answer.state
    assert not answer.is_bad


def test_nothing_mounted_is_said(storefs: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "list_mounts", list)
    assert storefs("status").out == "nothing is mounted\n"


# -- mount.storefs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["s3://b"],
        ["s3://b", "/m", "x"],
        ["s3://b", "/m", "-q"],
        ["s3://b", "/m", "-t", "ext4"],
        ["s3://b", "/m", "-o", "bogus"],
        ["s3://b", "/m", "-o", "cache_size=big"],
    ],
)
def test_wrong_usage_of_the_helper_is_1(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert helper.run(arguments) == helper.WRONG_USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_mount_that_fails_is_32(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "check_fuse", lambda: None)
    assert helper.run(["s3://b", "/nowhere", "-o", "rw,_netdev"]) == helper.MOUNT_FAILED
    assert "there is no directory /nowhere" in capsys.readouterr().err


def test_fake_checks_and_does_not_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "check_fuse", lambda: None)
    (tmp_path / "m").mkdir()
    assert helper.run(["s3://b", str(tmp_path / "m"), "-f", "-n", "-t", "fuse.storefs"]) == 0


def test_sloppy_lets_unknown_options_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "check_fuse", lambda: None)
    (tmp_path / "m").mkdir()
    assert helper.run(["s3://b", str(tmp_path / "m"), "-fs", "-o", "bogus"]) == 0


def test_a_namespace_that_does_not_exist_is_32(capsys: pytest.CaptureFixture[str]) -> None:
    assert helper.run(["s3://b", "/m", "-N", "/none"]) == helper.MOUNT_FAILED
    assert "-N /none: No such file" in capsys.readouterr().err


# -- ls --------------------------------------------------------------------------------------------


def test_ls_shows_names_below_the_prefix_and_sizes_if_asked() -> None:
    found = Object("p/a\tb", 1536, mtime_ns=0)
    assert line(found, "p/", long=False, human=False) == "a\\tb"
    assert line(found, "p/", long=True, human=False).split() == ["1536", "-", "a\\tb"]
    assert "1.5 KiB" in line(found, "p/", long=True, human=True)
    assert line(Object("p/d/", is_prefix=True), "p/", long=True, human=False).split()[0] == "-"


def test_ls_of_a_local_bucket(storefs: Commands, tmp_path: Path) -> None:
    pytest.importorskip("storefs.drivers.local")
    for name in ("b/one", "b/sub/two", "b/sub/three"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("12345")
    assert storefs("ls", f"file://{tmp_path}/b").out.splitlines() == ["one", "sub/"]
    everything = storefs("ls", "-r", "-l", f"file://{tmp_path}/b").out.splitlines()
    assert [shown.split()[-1] for shown in everything] == ["one", "sub/three", "sub/two"]
    assert all(shown.split()[0] == "5" for shown in everything)


def test_ls_of_a_bucket_that_does_not_exist_is_one_line(storefs: Commands, tmp_path: Path) -> None:
    pytest.importorskip("storefs.drivers.local")
    ran = storefs("ls", f"file://{tmp_path}/none")
    assert ran.code == 2 and len(ran.lines) == 1


def test_an_error_of_the_store_while_listing_is_one_line(
    storefs: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(config: StoreConfig) -> Any:
        raise REFUSED

    monkeypatch.setattr("storefs.drivers.open_driver", refuse)
    ran = storefs("ls", "s3://b")
    assert ran.code == 1 and "credentials were looked for" in ran.lines[0]


def test_a_key_that_does_not_exist_is_said(
    storefs: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Empty:
        def list_container_objects(self, *arguments: Any, **more: Any) -> Any:
            return [], None

        def get_object_meta(self, *arguments: Any) -> Any:
            raise ObjectNotFound("none")

        def close(self) -> None:
            pass

    monkeypatch.setattr("storefs.drivers.open_driver", lambda config: (Empty(), Empty(), "b"))
    ran = storefs("ls", "s3://b/none")
    assert ran.code == 1 and "no such key or directory" in ran.lines[0]
