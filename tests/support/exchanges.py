"""What the relay writes down of each request, and what it may be told to do to some of them.

Used by the relay and by tests that read its log. Knows no sockets. The danger: `round_trips` is
only as good as the times it is given; without latency in the relay, requests sent together may
happen not to overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Exchange:
    """One request and what became of it. Times are `time.monotonic()`; `status` 0: no answer."""

    method: str
    path: str
    query: str
    started: float
    concurrency: int
    """How many requests were under way when this one came, itself included."""
    headers: dict[str, str]
    ended: float = 0.0
    status: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    fault: str = ""

    def __str__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        took = f"{(self.ended - self.started) * 1000:.0f} ms" if self.ended else "open"
        fault = f" {self.fault}" if self.fault else ""
        return (
            f"{self.method} {self.path}{query} -> {self.status}{fault} "
            f"up {self.bytes_up} down {self.bytes_down} in {took}, {self.concurrency} at a time"
        )


Predicate = Callable[[Exchange], bool]


def everything(_: Exchange) -> bool:
    """The predicate that every request meets."""
    return True


def method(*names: str, containing: str = "") -> Predicate:
    """Requests with one of these verbs whose path or query contains a text."""

    def matches(exchange: Exchange) -> bool:
        return exchange.method in names and containing in f"{exchange.path}?{exchange.query}"

    return matches


@dataclass(slots=True)
class Fault:
    """What happens to matching requests, `times` times or until `clear`; `hits` counts them."""

    kind: str
    when: Predicate
    times: int | None
    status: int = 500
    code: str = "InternalError"
    after_bytes: int = 0
    hits: int = 0
    cleared: bool = False

    def clear(self) -> None:
        """Let requests pass again; what is held now is let go."""
        self.cleared = True

    def takes(self, exchange: Exchange) -> bool:
        """Whether this request meets the fault; one that does uses it up once."""
        if self.cleared or (self.times is not None and self.hits >= self.times):
            return False
        if not self.when(exchange):
            return False
        self.hits += 1
        return True


def round_trips(exchanges: Iterable[Exchange]) -> int:
    """How many requests had to wait for one another: the longest chain that never overlaps.

    Requests sent together overlap in time and count once. Add latency to the relay, so that what
    overlaps does so beyond doubt.
    """
    count, free_at = 0, float("-inf")
    for exchange in sorted(exchanges, key=lambda one: one.ended):
        if exchange.started >= free_at:
            count += 1
            free_at = exchange.ended
    return count
