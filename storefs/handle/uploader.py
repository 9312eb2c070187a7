"""One multipart upload: parts sent while the file is still written, and the rest at its commit.

Used by the writer (`offer`, `overwritten`, `wait_for_backlog`) and by the commit (`settle`,
`execute`). Knows nothing of conditions: making the parts an object is the commit's. The danger: a
part that was sent and then written over; it is taken off the list at once and sent again under its
number, never while its first sending is still on the way.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

import trio

from storefs.errors import StorefsError, UploadFailed
from storefs.handle.parts import Action, Limits, Plan, PlannedPart, cell, cell_number
from storefs.handle.staging import MAPPED_BYTES
from storefs.units import ByteRange

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from storefs.drivers.models import ObjectAttributes, Part
    from storefs.handle.budget import Budget
    from storefs.handle.ports import ObjectStore
    from storefs.handle.ranges import RangeSet

log = logging.getLogger(__name__)

SENDERS = 6
"""Parts of one file that are on their way together: 48 MiB in flight hide 20 ms at 90 MiB/s each.
A guess from DESIGN's link, not measured."""

FIRST_CELLS = 3
"""So many full cells begin an upload; with less the file may still end as one PUT."""

MOST_OVERWRITTEN = 8
"""Cells written over after they were sent. Then the file is written at random, and sending ahead
would send it several times: the rest waits for the commit."""


class PartSource(Protocol):
    """The file, as far as its parts are concerned."""

    @property
    def base_key(self) -> str:
        """The key whose unchanged bytes are copied."""
        ...

    async def part_body(self, span: ByteRange) -> bytes | memoryview:
        """The bytes of a part as they are now."""
        ...

    def note_upload(self, upload_id: str, key: str, *, begun: bool) -> None:
        """Write down that an upload exists, or is over."""
        ...


