"""One mount: build the layers, serve the kernel until it is over, drain, tear down.

The composition root: the only module that knows all layers, and with `fuse` the only one that knows
pyfuse3. It opens the one nursery and passes it down. A mount ends when the kernel lets go of it
(umount), or by a signal: then it is detached first and drained after. What cannot be stored in time
stays in the state directory and is named.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mimetypes
import os
import signal
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyfuse3
import trio

from storefs import notify, report, threads
from storefs.cache import Cache
from storefs.control import MountRecord, serve
from storefs.drivers import open_driver
from storefs.drivers.models import ObjectAttributes
from storefs.errors import ConfigError, DeadlineExceeded, StoreError
from storefs.fuse import kernel
from storefs.fuse.operations import REQUESTS, Operations
from storefs.handle.table import OpenFiles
from storefs.store import Store, Version
from storefs.store.probe import Memory, describe, probe
from storefs.tree.tree import Tree
from storefs.units import MIB, InodeNumber, format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.config import MountConfig
    from storefs.handle.state import PendingFile

log = logging.getLogger(__name__)

START_SECONDS = 12.0
"""An endpoint that does not answer is reported within 15 s, imports included."""

MAX_TASKS = 1000
"""Requests of the kernel that wait at once: the store's limits bound the work, not this."""

PROBE_IDLE_SECONDS = 5.0
PROBE_LATEST_SECONDS = 30.0
"""After the first write; a long copy has no idle moment, and pays a HEAD for each file till then
(100 files at 20 ms: 5.7 s before the store is known, 2.9 s after)."""

PROGRAM_BYTES = 112 * MIB
"""Imports and one SDK's client (68 MiB here after start), and the kernel's requests in work."""

INODE_BYTES = 400
"""Memory of an inode with its name and its place in the tables; measured with tracemalloc."""


def run(config: MountConfig, *, ready: Callable[[], None]) -> int:
    """Serve a mount until it is over; 0 if everything is stored, 1 if something is not.

    `ready` is called once the mount answers. Raises StorefsError if it cannot be started; nothing
    is mounted then.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    _limit_arenas()
    return trio.run(Mount(_within_budget(config), ready).serve)


def _limit_arenas() -> None:
    """glibc keeps freed memory per thread; two arenas instead of 8 per core keep the ceiling."""
    m_arena_max = -8
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(m_arena_max, 2)


def _within_budget(config: MountConfig) -> MountConfig:
    """Divide the memory limit: what the program leaves goes to chunks, bodies and inodes."""
    left = max(64 * MIB, config.memory_limit_bytes - PROGRAM_BYTES)
    return replace(
        config,
        cache=replace(config.cache, memory_bytes=left * 2 // 5),
        tree=replace(config.tree, max_inodes=max(10_000, left // 5 // INODE_BYTES)),
        write=replace(config.write, memory_bytes=min(config.write.memory_bytes, left * 2 // 5)),
    )


def content_type(key: str) -> ObjectAttributes:
    """What a new object is called: guessed from its name by Python's own table, on any machine."""
    guessed, encoding = _TYPES.guess_type(PurePosixPath(key).name)
    if encoding is not None:  # a .tar.gz is what it is; browsers would unpack an encoding
        guessed = None
    return ObjectAttributes(content_type=guessed or "application/octet-stream")


_TYPES = mimetypes.MimeTypes(filenames=())


