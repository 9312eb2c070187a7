"""Commands under a time limit, in a session of their own, so that a hung mount hangs no test run.

Used by `mounting` and by tests. A process that waits inside a FUSE request cannot be killed while
the file system's daemon holds that request, not even with SIGKILL; therefore `run` takes a
callable that frees it (by ending the daemon) and only then waits for it again. The danger: to let
`subprocess` itself change into a mounted directory or look at one; the test's own process must
touch no mount.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

POLL_SECONDS = 0.05


class CommandFailed(AssertionError):
    """A command ended otherwise than the test expects, or not in time."""


def run(
    args: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str],
    timeout: float = 30,
    check: bool = True,
    stdin: str | bytes = b"",
    when_stuck: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run to the end; output as text (bytes that are not UTF-8 as surrogates).

    Raises CommandFailed with all that was printed if it fails (and `check`) or takes longer than
    `timeout` seconds; it is killed then, after `when_stuck` has freed it.
    """
    process = subprocess.Popen(
        [os.fspath(arg) for arg in args],
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        encoding="utf-8",
        errors="surrogateescape",
    )
    text = stdin if isinstance(stdin, str) else stdin.decode("utf-8", "surrogateescape")
    try:
        out, err = process.communicate(text, timeout)
    except subprocess.TimeoutExpired:
        stack = kernel_stack(process.pid)
        if when_stuck is not None:
            when_stuck()
        kill_session(process)
        try:
            out, err = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            out, err = "", "(it cannot be killed)"
        told = f"{describe(args)} took longer than {timeout:g} s, in: {stack}"
        raise CommandFailed(f"{told}\n{out}{err}") from None
    if check and process.returncode:
        raise CommandFailed(f"{describe(args)} ended with {process.returncode}\n{out}{err}")
    return subprocess.CompletedProcess(list(args), process.returncode, out, err)


class Conversation:
    """A process that is talked with, line by line, while a test changes the world around it.

    A context manager: at its end the process is gone, freed by `when_stuck` if it must be.
    """

    def __init__(
        self,
        args: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str],
        when_stuck: Callable[[], None],
    ) -> None:
        self._when_stuck = when_stuck
        self._heard = b""
        self.process = subprocess.Popen(
            [os.fspath(arg) for arg in args],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self._when_stuck()
                self.process.wait(10)
        with contextlib.suppress(OSError):
            self._to.close()
        self._from.close()

    def say(self, line: str = "") -> None:
        """Send one line."""
        self._to.write(line.encode() + b"\n")
        self._to.flush()

    def hear(self, *, timeout: float = 20) -> str:
        """Its next line; CommandFailed with all that came, if none comes or it ends before."""
        while b"\n" not in self._heard:
            if not self._read(timeout):
                raise CommandFailed(f"it ended, and the last it said was {self._heard!r}")
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode("utf-8", "surrogateescape")

    def finish(self, *, timeout: float = 30) -> str:
        """All else that it says until it ends; CommandFailed unless it ends well and in time."""
        self._to.close()
        while self._read(timeout):
            pass
        text = self._heard.decode("utf-8", "surrogateescape")
        if self.process.wait(timeout):
            raise CommandFailed(f"it ended with {self.process.returncode}\n{text}")
        return text

    def _read(self, timeout: float) -> bool:
        if not select.select([self._from], [], [], timeout)[0]:
            raise CommandFailed(f"silent for {timeout:g} s, the last it said was {self._heard!r}")
        data = os.read(self._from.fileno(), 65536)
        self._heard += data
        return bool(data)


def describe(args: Sequence[str | os.PathLike[str]]) -> str:
    """The command on a line or two, as a person would read it."""
    text = " ".join(os.fspath(arg) for arg in args)
    return text if len(text) < 2000 else text[:2000] + "..."


def kill_session(process: subprocess.Popen[str]) -> None:
    """End the process and all that it started in its session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def kernel_stack(pid: int) -> str:
    """Where in the kernel a process waits, as far as we may know."""
    try:
        with open(f"/proc/{pid}/wchan") as file:
            return file.read() or "user space"
    except OSError:
        return "unknown"


def eventually(
    probe: Callable[[], T], *, within: float = 10, what: str = "what was waited for"
) -> T:
    """Ask until the answer is true, and return it; for what another process does in its time."""
    deadline = time.monotonic() + within
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise CommandFailed(f"{what} did not happen within {within:g} s, last: {answer!r}")
        time.sleep(POLL_SECONDS)
