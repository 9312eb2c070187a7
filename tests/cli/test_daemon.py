"""The parent of a daemon: it waits for one line and always says what became of the child."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storefs.cli import daemon

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Ends what a test started."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def script(text: str) -> list[str]:
    prelude = "import json, os, signal, sys\nfd = int(os.environ['STOREFS_READY_FD'])\n"
    return [sys.executable, "-c", prelude + textwrap.dedent(text)]


def test_the_parent_returns_when_the_child_is_ready(started: list[int]) -> None:
    outcome = daemon.start(script("os.write(fd, b'READY\\n')\nsignal.pause()"), log="the log")
    started.append(outcome.pid)
    assert (outcome.code, outcome.line) == (0, "")
    assert Path(f"/proc/{outcome.pid}").exists()


def test_an_error_line_is_handed_on_with_the_code() -> None:
    outcome = daemon.start(script("os.write(fd, b'no such bucket\\n')\nsys.exit(2)"), log="x")
    assert (outcome.code, outcome.line) == (2, "no such bucket")


def test_a_child_that_says_nothing_is_said_to_be_dead_and_where_to_look() -> None:
    outcome = daemon.start(script("sys.exit(7)"), log="the journal")
    assert outcome.code == 2
    assert outcome.line == (
        "the daemon ended with code 7 before the mount was ready; see the journal"
    )


def test_a_child_that_is_killed_is_said_to_be_killed() -> None:
    outcome = daemon.start(script("os.kill(os.getpid(), signal.SIGSEGV)"), log="the journal")
    assert "was killed by SIGSEGV before the mount was ready" in outcome.line


def test_a_child_that_hangs_is_ended() -> None:
    outcome = daemon.start(script("signal.pause()"), log="the log", timeout_seconds=0.3)
    assert outcome.code == 2
    assert outcome.line == "the mount did not start within 0.3 s; see the log"


def test_an_interrupted_parent_takes_its_child_along(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    real = daemon._read_line

    def interrupted(fd: int, seconds: float) -> str | None:
        assert real(fd, 20) == "GO"
        raise KeyboardInterrupt

    monkeypatch.setattr(daemon, "_read_line", interrupted)
    with pytest.raises(KeyboardInterrupt):
        daemon.start(
            script(
                f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
                "os.write(fd, b'GO\\n')\nsignal.pause()"
            ),
            log="x",
        )
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


def test_a_daemon_is_alone_in_its_session_at_the_root_without_a_terminal(
    started: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOREFS_REGION", "said on the command line now")
    facts = tmp_path / "facts"
    outcome = daemon.start(
        script(
            f"""
            json.dump({{
                "session": os.getsid(0) == os.getpid(),
                "cwd": os.getcwd(),
                "stdio": [os.readlink(f"/proc/self/fd/{{n}}") for n in range(3)],
                "settings": [n for n in os.environ if n.startswith("STOREFS_")],
            }}, open({str(facts)!r}, "w"))
            os.write(fd, b"READY\\n")
            signal.pause()
            """
        ),
        log="x",
    )
    started.append(outcome.pid)
    assert json.loads(facts.read_text()) == {
        "session": True,
        "cwd": "/",
        "stdio": ["/dev/null"] * 3,
        "settings": ["STOREFS_READY_FD"],
    }


def test_the_child_finds_the_package_from_any_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m storefs` in a checkout finds it through the current directory alone."""
    monkeypatch.setenv("PYTHONPATH", "relative")
    env = daemon.environment()
    root = str(Path(daemon.__file__).parents[2])
    assert os.path.abspath("relative") in env["PYTHONPATH"].split(os.pathsep)
    run = subprocess.run(
        [sys.executable, "-P", "-m", "storefs", "--version"],
        env={**env, "PYTHONPATH": f"{env['PYTHONPATH']}{os.pathsep}{root}"},
        cwd="/",
        capture_output=True,
        check=True,
    )
    assert run.stdout.startswith(b"storefs ")


def test_the_pipe_is_taken_out_of_the_environment_and_not_inherited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A credential helper that held it open would keep the parent waiting."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    monkeypatch.setenv("STOREFS_READY_FD", str(writing))
    pipe = daemon.ReadyPipe.inherited()
    assert pipe is not None and not os.get_inheritable(writing)
    assert "STOREFS_READY_FD" not in os.environ
    pipe.failed("why not")
    pipe.ready()
    assert os.read(reading, 100) == b"why not\n"
    assert os.read(reading, 100) == b""
    os.close(reading)


def test_help_and_the_parent_import_neither_trio_nor_a_driver() -> None:
    """They cost most of a second, and threads before the daemon is started."""
    code = (
        "import sys\n"
        "from storefs.cli.app import run\n"
        "run(['--help']); run(['mount', '--help']); run(['mount', 'file:///none', '/none'])\n"
        "import storefs.cli.daemon, storefs.cli.umount, storefs.cli.status\n"
        "print([m for m in ('trio', 'pyfuse3', 'boto3', 'botocore') if m in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert run.stdout.splitlines()[-1] == "[]"
