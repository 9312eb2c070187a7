"""Running mounts: where they register, and the socket on which each answers.

`mount` calls `serve`; the commands call `list_mounts`, `find` and `ask`. A mount registers under
`config.runtime_dir()` with a JSON record and a unix socket, both named by a hash of its mount point
and its process id, so that one that still drains stands beside its successor. A request is one line
of JSON, `{"command": "status"}`, the answer another. The danger is a daemon that hangs: no function
of the client's side waits for one longer than its time-out.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storefs import log, mounttable
from storefs.config import MountConfig, runtime_dir
from storefs.errors import ConfigError

if TYPE_CHECKING:
    import trio

logger = logging.getLogger(__name__)

Reply = dict[str, Any]
Handler = Callable[[dict[str, Any]], "Reply | Awaitable[Reply]"]

ASK_SECONDS = 5.0
_REQUEST_BYTES = 64 * 1024
_REPLY_BYTES = 64 * 1024 * 1024
_LAST_WORD_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class MountRecord:
    """What a running mount says of itself. Paths are UTF-8 text, whatever the locale.

    `store` holds the fields of `StoreConfig` but its URL, so that `storefs ls` reaches the same
    store. Nothing in it is secret.
    """

    mountpoint: str
    url: str
    pid: int
    start_ticks: int
    boot_id: str
    since: float
    uid: int
    log: str = ""
    store: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: MountConfig) -> MountRecord:
        """The record of a mount that this process serves."""
        store = asdict(config.store)
        del store["url"]
        return cls(
            mountpoint=_text(str(config.mountpoint)),
            url=str(config.store.url).encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            pid=os.getpid(),
            start_ticks=start_ticks(os.getpid()) or 0,
            boot_id=_boot_id(),
            since=time.time(),
            uid=os.getuid(),
            log=log.describe(config.log),
            store=store,
        )

    @property
    def path(self) -> str:
        """The mount point as this process's locale spells it."""
        return os.fsdecode(self.mountpoint.encode("utf-8", "surrogateescape"))

    @property
    def stem(self) -> str:
        """Name of the record's files, without their endings."""
        return f"{_digest(self.mountpoint)}-{self.pid}"

    def is_alive(self) -> bool:
        """True while the process that wrote it runs; a number used again is not taken for it."""
        return self.boot_id == _boot_id() and start_ticks(self.pid) == self.start_ticks


class State(enum.Enum):
    """How a mount stands."""

    MOUNTED = "mounted"  # in the mount table, its daemon runs
    DRAINING = "draining"  # the daemon still runs, the directory is free again
    DEAD = "dead"  # in the mount table, the daemon is gone
    UNKNOWN = "unknown"  # in the mount table, of another user or not answering


@dataclass(frozen=True, slots=True)
class KnownMount:
    """A mount from the registry, from the mount table, or from both."""

    mountpoint: str
    url: str
    state: State
    record: MountRecord | None = None
    directory: Path | None = None
    user_id: int | None = None


