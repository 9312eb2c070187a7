"""Real mounts for tests: `storefs mount` in a process of its own, with time limits on everything.

Used by tests under `tests/mounted`. Everything that a user would do in the mount is done in
subprocesses (`sh`, `py`), for a mount that hangs must not hang the test run. The danger: leaving
daemons or mounts behind, or ending somebody else's; a mount's daemon is known by a mark in its
environment and nothing else is ever signalled.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import textwrap
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tests.support.commands import CommandFailed, Conversation, eventually, run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
MARK = "MOUNT_OF_TEST"
START_SECONDS = 60


def is_mounted(path: Path) -> bool:
    """Whether something is mounted there; does not touch the mount itself."""
    wanted = os.fspath(path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            point = line.split(" ")[4]
            for escape, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
                point = point.replace(escape, char)
            if point == wanted:
                return True
    return False


def base_environment(home: Path) -> dict[str, str]:
    """What a user's command sees: nothing of this machine's accounts, files in `home` only."""
    home.mkdir(parents=True, exist_ok=True)
    runtime = home / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_RUNTIME_DIR": str(runtime),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(home / "no-aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "no-aws-credentials"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "Test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
    }


def storefs(
    *args: str | os.PathLike[str],
    env: Mapping[str, str],
    timeout: float = START_SECONDS,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run the command line; unlike `run` it does not raise on a failure unless told to."""
    return run([sys.executable, "-m", "storefs", *args], env=env, timeout=timeout, check=check)


