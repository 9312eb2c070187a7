"""The bytes of one inode that is open or not stored yet: read, written, cut, and made whole.

Used by the handle table (for its handles) and by the commit (as the source of parts). Dirty state
belongs here, to the inode; handles only point at it. Knows the store through its cache alone.
The danger: bytes that change while a commit sends them. `lock` is held by everything that changes
bytes and by a commit from its plan to its end; reads take no lock and look at `epoch` again after
every await.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from storefs.cache.chunks import ObjectVersion
from storefs.errors import BadHandle, ObjectTooLarge, StagingFull, StorefsError
from storefs.handle.ranges import Content, Piece, Source
from storefs.handle.record import Header
from storefs.handle.state import FileState, LocalState, PendingFile, advance
from storefs.handle.uploader import full_cells
from storefs.units import MIB, ByteRange, HandleNumber, InodeNumber

if TYPE_CHECKING:
    from collections.abc import Callable

    from storefs.drivers.models import ObjectAttributes
    from storefs.handle.parts import Limits
    from storefs.handle.ports import ChunkCache, VersionReader
    from storefs.handle.staging import Staging
    from storefs.handle.stock import Stock
    from storefs.handle.uploader import Upload
    from storefs.store.version import Version

FETCH_BYTES = 4 * MIB
"""Unchanged bytes that a part needs are fetched in steps of this size."""


@dataclass(slots=True)
class Handle:
    """One open of a file. The reader is its own: each has its own pattern of offsets.

    `creates`: the file came to be by this open, which may be for reading.
    """

    file: LocalFile
    readable: bool
    writable: bool
    append: bool
    creates: bool = False
    reader: VersionReader | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """What all files of a mount share: where staging is, whose it is, and how bytes are read."""

    stock: Stock
    store: str
    cache: ChunkCache
    limits: Callable[[], Limits]
    new_reader: Callable[[ObjectVersion], VersionReader]
    new_upload: Callable[[LocalFile], Upload]


@dataclass(slots=True)
class Known:
    """Attributes of the base version, and when (trio's clock) the store was seen to hold it."""

    attributes: ObjectAttributes | None = None
    attributes_at: float = float("-inf")
    checked_at: float = float("-inf")


@dataclass(slots=True, eq=False)
class LocalFile:
    """See the module. `base` is the version that conditions name, `source` the one that is read.

    They differ only for an unlinked file, whose bytes may live under another key.
    """

    number: InodeNumber
    key: str
    base: Version | None
    place: Place
    source: ObjectVersion | None = field(init=False)
    content: Content = field(init=False)
    lock: trio.Lock = field(default_factory=trio.Lock)
    handles: dict[HandleNumber, Handle] = field(default_factory=dict)
    state: FileState = FileState.CLEAN
    staging: Staging | None = None
    upload: Upload | None = None
    known: Known = field(default_factory=Known)
    error: StorefsError | None = None
    changes: int = 0  # counted up by every change of bytes
    stored_changes: int = 0  # the count at the last commit
    failed_changes: int = -1  # the count at which the last attempt failed for good
    epoch: int = 0  # counted up whenever bytes may have moved to another place
    mtime_ns: int = 0
    since: float = field(default_factory=time.time)
    stem: str | None = None  # the name of its bytes in lost+found

    def __post_init__(self) -> None:
        size = self.base.size if self.base else 0
        self.source = ObjectVersion(self.key, self.base.etag, size) if self.base else None
        self.content = Content.stored(size)
        self.mtime_ns = self.base.mtime_ns if self.base else time.time_ns()
        if self.base is None:
            self._change()

    def __repr__(self) -> str:
        return f"<LocalFile {self.number} {self.key!r} {self.state.name} {self.content}>"

    # -- what it is ----------------------------------------------------------------------------

    @property
    def base_key(self) -> str:
        """The key whose unchanged bytes are copied or fetched."""
        return self.source.key if self.source else self.key

    @property
    def is_dirty(self) -> bool:
        """True if there is something that the store should get and does not have."""
        return self.state in (
            FileState.DIRTY,
            FileState.COMMITTING,
            FileState.WAITING,
            FileState.FAILED,
        )

    @property
    def is_only_emptied(self) -> bool:
        """True for an existing object that was cut to nothing: its first flush keeps it back."""
        return self.base is not None and self.content.size == 0

    def local(self) -> LocalState | None:
        """What to show instead of the store's answer."""
        if self.state is FileState.CLEAN:
            return None
        is_unlinked = self.state is FileState.UNLINKED
        exists = self.base is not None and not is_unlinked
        return LocalState(self.content.size, self.mtime_ns, not is_unlinked, exists)

    def pending(self) -> PendingFile:
        """For status."""
        sent = self.upload.sent_bytes if self.upload else 0
        error = str(self.error) if self.error else None
        return PendingFile(
            self.key, self.content.size, sent, self.state.name.lower(), error, self.since
        )

    # -- reading -------------------------------------------------------------------------------

    async def read(self, handle: Handle, offset: int, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end of the file."""
        while True:
            epoch = self.epoch
            span = ByteRange(offset, max(offset, min(offset + size, self.content.size)))
            try:
                pieces = [await self._piece(handle, p) for p in self.content.pieces(span)]
            except (StorefsError, OSError):
                if self.epoch == epoch:
                    raise
                continue
            if self.epoch == epoch:
                found = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                assert len(found) == len(span), "a short answer would be padded with zeros"
                return found

    async def _piece(self, handle: Handle, piece: Piece) -> bytes:
        if piece.source is Source.ZERO:
            return bytes(len(piece.span))
        if piece.source is Source.STAGED:
            return await self._held().read(piece.span)
        assert self.source is not None
        if handle.reader is None:
            handle.reader = self.place.new_reader(self.source)
        return await handle.reader.read(piece.span.start, len(piece.span))

    # -- changing ------------------------------------------------------------------------------

    async def write(self, offset: int, data: bytes, *, append: bool = False) -> int:
        """All of `data`, or an error; an append never lands before the end."""
        try:
            self.lock.acquire_nowait()  # without a turn of the loop: most writes find it free
        except trio.WouldBlock:
            await self.lock.acquire()
        try:
            if append:
                offset = max(offset, self.content.size)
            self._check_size(offset + len(data))
            staging = self.stage()
            written = await staging.write(offset, data)
            self._wrote(ByteRange(offset, offset + written))
            if written < len(data) or not staging.is_recorded:
                raise StagingFull(self.key)
            return written
        finally:
            self.lock.release()

    def _wrote(self, span: ByteRange) -> None:
        self.content.write(span)
        self._change()
        if self.state is FileState.UNLINKED:
            return
        limits = self.upload.limits if self.upload else self.place.limits()
        full = full_cells(limits, self.content.staged, span)
        if self.upload is not None:
            self.upload.overwritten(span)
        elif full:
            self.upload = self.place.new_upload(self)
        if self.upload is not None:
            self.upload.offer(full)

    async def truncate(self, size: int) -> None:
        """The file has `size` bytes now; a grown part reads as zeros."""
        async with self.lock:
            await self.truncate_locked(size)

    async def truncate_locked(self, size: int) -> None:
        """As `truncate`, for who holds the lock."""
        self._check_size(size)
        if size == self.content.size:
            return
        staging = self.stage()
        self.epoch += 1
        self.content.truncate(size)
        self._change()
        if self.upload is not None:
            self.upload.cut(size)
        await staging.truncate(size)
        self.epoch += 1

    def _check_size(self, size: int) -> None:
        if size > self.place.limits().max_object_bytes:
            raise ObjectTooLarge("larger than an object can be", key=self.key, operation="write")
        if self.state is FileState.DROPPED:
            raise BadHandle(self.key)

    def _change(self) -> None:
        self.changes += 1
        self.mtime_ns = time.time_ns()
        if self.state is FileState.CLEAN:
            self.since = time.time()
            self.state = advance(self.state, FileState.DIRTY)

    def stage(self) -> Staging:
        """The staging file, a fresh one where there is none yet."""
        if self.staging is None:
            self.staging = self.place.stock.take(self._header())
        return self.staging

    def _held(self) -> Staging:
        """The staging file that must be there; it may have gone while the caller waited."""
        if self.staging is None:
            raise BadHandle(self.key)
        return self.staging

    def _header(self) -> Header:
        etag, size = (self.base.etag, self.base.size) if self.base else (None, 0)
        return Header(self.key, self.place.store, etag, size, time.time())

    # -- for the commit ------------------------------------------------------------------------

    async def hydrate(self, span: ByteRange) -> None:
        """Fetch the unchanged bytes of `span` into the staging file: all of it is local then."""
        for run in self.content.base_runs(span):
            for start in range(run.start, run.stop, FETCH_BYTES):
                step = ByteRange(start, min(start + FETCH_BYTES, run.stop))
                assert self.source is not None
                data = await self.place.cache.read(self.source, step)
                if await self.stage().write(step.start, data, recorded=False) < len(data):
                    raise StagingFull(self.key)
                self.content.staged.add(step)

    async def part_body(self, span: ByteRange) -> bytes | memoryview:
        """The bytes of a part; the commit's lock or their being staged keeps them as they are."""
        await self.hydrate(span)
        return await self._held().view(span)

    async def whole_body(self) -> bytes:
        """All bytes, for a PUT."""
        span = ByteRange(0, self.content.size)
        await self.hydrate(span)
        return await self.staging.read(span) if self.staging else b""

    def note_upload(self, upload_id: str, key: str, *, begun: bool) -> None:
        """See `PartSource`."""
        if self.staging is not None and not self.staging.is_closed:
            self.staging.upload(upload_id, key, begun=begun)

    def rebase(self, version: Version, key: str | None = None) -> None:
        """The same bytes are under this key and version in the store now."""
        self.key = self.key if key is None else key
        self.base = version
        self.epoch += 1
        self._read_from(ObjectVersion(self.key, version.etag, version.size))
        if self.staging is not None:
            self.staging.moved(self._header())

    def rename_new(self, key: str) -> None:
        """A file that is not in the store has another key."""
        self.key = key
        if self.staging is not None:
            self.staging.moved(self._header())

    def stored(self, version: Version) -> Staging | None:
        """The store has everything. The answer: the staging file, for the caller to remove."""
        self.content = Content.stored(version.size)
        self.stored_changes = self.changes
        staging, self.staging = self.staging, None
        self.upload, self.error, self.failed_changes = None, None, -1
        self.rebase(version)
        return staging

    def start_over(self, base: Version | None) -> None:
        """What is there now is the base, and nothing of it is kept: the file is written anew."""
        self.base = base
        self.known = Known()
        self.source = ObjectVersion(self.key, base.etag, base.size) if base else None
        self.content.base_limit = 0
        self.epoch += 1
        if self.staging is not None:
            self.staging.remove()
            self.staging = None
        self.content = Content(self.content.size)

    def forget_staged(self) -> None:
        """Nothing was changed: the stored object alone is the file again."""
        self.epoch += 1
        self.content = Content.stored(self.base.size if self.base else 0)
        if self.staging is not None:
            self.staging.remove()
            self.staging = None

    def _read_from(self, source: ObjectVersion) -> None:
        self.source = source
        for handle in self.handles.values():
            if handle.reader is not None:
                handle.reader.version = source

    def serve_from(self, source: ObjectVersion) -> None:
        """Read unchanged bytes from another object that has the same."""
        self.epoch += 1
        self._read_from(source)