class Mount:
    """The layers of one mount and their life."""

    def __init__(self, config: MountConfig, ready: Callable[[], None]) -> None:
        self.config = config
        self.ready = ready
        self.identity = _identity(config)
        self.store: Store
        self.cache: Cache
        self.files: OpenFiles
        self.tree: Tree
        self.record = MountRecord.of(config)
        self.draining = False
        self.left: list[PendingFile] = []
        self._unmounted = trio.Event()
        self._stop = trio.Event()
        self._hurry = trio.CancelScope()
        self._stop_seconds = config.write.stop_timeout_seconds
        self._wrote = trio.Event()

    # -- start ---------------------------------------------------------------------------------

    async def serve(self) -> int:
        """The whole life of the mount."""
        driver, connection, container = open_driver(self.config.store)
        with contextlib.closing(connection):
            self.store = Store(driver, connection, container, self.config.store)
            await self._reach_store()
            self._recall_probe()
            async with trio.open_nursery() as nursery:
                await self._build(nursery)
                try:
                    await self._serve_mounted(nursery)
                finally:
                    nursery.cancel_scope.cancel()
        return 1 if self.left else 0

    async def _reach_store(self) -> None:
        """One LIST under the prefix: the bucket exists, answers, and may be read."""
        seconds = self.store.timeout_seconds
        self.store.timeout_seconds = min(START_SECONDS, seconds)
        try:
            await self.store.list_page("", max_keys=1)
        except DeadlineExceeded as exc:
            cause = exc.__cause__
            raise cause if isinstance(cause, StoreError) else exc from None
        finally:
            self.store.timeout_seconds = seconds

    def _recall_probe(self) -> None:
        self._probes = Memory(self.config.write.state_dir / "stores.json")
        if not self.store.capabilities.conditions_known:
            known = self._probes.recall(self._server(), self.store.capabilities)
            if known is not None:
                self.store.capabilities = known

    def _server(self) -> str:
        """Which server a probe's answer is about; versioning and policies are the bucket's."""
        return f"{self.config.store.endpoint_url}|{self.config.store.url.bucket}"

    async def _build(self, nursery: trio.Nursery) -> None:
        self.cache = Cache(self.store, self.config.cache, identity=self.identity)
        await self.cache.start(nursery)
        self.files = OpenFiles(
            self.store,
            self.cache,
            self.config.write,
            nursery,
            identity=self.identity,
            committed=self._committed,
            new_attributes=content_type,
            given_up=lambda number: self.tree.given_up(number),
        )
        await self.files.start()
        self.tree = Tree(
            self.store, self.config.tree, self.files, nursery, give_back=self._give_back
        )

    def _committed(self, number: InodeNumber, key: str, version: Version) -> None:
        self._wrote.set()
        self.tree.committed(number, key, version)

    @staticmethod
    def _give_back(parent: InodeNumber, name: str) -> None:
        pyfuse3.invalidate_entry_async(pyfuse3.InodeT(parent), name.encode(), ignore_enoent=True)

    def _options(self) -> set[str]:
        url = quote(str(self.config.store.url), safe="/:@+=-._~!$&'()*;%")
        options = {"default_permissions", f"fsname={url}", "subtype=storefs", "nosuid", "nodev"}
        if self.config.allow_other:
            options.add("allow_other")
        if self.config.read_only:
            options.add("ro")
        asked = set(self.config.options)
        for stricter, looser in (("nosuid", "suid"), ("nodev", "dev")):
            if looser in asked:
                options.discard(stricter)
        return options | asked

    # -- life ----------------------------------------------------------------------------------

    async def _serve_mounted(self, nursery: trio.Nursery) -> None:
        mountpoint = self.config.mountpoint
        try:
            pyfuse3.init(Operations(self.tree, self.files), str(mountpoint), self._options())
        except RuntimeError as exc:
            raise ConfigError(
                f"the kernel did not mount {mountpoint}: {exc}; is it in use, and may you mount?"
            ) from exc
        detached = False
        try:
            nursery.start_soon(self._loop)
            nursery.start_soon(self._signals)
            await self._announce(nursery)
            await self._until_the_end()
            self.draining = True
            notify.stopping("storing what is not stored yet")
            if not self._unmounted.is_set():
                detached = await threads.run_abandonable(
                    threads.limiter(1), kernel.detach, mountpoint
                )
            await self._drain()
        finally:
            if not self._unmounted.is_set():
                pyfuse3.terminate()
            pyfuse3.close(unmount=not (detached or self._unmounted.is_set()))

    async def _loop(self) -> None:
        try:
            await pyfuse3.main(max_tasks=MAX_TASKS)
        except Exception:
            log.exception("the connection to the kernel failed")
        finally:
            self._unmounted.set()

    async def _announce(self, nursery: trio.Nursery) -> None:
        """Say that the mount is there, once it answers."""
        one = threads.limiter(1)
        await threads.run_abandonable(one, os.statvfs, self.config.mountpoint)
        refused = await threads.run_abandonable(one, kernel.tune, self.config.mountpoint)
        if refused:
            log.info("not granted by the kernel: %s", ", ".join(refused))
        await nursery.start(self._control)
        nursery.start_soon(self._watchdog)
        if not self.config.read_only and not self.store.capabilities.conditions_known:
            nursery.start_soon(self._probe)
        log.info("%s is mounted on %s", self.config.store.url, self.config.mountpoint)
        self.ready()
        notify.ready(f"{self.config.store.url} on {self.config.mountpoint}")

    async def _control(self, task_status: trio.TaskStatus[None]) -> None:
        await serve(self.record, self._asked, task_status=task_status)

    async def _until_the_end(self) -> None:
        async with trio.open_nursery() as nursery:

            async def wait_for(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait_for, self._unmounted)
            nursery.start_soon(wait_for, self._stop)

    async def _signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                if self._stop.is_set():
                    log.warning("asked twice: the drain ends now")
                    self._hurry.cancel()
                self._stop.set()

    async def _drain(self) -> None:
        """Store what is not stored, within the stop time-out; name what is left."""
        with self._hurry:
            self.left = await self.files.drain(self._stop_seconds)
        if self._hurry.cancelled_caught:
            self.left = await self.files.drain(0)
        for file in self.left:
            log.error(
                "%s is not stored (%s): its %s are kept under %s",
                file.key,
                file.error or "no time left",
                format_size(file.bytes_total),
                self.config.write.state_dir,
            )
        await self.files.aclose()
        await self.cache.aclose()
        log.info("%s is unmounted from %s", self.config.store.url, self.config.mountpoint)

    async def _watchdog(self) -> None:
        every = notify.watchdog_seconds()
        while True:
            pending = self.files.pending()
            failed = sum(1 for file in pending if file.error)
            unsent = sum(file.bytes_total - file.bytes_sent for file in pending)
            notify.status(
                f"{len(pending)} files with {format_size(unsent)} to store, {failed} failed"
                if pending
                else "all stored"
            )
            notify.alive()
            await trio.sleep(min(10.0, every or 10.0))

    async def _probe(self) -> None:
        """Look at the store's conditional writes, when nobody waits for it, or it has to be."""
        await self._wrote.wait()
        idle = 0.0
        seen = REQUESTS.total()
        latest = trio.current_time() + PROBE_LATEST_SECONDS
        while idle < PROBE_IDLE_SECONDS and trio.current_time() < latest:
            await trio.sleep(1.0)
            idle = idle + 1.0 if REQUESTS.total() == seen and not self.files.pending() else 0.0
            seen = REQUESTS.total()
        try:
            found = await probe(self.store)
        except StoreError as exc:
            log.info("conditional writes could not be probed: %s", exc)
            return
        self.store.capabilities = found
        log.info("%s: %s", self._server(), describe(found))
        with contextlib.suppress(OSError):
            self._probes.note(self._server(), found)

    # -- answers -------------------------------------------------------------------------------

    def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        command = request.get("command")
        if command == "status":
            return report.status(self)
        if command == "stop":
            seconds = request.get("stop_timeout")
            if isinstance(seconds, (int, float)) and seconds >= 0:
                self._stop_seconds = float(seconds)
                if self.draining:
                    self._hurry.deadline = trio.current_time() + self._stop_seconds
            self._stop.set()
            return {"stopping": True}
        return {"error": f"unknown command {command!r}"}


def _identity(config: MountConfig) -> str:
    """Whose keys these are: the name of the store in the cache and in the journal."""
    url = config.store.url
    return "|".join((url.scheme, config.store.endpoint_url or "", url.bucket, url.prefix))