def _text(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def _digest(mountpoint_text: str) -> str:
    return hashlib.sha256(mountpoint_text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none or a zombie."""
    try:
        stat_line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    rest = stat_line.rpartition(b")")[2].split()  # the name before it may hold anything
    return None if rest[0] in (b"Z", b"X") else int(rest[19])


# -- the registry ---------------------------------------------------------------------------------


def prepare_directory() -> Path:
    """The registry's directory, made if need be; ConfigError if it is not ours alone."""
    directory = runtime_dir()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as exc:
        raise ConfigError(f"cannot make {directory}: {exc.strerror}") from exc
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise ConfigError(
            f"{directory} is not a directory that only you can write: remove it and try again"
        )
    if found.st_mode & 0o077:
        directory.chmod(0o700)
    return directory


def _directories() -> list[Path]:
    """Where to look: one's own registry, and for root those of the users as well."""
    found = [runtime_dir()]
    if os.getuid() == 0:
        found += [*Path("/run/user").glob("*/storefs"), *Path("/tmp").glob("storefs-*")]
    return [directory for directory in found if directory.is_dir()]


def _load(path: Path) -> MountRecord | None:
    """The record, or None if it is none. One that belongs to another user than it says is none."""
    try:
        with path.open("rb") as file:
            owner = os.fstat(file.fileno()).st_uid
            raw = json.loads(file.read(_REQUEST_BYTES))
        known = {each.name for each in fields(MountRecord)}
        record = MountRecord(**{name: value for name, value in raw.items() if name in known})
        valid = isinstance(record.pid, int) and owner == record.uid and path.stem == record.stem
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return record if valid else None


def _records() -> Iterator[tuple[Path, MountRecord]]:
    for directory in _directories():
        for path in sorted(directory.glob("*.json")):
            record = _load(path)
            if record is not None and record.is_alive():
                yield directory, record
            elif record is not None or directory == runtime_dir():
                _forget(path)  # stale: the process died without a word


def _forget(path: Path) -> None:
    for ending in (".json", ".sock"):
        with contextlib.suppress(OSError):
            path.with_suffix(ending).unlink()


def list_mounts() -> list[KnownMount]:
    """Every mount of storefs that can be seen from here, sorted by mount point, dead ones too."""
    uppermost = {entry.mountpoint: entry for entry in mounttable.read()}
    records = list(_records())
    newest = {record.path: record.pid for _, record in sorted(records, key=lambda r: r[1].since)}
    known = []
    for directory, record in records:
        entry = uppermost.get(record.path)
        mounted = entry is not None and entry.is_storefs and newest[record.path] == record.pid
        state = State.MOUNTED if mounted else State.DRAINING
        known.append(KnownMount(record.path, record.url, state, record, directory, record.uid))
    served = {mount.mountpoint for mount in known if mount.state is State.MOUNTED}
    for entry in uppermost.values():
        if entry.is_storefs and entry.mountpoint not in served:
            state = State.DEAD if mounttable.is_dead(entry.mountpoint) else State.UNKNOWN
            known.append(KnownMount(entry.mountpoint, entry.source, state, user_id=entry.user_id))
    return sorted(known, key=lambda mount: (mount.mountpoint, mount.state.value))


def find(mountpoint: str) -> KnownMount | None:
    """The mount at exactly this resolved path; a mounted one before one that drains."""
    order = [State.MOUNTED, State.UNKNOWN, State.DEAD, State.DRAINING]
    found = [mount for mount in list_mounts() if mount.mountpoint == mountpoint]
    return min(found, key=lambda mount: order.index(mount.state), default=None)


# -- the client's side ----------------------------------------------------------------------------


@contextlib.contextmanager
def _short_path(directory: Path, name: str) -> Iterator[str]:
    """A path of few bytes to a socket: sun_path takes 108, and runtime directories may be long."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def ask(
    mount: KnownMount, command: str, *, timeout_seconds: float = ASK_SECONDS, **arguments: Any
) -> Reply:
    """Send one command to a mount's daemon and return its answer.

    Raises OSError (TimeoutError among them) if there is no daemon, it does not answer within
    `timeout_seconds` in all, or what it answers is nothing that we understand.
    """
    if mount.record is None or mount.directory is None:
        raise ConnectionRefusedError("no daemon of this mount can be reached")
    deadline = time.monotonic() + timeout_seconds
    line = json.dumps({"command": command, **arguments}).encode() + b"\n"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as client,
        _short_path(mount.directory, f"{mount.record.stem}.sock") as path,
    ):
        client.settimeout(timeout_seconds)
        client.connect(path)
        client.sendall(line)
        answer = _receive_line(client, deadline)
    try:
        reply = json.loads(answer)
    except ValueError as exc:
        raise ConnectionError("the answer was cut off") from exc
    if not isinstance(reply, dict):
        raise ConnectionError("the answer is no object")
    return reply


def _receive_line(client: socket.socket, deadline: float) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the daemon did not answer in time")
        client.settimeout(left)
        piece = client.recv(1 << 16)
        if not piece:
            break
        received += piece
        if len(received) > _REPLY_BYTES:
            raise ConnectionError("the answer has no end")
    return bytes(received)


def take_last_word(mount: KnownMount) -> Reply | None:
    """The status that a daemon left when it ended with something unsent, once; else None."""
    if mount.record is None or mount.directory is None:
        return None
    path = mount.directory / f"{mount.record.stem}.last"
    try:
        reply = json.loads(path.read_bytes())
        path.unlink()
    except (OSError, ValueError):
        return None
    return reply if isinstance(reply, dict) else None


# -- the daemon's side ----------------------------------------------------------------------------


async def serve(
    record: MountRecord, handle: Handler, *, task_status: trio.TaskStatus[None] | None = None
) -> None:
    """Register the mount and answer requests until cancelled; then withdraw it.

    `handle` gets the request and returns the reply, now or when awaited; what it raises is logged
    and answered as `{"error": ...}`. At the end it is asked for its status once more, and what that
    calls pending or failed is left for `storefs umount` to name. Raises ConfigError if the runtime
    directory cannot be used.
    """
    import trio

    directory = prepare_directory()
    for old in directory.glob(f"{_digest(record.mountpoint)}-*.last"):
        old.unlink(missing_ok=True)
    with _short_path(directory, f"{record.stem}.sock") as path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        await listener.bind(path)
    listener.listen(16)
    try:
        _write_aside(directory / f"{record.stem}.json", asdict(record))
        if task_status is not None:
            task_status.started()
        async with trio.SocketListener(listener) as accepting:

            async def answer(stream: trio.SocketStream) -> None:
                await _answer(stream, handle)

            await trio.serve_listeners(answer, [accepting])
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_WORD_SECONDS):
            reply = await _reply_to({"command": "status"}, handle)
            if reply.get("pending") or reply.get("failed"):
                _write_aside(directory / f"{record.stem}.last", reply)
        listener.close()
        _forget(directory / f"{record.stem}.json")


def _write_aside(path: Path, content: Reply) -> None:
    aside = path.with_suffix(".new")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="ascii") as file:
        json.dump(content, file, default=str)
    aside.replace(path)


async def _answer(stream: trio.SocketStream, handle: Handler) -> None:
    """One request and its answer; a client that is slow or gone concerns nobody else."""
    import trio

    received = bytearray()
    try:
        with trio.move_on_after(ASK_SECONDS):
            while not received.endswith(b"\n") and len(received) <= _REQUEST_BYTES:
                piece = await stream.receive_some(4096)
                if not piece:
                    return
                received += piece
        try:
            request = json.loads(received)
        except ValueError:
            request = None
        if isinstance(request, dict):
            reply = await _reply_to(request, handle)
        else:
            reply = {"error": "a request is one line of JSON"}
        with trio.move_on_after(ASK_SECONDS):
            await stream.send_all(json.dumps(reply, default=str).encode() + b"\n")
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        logger.debug("a client went before it was answered")
    finally:
        await trio.aclose_forcefully(stream)


async def _reply_to(request: dict[str, Any], handle: Handler) -> Reply:
    try:
        answer = handle(request)
        return await answer if isinstance(answer, Awaitable) else answer
    except Exception as exc:
        logger.exception("control request %r failed", request.get("command"))
        return {"error": f"{type(exc).__name__}: {exc}"}
