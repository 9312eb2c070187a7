"""The index of the chunks on disk: one sqlite file, shared by the mounts of one machine.

Used by `cache.disk` alone, in worker threads, never by two at a time on one `Index`. It knows rows,
not files: a row may stand without its file (`cache.disk` writes the row first, so that a crash
leaves no file that nobody counts). Everything is found by primary key, nothing is loaded at
opening, so a million chunks open like ten. The danger is work proportional to the whole: no
statement here may scan a table, but for `sum` at creation.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from storefs.cache.chunks import ObjectVersion

BUSY_SECONDS = 5.0
"""How long a change waits for the other mount's; reads never wait (WAL)."""

# `totals` has one row, kept by the triggers, because counting a million rows takes a tenth of a
# second. A token names the bytes of one version: its own digest, or that of the name under which
# they were first stored (`aliases`, after a rename).
_SCHEMA = """
CREATE TABLE IF NOT EXISTS chunks (
    token BLOB NOT NULL, number INTEGER NOT NULL, length INTEGER NOT NULL, used INTEGER NOT NULL,
    PRIMARY KEY (token, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS chunks_by_use ON chunks (used);
CREATE TABLE IF NOT EXISTS aliases (digest BLOB PRIMARY KEY, token BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS aliases_by_token ON aliases (token);
CREATE TABLE IF NOT EXISTS totals (bytes INTEGER NOT NULL, chunks INTEGER NOT NULL);
INSERT INTO totals SELECT coalesce(sum(length), 0), count(*) FROM chunks
    WHERE NOT EXISTS (SELECT 1 FROM totals);
CREATE TRIGGER IF NOT EXISTS chunk_added AFTER INSERT ON chunks BEGIN
    UPDATE totals SET bytes = bytes + new.length, chunks = chunks + 1;
END;
CREATE TRIGGER IF NOT EXISTS chunk_removed AFTER DELETE ON chunks BEGIN
    UPDATE totals SET bytes = bytes - old.length, chunks = chunks - 1;
END;
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One chunk on disk. `used` is in seconds since the epoch."""

    token: bytes
    number: int
    length: int
    used: int = 0


def digest_of(identity: str, version: ObjectVersion, chunk_bytes: int) -> bytes:
    """16 bytes that name a version's chunks among all buckets, stores and chunk sizes."""
    # The key comes last, because it alone may hold anything, NUL included.
    text = "\0".join((identity, str(chunk_bytes), str(version.size), version.etag, version.key))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Index:
    """One connection. Every method raises sqlite3.Error when the file is damaged or gone."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )

    def create(self) -> None:
        """Make what is missing; harmless on an index that is in use."""
        self._db.execute("PRAGMA journal_mode = WAL")
        # A power cut may take the last changes: some misses. So no fsync for each of them.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA journal_size_limit = 4194304")
        self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")

    def find(self, digest: bytes, first: int, count: int) -> tuple[bytes, list[int]]:
        """The token behind `digest`, and which of `count` chunks from `first` are on disk."""
        token = self.resolve(digest)
        rows = self._db.execute(
            "SELECT number FROM chunks WHERE token = ? AND number >= ? AND number < ?",
            (token, first, first + count),
        )
        return token, [number for (number,) in rows]

    def resolve(self, digest: bytes) -> bytes:
        """The token under which a version's chunks stand."""
        row = self._db.execute("SELECT token FROM aliases WHERE digest = ?", (digest,)).fetchone()
        return digest if row is None else bytes(row[0])

    def add(self, rows: Iterable[Row]) -> None:
        """Insert chunks, or mark as used those that are there."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO chunks VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET used = excluded.used",
                [(row.token, row.number, row.length, row.used) for row in rows],
            )

    def touch(self, chunks: Iterable[tuple[bytes, int]], now: int) -> None:
        """Mark chunks as used now."""
        with self._transaction():
            self._db.executemany(
                "UPDATE chunks SET used = ? WHERE token = ? AND number = ?",
                [(now, token, number) for token, number in chunks],
            )

    def remove(
        self, chunks: Iterable[tuple[bytes, int]], *, unused_since: int | None = None
    ) -> None:
        """Delete rows, or those not used since then; that one is gone already is no error."""
        before = 1 << 62 if unused_since is None else unused_since
        with self._transaction():
            self._db.executemany(
                "DELETE FROM chunks WHERE token = ? AND number = ? AND used < ?",
                [(token, number, before) for token, number in chunks],
            )

    def oldest(self, limit: int) -> list[Row]:
        """The chunks that nobody has used for longest, at most `limit`."""
        rows = self._db.execute(
            "SELECT token, number, length, used FROM chunks ORDER BY used LIMIT ?", (limit,)
        )
        return [Row(*row) for row in rows]

    def totals(self) -> tuple[int, int]:
        """Bytes and number of all chunks, of every mount that shares the directory."""
        size_bytes, chunks = self._db.execute("SELECT bytes, chunks FROM totals").fetchone()
        return int(size_bytes), int(chunks)

    def missing(self, chunks: Sequence[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
        """Those of `chunks` that have no row."""
        statement = "SELECT 1 FROM chunks WHERE token = ? AND number = ?"
        return [chunk for chunk in chunks if self._db.execute(statement, chunk).fetchone() is None]

    def alias(self, digest: bytes, new_digest: bytes) -> None:
        """Let `new_digest` name the chunks of `digest` too, also those that come later.

        They may come later because the rename was noted while they were being written.
        """
        with self._transaction():
            token = self.resolve(digest)
            if token != new_digest and (self._has(token) or not self._has(new_digest)):
                self._db.execute("REPLACE INTO aliases VALUES (?, ?)", (new_digest, token))

    def forget(self, digest: bytes, limit: int) -> list[tuple[bytes, int]]:
        """Let `digest` name nothing; at most `limit` chunks that no other name holds any more.

        The caller removes those, and calls again until none is left.
        """
        with self._transaction():
            token = self.resolve(digest)
            others = self._db.execute(
                "SELECT 1 FROM aliases WHERE token = ? AND digest != ? LIMIT 1", (token, digest)
            )
            if others.fetchone() is not None:
                self._db.execute("DELETE FROM aliases WHERE digest = ?", (digest,))
                return []
            rows = self._db.execute(
                "SELECT token, number FROM chunks WHERE token = ? LIMIT ?", (token, limit)
            ).fetchall()
            if not rows:
                self._db.execute("DELETE FROM aliases WHERE digest = ?", (digest,))
            return [(bytes(found), int(number)) for found, number in rows]

    def remove_idle_aliases(self) -> None:
        """Delete the aliases of what has no chunk left. They are few: one a renamed file."""
        self._db.execute(
            "DELETE FROM aliases WHERE NOT EXISTS"
            " (SELECT 1 FROM chunks WHERE chunks.token = aliases.token)"
        )

    def close(self) -> None:
        """Close; harmless when repeated, never raises."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def _has(self, token: bytes) -> bool:
        row = self._db.execute("SELECT 1 FROM chunks WHERE token = ? LIMIT 1", (token,))
        return row.fetchone() is not None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
