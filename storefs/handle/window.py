"""How far ahead to fetch, from the pattern of a file's reads: plain decisions, no I/O.

Used by `handle.reader`, one `Window` for each open file. Knows offsets only. A read near the front
of a stream continues it, whichever of several it is, because the kernel sends its reads in
parallel and they arrive a little out of order; any other read begins a stream, and the oldest gives
way. A stream's window is twice what was read of it, so it grows by doubling and a file left early
has cost at most three times what was read; after a seek it begins small again. The danger is to
take random reads for a stream, which fetches a hundred times what was asked for: a stream is
proven by its second read only, and what counts as near is small until then.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from storefs.units import KIB, MIB, ByteRange

MAX_STREAMS = 8
MAX_WINDOW_BYTES = 64 * MIB
"""At 20 ms and 90 MiB/s a connection, eight requests of 8 MiB in flight bring 580 MiB/s."""
REQUESTS = 8
"""A window is fetched in about so many requests at a time."""
MAX_REQUEST_BYTES = 8 * MIB
NEAR_BYTES = 8 * MIB
"""As far from its front a proven stream still takes a read for its own."""
NEAR_UNPROVEN_BYTES = 256 * KIB
"""The same before its second read: two requests of the kernel's usual 128 KiB, changed places."""
OUT_OF_ORDER = 4
"""So many reads ahead of its turn one may arrive even where a stream is young; a guess."""
RECENT_READS = 64
"""A proven stream that was read so lately does not give way to a single read elsewhere."""
DENSE = 4
"""Once a quarter of a chunk was asked for in pieces, the chunk is fetched whole."""
_DENSE_CHUNKS = 64


@dataclass(slots=True, eq=False)
class Stream:
    """One place at which a file is read forward."""

    start: int
    front: int  # end of the furthest read
    reached: int  # fetched, or being fetched, up to here; below front after skipping forward
    used: int  # number of the read that came last
    proven: bool = False

    @property
    def progress(self) -> int:
        """Bytes that this stream has gone forward."""
        return self.front - self.start

    @property
    def unread(self) -> ByteRange | None:
        """What was fetched ahead of its front."""
        return ByteRange(self.front, self.reached) if self.reached > self.front else None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do for one read.

    `whole_chunks`: fetch chunks, not just what was asked. `ahead`: start to fetch this too, in
    requests of `request_bytes`. `dropped`: read-ahead of a stream that is given up.
    """

    stream: Stream
    whole_chunks: bool
    ahead: ByteRange | None = None
    request_bytes: int = MIB
    dropped: ByteRange | None = None


@dataclass(slots=True)
class Window:
    """The streams of one open file. `limit_bytes` bounds each window."""

    chunk_bytes: int
    limit_bytes: int = MAX_WINDOW_BYTES
    streams: list[Stream] = field(default_factory=list)
    _reads: int = 0
    _pieces: dict[int, int] = field(default_factory=dict)  # bytes asked for by chunk, latest last

    def observe(self, span: ByteRange, size: int) -> Advice:
        """Note a read of `span`, which is not empty, of an object of `size` bytes."""
        self._reads += 1
        stream = self._nearest(span)
        if stream is None:
            stream, dropped = self._begin(span)
            # Programs that read a file begin at its start; those that pick records do not.
            whole = span.start == 0 or self._is_dense(span)
            return Advice(stream, whole, dropped=dropped)
        stream.used = self._reads
        forward = span.stop > stream.front
        stream.start = min(stream.start, span.start)
        stream.front = max(stream.front, span.stop)
        stream.proven = stream.proven or forward
        if not stream.proven:  # the same place again
            return Advice(stream, span.start == 0 or self._is_dense(span))
        ahead, request_bytes = self._ahead(stream, size)
        return Advice(stream, True, ahead, request_bytes)

    def rebase(self) -> list[ByteRange]:
        """Other bytes stand there now: nothing is fetched any more. What had been, for each."""
        given_up = self.unread()
        for stream in self.streams:
            stream.reached = stream.front
        self._pieces.clear()
        return given_up

    def unread(self) -> list[ByteRange]:
        """What was fetched ahead and not read."""
        return [unread for stream in self.streams if (unread := stream.unread) is not None]

    def _ahead(self, stream: Stream, size: int) -> tuple[ByteRange | None, int]:
        """What to fetch now so that the window is full, and in which requests."""
        window = window_bytes(stream.progress, self.chunk_bytes, self.limit_bytes)
        request = request_bytes(window, self.chunk_bytes)
        stream.reached = max(stream.reached, min(self._border(stream.front), size))
        target = min(self._border(stream.front + window), size)
        # Not a chunk at a time: wait until a whole request fits, or all that is left of the object.
        if target <= stream.reached or (target < size and target - stream.reached < request):
            return None, request
        return ByteRange(stream.reached, target), request

    def _nearest(self, span: ByteRange) -> Stream | None:
        near = [stream for stream in self.streams if is_near(stream, span)]
        return min(near, key=lambda stream: abs(span.start - stream.front), default=None)

    def _begin(self, span: ByteRange) -> tuple[Stream, ByteRange | None]:
        dropped = None
        if len(self.streams) >= MAX_STREAMS:
            recent = self._reads - RECENT_READS
            victim = min(self.streams, key=lambda s: (s.proven and s.used > recent, s.used))
            self.streams.remove(victim)
            dropped = victim.unread if victim.proven else None
        stream = Stream(span.start, span.stop, span.stop, self._reads)
        self.streams.append(stream)
        return stream, dropped

    def _is_dense(self, span: ByteRange) -> bool:
        """Has enough of a chunk been asked for in pieces?"""
        dense = False
        for index in range(span.start // self.chunk_bytes, -(-span.stop // self.chunk_bytes)):
            low = index * self.chunk_bytes
            piece = min(span.stop, low + self.chunk_bytes) - max(span.start, low)
            asked = self._pieces.pop(index, 0) + piece
            self._pieces[index] = asked
            dense = dense or (asked > piece and asked * DENSE > self.chunk_bytes)
        while len(self._pieces) > _DENSE_CHUNKS:
            del self._pieces[next(iter(self._pieces))]
        return dense

    def _border(self, offset: int) -> int:
        """The next border of a chunk at or behind `offset`."""
        return -(-offset // self.chunk_bytes) * self.chunk_bytes


def is_near(stream: Stream, span: ByteRange) -> bool:
    """Does a read belong to the stream?"""
    if stream.proven:
        near = min(max(OUT_OF_ORDER * len(span), stream.progress), NEAR_BYTES)
    else:
        near = min(len(span), NEAR_UNPROVEN_BYTES)
    return stream.front - near - len(span) <= span.start <= stream.front + near


def window_bytes(progress: int, chunk_bytes: int, limit_bytes: int) -> int:
    """How far ahead of a stream's front to fetch after `progress` bytes."""
    return max(chunk_bytes, min(2 * progress, MAX_WINDOW_BYTES, limit_bytes))


def request_bytes(window: int, chunk_bytes: int) -> int:
    """The size of one request of a window: whole chunks, a share of the window."""
    return max(chunk_bytes, min(window // REQUESTS, MAX_REQUEST_BYTES) // chunk_bytes * chunk_bytes)