class Mount:
    """One mount of one URL: its directories, its daemon, and commands inside it.

    `mount` may be called again after `umount` or `kill`. `close` always leaves nothing mounted
    and no daemon.
    """

    live: ClassVar[list[Mount]] = []

    def __init__(
        self,
        url: str,
        directory: Path,
        *,
        env: Mapping[str, str] | None = None,
        daemon_env: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        self.url = url
        self.directory = directory
        self.path = directory / "mnt"
        self.cache_dir = directory / "cache"
        self.state_dir = directory / "state"
        self.log_file = directory / "log"
        self.flags = list(flags)
        self.path.mkdir(parents=True, exist_ok=True)
        self._mark = uuid.uuid4().hex
        self.env = base_environment(directory / "home") | dict(env or {})
        self.daemon_env = dict(daemon_env or {})
        self._told = 0

    def __repr__(self) -> str:
        return f"Mount({self.url!r}, {str(self.path)!r}, mounted={is_mounted(self.path)})"

    # -- life ----------------------------------------------------------------------------------

    def try_mount(self, *flags: str, timeout: float = START_SECONDS) -> Any:
        """`storefs mount`, whatever comes of it."""
        if self not in Mount.live:
            Mount.live.append(self)
        given = [*self.flags, *flags]
        for name, value in (
            ("--cache-dir", self.cache_dir),
            ("--state-dir", self.state_dir),
            ("--log-file", self.log_file),
        ):
            if name not in given:
                given += [name, str(value)]
        args = [sys.executable, "-m", "storefs", "mount", self.url, str(self.path), *given]
        env = self.env | self.daemon_env | {MARK: self._mark}
        return run(args, env=env, timeout=timeout, check=False, when_stuck=self.kill)

    def mount(self, *flags: str, timeout: float = START_SECONDS) -> str:
        """Mount and return what the command printed; when it returns, the mount is there."""
        done = self.try_mount(*flags, timeout=timeout)
        told: str = done.stdout + done.stderr
        if done.returncode:
            raise CommandFailed(f"mount ended with {done.returncode}\n{told}\n{self.log()}")
        assert is_mounted(self.path), f"mount returned, and nothing is mounted\n{told}"
        return told

    def umount(self, *, check: bool = True, timeout: float = 90) -> Any:
        """`storefs umount`, which waits for the drain; afterwards there is no daemon."""
        args = [sys.executable, "-m", "storefs", "umount", str(self.path)]
        done = run(args, env=self.env, timeout=timeout, check=check, when_stuck=self.kill)
        if check:
            assert not is_mounted(self.path), "umount returned, and it is still mounted"
            eventually(lambda: not self.pids(), within=5, what="the daemon's end")
        return done

    def remount(self, *flags: str, empty_cache: bool = False) -> None:
        """Unmount and mount again."""
        self.umount()
        if empty_cache:
            run(["rm", "-rf", str(self.cache_dir)], env=self.env)
        self.mount(*flags)

    def pids(self) -> list[int]:
        """Processes of this mount's daemon, known by the mark in their environment."""
        mark = f"{MARK}={self._mark}".encode()
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if mark in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                    found.append(int(entry))
        return found

    @property
    def pid(self) -> int:
        """The daemon's process."""
        pids = self.pids()
        assert len(pids) == 1, f"one daemon was expected, there are {pids}"
        return pids[0]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """`kill -9` of the daemon, and wait for its end; frees whoever waits in the mount."""
        self.signal(signal.SIGKILL)
        eventually(lambda: not self.pids(), within=10, what="the end of a killed daemon")

    def wait_for_end(self, within: float) -> float:
        """Seconds until the daemon has ended by itself."""
        started = time.monotonic()
        eventually(lambda: not self.pids(), within=within, what="the daemon's end")
        return time.monotonic() - started

    def close(self) -> None:
        """Leave nothing: politely, then by force. Harmless when repeated."""
        if self in Mount.live:
            Mount.live.remove(self)
        with contextlib.suppress(CommandFailed):
            if is_mounted(self.path):
                self.umount(check=False, timeout=20)
        with contextlib.suppress(CommandFailed):
            self.kill()
        for _ in range(3):
            if not is_mounted(self.path):
                break
            tool = ["umount", "-l"] if os.getuid() == 0 else ["fusermount3", "-uz"]
            run([*tool, str(self.path)], env=self.env, check=False)
        assert not is_mounted(self.path), f"{self.path} cannot be unmounted"

    # -- inside --------------------------------------------------------------------------------

    def sh(
        self,
        script: str,
        *,
        within: str = ".",
        timeout: float = 30,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes = b"",
    ) -> Any:
        """Run a shell script in a directory of the mount; `set -e` holds."""
        return run(
            ["/bin/sh", "-ec", 'cd "$0"\n' + textwrap.dedent(script), str(self.path / within)],
            env=self.env | dict(env or {}),
            timeout=timeout,
            check=check,
            stdin=stdin,
            when_stuck=self.kill,
        )

    def py(
        self, code: str, *args: str, within: str = ".", timeout: float = 30, check: bool = True
    ) -> str:
        """Run Python in a directory of the mount; what it prints. `os`, `sys` are imported."""
        head = "import errno, json, os, sys, time\nos.chdir(sys.argv.pop(1))\n"
        done = run(
            [sys.executable, "-c", head + textwrap.dedent(code), str(self.path / within), *args],
            env=self.env,
            timeout=timeout,
            check=check,
            when_stuck=self.kill,
        )
        return done.stdout

    def talk(self, code: str, *args: str, within: str = ".") -> Conversation:
        """Python in a directory of the mount that the test talks with, line by line."""
        head = "import errno, json, os, sys, time\nos.chdir(sys.argv.pop(1))\n"
        source = head + textwrap.dedent(code)
        return Conversation(
            [sys.executable, "-u", "-c", source, str(self.path / within), *args],
            env=self.env,
            when_stuck=self.kill,
        )

    def errno_of(self, expression: str, *, within: str = ".", timeout: float = 30) -> str:
        """The name of the errno that a Python expression raises in the mount, or "none"."""
        code = f"""
        try:
            {expression}
            print("none")
        except OSError as error:
            print(errno.errorcode[error.errno])
        """
        return self.py(code, within=within, timeout=timeout).strip()

    # -- what it says of itself ----------------------------------------------------------------

    def status(self, *, timeout: float = 20) -> dict[str, Any]:
        """`storefs status --json` of this mount."""
        # A file that is not stored makes its exit code 1, and is no reason not to look.
        done = storefs("status", "--json", str(self.path), env=self.env, timeout=timeout)
        try:
            told: dict[str, Any] = json.loads(done.stdout)[0]
        except (ValueError, IndexError):
            raise CommandFailed(f"no status: {done.stdout}{done.stderr}") from None
        return told

    def fuse_requests(self) -> dict[str, int]:
        """How often the kernel asked, by kind of request."""
        counts: dict[str, int] = self.status()["fuse"]
        return counts

    def high_water_bytes(self) -> int:
        """The most memory that the daemon ever had resident."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise CommandFailed("the kernel does not say VmHWM")

    def log(self) -> str:
        """All that the daemon logged."""
        try:
            return self.log_file.read_text(errors="replace")
        except OSError:
            return "(no log)"

    def new_log(self) -> str:
        """What was logged since the last call."""
        text = self.log()
        new, self._told = text[self._told :], len(text)
        return new
