"""What became of requests whose answers were lost.

A write whose answer did not arrive may have been done. Its expected ETag is noted here, so that a
later 412 on the same key can be told from a conflict: what is there may be ours. Bounded; used by
the store alone. A thread that was left behind (see `threads`) is noted too, because no second write
of a key may start while an earlier one can still arrive.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MOST_KEYS = 10_000


class Outcomes:
    """Per key: ETags that unanswered writes may have left, and writes that are still out."""

    def __init__(self) -> None:
        self._unanswered: OrderedDict[str, set[str]] = OrderedDict()
        self._out: dict[str, int] = {}
        self._lock = threading.Lock()

    def unanswered(self, key: str, etag: str | None) -> None:
        """A write of `key` went without an answer; `etag` is what it leaves, None if not known."""
        self._unanswered.setdefault(key, set()).add(etag or "")
        self._unanswered.move_to_end(key)
        while len(self._unanswered) > MOST_KEYS:
            self._unanswered.popitem(last=False)

    def is_in_doubt(self, key: str) -> bool:
        """True if a write of this key went unanswered since the last answered one."""
        return key in self._unanswered

    def may_be_ours(self, key: str, etag: str) -> bool:
        """True if an unanswered write of ours is known to leave exactly this ETag."""
        return etag in self._unanswered.get(key, ())

    def settled(self, key: str) -> None:
        """What the key holds is known again."""
        self._unanswered.pop(key, None)

    def tracked(self, key: str, fn: Callable[[], T]) -> Callable[[], T]:
        """`fn`, noted as out from its start until it returns, whoever still waits for it."""

        def run() -> T:
            with self._lock:
                self._out[key] = self._out.get(key, 0) + 1
            try:
                return fn()
            finally:
                with self._lock:
                    self._out[key] -= 1
                    if not self._out[key]:
                        del self._out[key]

        return run

    def is_out(self, key: str) -> bool:
        """True while an earlier write of this key may still reach the store."""
        with self._lock:
            return key in self._out
