"""Start the daemon as a process of its own and wait for its one line.

Used by `mount`. The parent has neither threads nor an SDK; the child is a fresh interpreter in its
own session, so that nothing of a terminal or of a fork is left in it. They share one pipe, whose
number stands in STOREFS_READY_FD: the child writes `READY` or one line that says why not. The
danger is a child that says nothing: its end of the pipe closes with it, and the parent reads that.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import storefs
from storefs.errors import ConfigError

READY_FD = "STOREFS_READY_FD"
READY = "READY"
# The mount's own deadline for its start is shorter; this only ends what is stuck below it.
START_SECONDS = 60.0
_END_SECONDS = 5.0
_LINE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a start ended: `line` is empty if the mount is ready, else says why it is not."""

    code: int
    line: str
    pid: int


class ReadyPipe:
    """The child's end. Everything said after the first word goes nowhere."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    @classmethod
    def inherited(cls) -> ReadyPipe | None:
        """The pipe of the process that started us, taken out of the environment; None without."""
        text = os.environ.pop(READY_FD, None)
        if text is None:
            return None
        try:
            fd = int(text)
            os.set_inheritable(fd, False)  # else a credential helper would keep it open
        except (ValueError, OSError) as exc:
            raise ConfigError(f"{READY_FD} is set by storefs itself: unset it") from exc
        return cls(fd)

    def ready(self) -> None:
        """The mount answers."""
        self._say(READY)

    def failed(self, line: str) -> None:
        """It will not; `line` says why."""
        self._say(line)

    def _say(self, line: str) -> None:
        fd, self._fd = self._fd, None
        if fd is None:
            return
        try:
            os.write(fd, line.encode("utf-8", "surrogateescape") + b"\n")
        except OSError:
            pass  # the parent was interrupted; the mount goes on all the same
        finally:
            os.close(fd)


def command(arguments: list[str]) -> list[str]:
    """The child's command line: this interpreter, this package, `storefs mount ARGUMENTS`.

    -P: its current directory is /, which is no place to look for modules.
    """
    return [sys.executable, "-P", "-m", "storefs", "mount", "--foreground", *arguments]


def environment() -> dict[str, str]:
    """The child's variables: ours, without settings that are on its command line now."""
    env = {name: text for name, text in os.environ.items() if not name.startswith("STOREFS_")}
    paths = [os.path.abspath(each) for each in env.get("PYTHONPATH", "").split(os.pathsep) if each]
    package_root = str(Path(storefs.__file__).resolve().parent.parent)
    if package_root in {os.path.abspath(each) for each in sys.path} - set(paths):
        paths.append(package_root)  # found through the current directory, which will be /
    env["PYTHONPATH"] = os.pathsep.join(paths)
    return env


def start(argv: list[str], *, log: str, timeout_seconds: float = START_SECONDS) -> Outcome:
    """Run `argv` as a daemon and wait until it is ready, fails, or `timeout_seconds` are over.

    Interrupted, it ends the child and lets the interruption pass.
    """
    reading, writing = os.pipe()
    try:
        with open(os.devnull, "r+b") as null:
            process = subprocess.Popen(
                argv,
                stdin=null,
                stdout=null,
                stderr=null,
                cwd="/",
                env={**environment(), READY_FD: str(writing)},
                pass_fds=(writing,),
                start_new_session=True,
            )
        os.close(writing)
        writing = -1
        try:
            line = _read_line(reading, timeout_seconds)
        except BaseException:
            _end(process)
            raise
        return _outcome(process, line, log, timeout_seconds)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _read_line(fd: int, timeout_seconds: float) -> str | None:
    """What the child says, empty if it closed the pipe silently, None if the time was over."""
    received = b""
    deadline = time.monotonic() + timeout_seconds
    while not received.endswith(b"\n") and len(received) < _LINE_BYTES:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return None
        piece = os.read(fd, 4096)
        if not piece:
            break
        received += piece
    return received.decode("utf-8", "surrogateescape").strip()


def _outcome(
    process: subprocess.Popen[bytes], line: str | None, log: str, timeout_seconds: float
) -> Outcome:
    if line == READY:
        process.returncode = 0  # it is on its own now; nobody waits for it
        return Outcome(0, "", process.pid)
    if line is None:
        _end(process)
        return Outcome(2, f"the mount did not start within {timeout_seconds:g} s; see {log}", 0)
    try:
        code = process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        code = _end(process)
    if line:
        return Outcome(code if code > 0 else 2, line, 0)
    how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with code {code}"
    return Outcome(2, f"the daemon {how} before the mount was ready; see {log}", 0)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end(process: subprocess.Popen[bytes]) -> int:
    """Ask the child to end, then make it."""
    process.terminate()
    try:
        return process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