class Upload:
    """See the module. Begun in the store when its first part is sent."""

    def __init__(
        self,
        store: ObjectStore,
        source: PartSource,
        key: str,
        limits: Limits,
        budget: Budget,
        nursery: trio.Nursery,
        attributes: Callable[[], Awaitable[ObjectAttributes | None]],
    ) -> None:
        self.limits = limits
        self.key = key
        self._store = store
        self._source = source
        self._budget = budget
        self._nursery = nursery
        self._attributes = attributes
        self._beginning = trio.Lock()
        # mutable; touched by the file's writers, the senders and the commit
        self.id: str | None = None
        self.error: StorefsError | None = None
        self._late_error: StorefsError | None = None  # met while a commit waited for it
        self._done: dict[int, tuple[PlannedPart, Part]] = {}
        self._queue: deque[int] = deque()  # cells that are full and not yet taken by a sender
        self._sending: dict[int, bool] = {}  # number to "was overwritten meanwhile"
        self._senders = 0
        self._overwritten = 0
        self._is_paused = False
        self._was_planned = False  # True once parts may lie off the grid
        self._moved = trio.Event()

    def __repr__(self) -> str:
        return (
            f"<Upload {self.key!r} {self.id} done={sorted(self._done)} "
            f"sending={sorted(self._sending)} queued={list(self._queue)}>"
        )

    @property
    def sent_bytes(self) -> int:
        """Bytes of parts that the store has."""
        return sum(len(planned.span) for planned, _ in self._done.values())

    @property
    def unsent_bytes(self) -> int:
        """Bytes of full cells that are queued or on their way."""
        return sum(len(cell(self.limits, n)) for n in (*self._queue, *self._sending))

    # -- while the file is written -------------------------------------------------------------

    def offer(self, ready: Iterable[int]) -> None:
        """These cells are full: send them when a sender is free."""
        if self._overwritten > MOST_OVERWRITTEN:
            return
        for number in ready:
            held = number in self._done or number in self._sending
            if not held and number not in self._queue:
                self._queue.append(number)
        worth_it = self.id is not None or len(self._queue) >= FIRST_CELLS
        if worth_it and self.error is None and not self._is_paused:
            while self._senders < min(SENDERS, len(self._queue) + len(self._sending)):
                self._senders += 1
                self._nursery.start_soon(self._send_queued)

    def overwritten(self, span: ByteRange) -> None:
        """The bytes of `span` have changed, or are gone: what was sent of them counts no more."""
        stale = [
            number
            for number in self._numbers_near(span)
            if self._done[number][0].action is Action.UPLOAD
            and self._done[number][0].span.intersect(span)
        ]
        for number in stale:
            del self._done[number]
        flying = [n for n in self._sending if cell(self.limits, n).intersect(span)]
        for number in flying:
            self._sending[number] = True
        self._overwritten += len(stale) + len(flying)

    def cut(self, size: int) -> None:
        """The file ends at `size` now: cells that are not full any more leave the queue."""
        self._queue = deque(n for n in self._queue if cell(self.limits, n).stop <= size)
        self.overwritten(ByteRange(size, 1 << 63))

    async def wait_for_backlog(self, most_bytes: int) -> None:
        """Until at most `most_bytes` are written and not sent.

        Raises the error that keeps them from being sent; the next call tries again.
        """
        while self.unsent_bytes > most_bytes and (self._senders or self.error):
            if self.error is not None:
                error, self.error = self.error, None
                self.offer(())
                raise error
            await self._moved.wait()

    # -- at the commit -------------------------------------------------------------------------

    async def settle(self) -> list[int]:
        """Stop sending ahead; wait for what is on its way. The answer: cells that were sent.

        Raises what keeps them from being sent now: to try them again would take a deadline more.
        """
        self._is_paused = True
        self._queue.clear()
        self.error = self._late_error = None
        while self._sending:
            await self._moved.wait()
        if self._late_error is not None:
            raise self._late_error
        return [
            number
            for number, (planned, _) in self._done.items()
            if planned == PlannedPart(number, cell(self.limits, number), Action.UPLOAD)
        ]

    def resume(self) -> None:
        """The commit is over without success: cells may be sent ahead again."""
        self._is_paused = False

    async def execute(self, plan: Plan, base_etag: str | None) -> list[Part]:
        """Bring every part of the plan into the store; what is there already is not sent again.

        Raises the first error after all that was begun has ended; what succeeded is kept for the
        next attempt.
        """
        self._was_planned = True
        for planned in plan.parts:
            if planned.number in self._done and self._done[planned.number][0] != planned:
                del self._done[planned.number]
        missing = deque(part for part in plan.parts if part.number not in self._done)
        failures: list[StorefsError] = []

        async def work() -> None:
            while missing and not failures:
                planned = missing.popleft()
                try:
                    self._done[planned.number] = planned, await self._bring(planned, base_etag)
                except StorefsError as exc:
                    failures.append(exc)

        if missing:
            await self.begin()
        async with trio.open_nursery() as nursery:
            for _ in range(min(SENDERS, len(missing))):
                nursery.start_soon(work)
        if failures:
            raise failures[0]
        return [self._done[part.number][1] for part in plan.parts]

    async def begin(self) -> str:
        """The upload's id; creates it in the store at the first call."""
        async with self._beginning:
            if self.id is None:
                attributes = await self._attributes()
                self.id = await self._store.create_multipart(self.key, attributes=attributes)
                self._source.note_upload(self.id, self.key, begun=True)
        return self.id

    def over(self) -> None:
        """The parts have become the object."""
        if self.id is not None:
            self._source.note_upload(self.id, self.key, begun=False)

    async def abort(self) -> None:
        """Drop the upload and its parts; a failure is logged, the store's own broom remains."""
        self._is_paused = True
        self._queue.clear()
        while self._sending:
            await self._moved.wait()
        async with self._beginning:
            upload_id, self.id = self.id, None
        self._done.clear()
        if upload_id is None:
            return
        try:
            await self._store.abort_multipart(self.key, upload_id)
        except StorefsError as exc:
            log.warning("parts of an abandoned upload of %s stay in the store: %s", self.key, exc)
        else:
            self._source.note_upload(upload_id, self.key, begun=False)

    # -- inside --------------------------------------------------------------------------------

    async def _send_queued(self) -> None:
        try:
            while self._queue and self.error is None and not self._is_paused:
                number = self._queue.popleft()
                self._sending[number] = False
                planned = PlannedPart(number, cell(self.limits, number), Action.UPLOAD)
                try:
                    part = await self._bring(planned, None)
                    if not self._sending[number]:
                        self._done[number] = planned, part
                except StorefsError as exc:
                    self._failed_ahead(number, exc)
                except Exception as exc:  # a bug must not end the mount; the commit meets it again
                    log.exception("sending a part of %s failed", self.key)
                    self._failed_ahead(number, UploadFailed(f"{self.key}: {exc}"))
                finally:
                    del self._sending[number]
                    self._wake()
        finally:
            self._senders -= 1
            self._wake()

    def _numbers_near(self, span: ByteRange) -> list[int]:
        """Numbers of finished parts that may hold bytes of `span`."""
        first = cell_number(self.limits, span.start)
        last = cell_number(self.limits, span.stop)
        if self._was_planned or last - first > len(self._done):
            return list(self._done)
        return [number for number in range(first, last + 1) if number in self._done]

    def _failed_ahead(self, number: int, error: StorefsError) -> None:
        log.debug("part %d of %s could not be sent ahead: %s", number, self.key, error)
        if self._is_paused:
            self._late_error = error
        else:
            self.error = error
            self._queue.appendleft(number)

    async def _bring(self, planned: PlannedPart, base_etag: str | None) -> Part:
        upload_id = await self.begin()
        if planned.action is Action.COPY:
            return await self._store.copy_part(
                self.key,
                upload_id,
                planned.number,
                self._source.base_key,
                offset=planned.span.start,
                length=len(planned.span),
                src_if_match=base_etag,
            )
        size = len(planned.span)
        async with self._budget.share(size if size <= MAPPED_BYTES else 0):
            body = await self._source.part_body(planned.span)
            return await self._store.upload_part(self.key, upload_id, planned.number, body)

    def _wake(self) -> None:
        self._moved.set()
        self._moved = trio.Event()


def full_cells(limits: Limits, staged: RangeSet, near: ByteRange) -> list[int]:
    """Cells that a write of `near` touched and that hold nothing but staged bytes now."""
    if not near:
        return []
    last = min(cell_number(limits, near.stop - 1), limits.max_parts)
    return [
        number
        for number in range(cell_number(limits, near.start), last + 1)
        if staged.covers(cell(limits, number))
    ]
