"""The index of chunks on disk: rows, names, totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storefs.cache.chunks import ObjectVersion
from storefs.cache.index import Index, Row, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

A, B, C = (bytes([number]) * 16 for number in (1, 2, 3))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    found = Index(tmp_path / "index")
    found.create()
    yield found
    found.close()


def test_it_finds_what_was_added(index: Index) -> None:
    index.add([Row(A, 5, 10), Row(A, 6, 10), Row(A, 90, 10), Row(B, 7, 10)])
    assert index.find(A, 0, 50) == (A, [5, 6])
    assert index.find(C, 0, 50) == (C, [])


def test_totals_follow_every_change(index: Index) -> None:
    index.add([Row(A, 1, 10), Row(A, 2, 20)])
    index.add([Row(A, 2, 20), Row(B, 1, 5)])
    assert index.totals() == (35, 3)
    index.remove([(A, 2), (A, 99)])
    assert index.totals() == (15, 2)


def test_totals_are_kept_when_the_index_is_opened_again(index: Index, tmp_path: Path) -> None:
    index.add([Row(A, 1, 10)])
    again = Index(tmp_path / "index")
    again.create()
    assert again.totals() == (10, 1)
    again.close()


def test_the_oldest_are_those_used_longest_ago(index: Index) -> None:
    index.add([Row(A, number, 1, used=number) for number in range(5)])
    index.touch([(A, 0), (A, 1)], 100)
    assert [row.number for row in index.oldest(2)] == [2, 3]


def test_a_row_used_since_is_not_removed(index: Index) -> None:
    index.add([Row(A, 1, 10, used=50), Row(A, 2, 10, used=40)])
    index.remove([(A, 1), (A, 2)], unused_since=50)
    assert index.find(A, 0, 10) == (A, [1])


def test_an_alias_finds_the_same_chunks_and_a_chain_of_them_too(index: Index) -> None:
    index.add([Row(A, 1, 10)])
    index.alias(A, B)
    index.alias(B, C)
    assert index.find(C, 0, 10) == (A, [1])
    index.alias(C, A)  # renamed back
    assert index.find(A, 0, 10) == (A, [1])


def test_a_rename_counts_for_chunks_that_are_written_after_it(index: Index) -> None:
    index.alias(A, B)
    index.add([Row(A, 1, 10)])
    assert index.find(B, 0, 10) == (A, [1])


def test_a_rename_of_nothing_does_not_hide_what_the_new_name_has(index: Index) -> None:
    index.add([Row(B, 1, 10)])
    index.alias(A, B)
    assert index.find(B, 0, 10) == (B, [1])


def test_forgetting_a_name_spares_what_another_name_holds(index: Index) -> None:
    index.add([Row(A, 1, 10), Row(A, 2, 10)])
    index.alias(A, B)
    assert index.forget(A, 10) == []
    assert index.forget(B, 10) == [(A, 1), (A, 2)]
    index.remove([(A, 1), (A, 2)])
    assert index.forget(B, 10) == []
    assert index.resolve(B) == B


def test_aliases_of_nothing_are_swept(index: Index) -> None:
    index.add([Row(A, 1, 10)])
    index.alias(A, B)
    index.remove([(A, 1)])
    index.remove_idle_aliases()
    assert index.resolve(B) == B


def test_rows_without_chunks_are_told_from_those_with(index: Index) -> None:
    index.add([Row(A, 1, 10)])
    assert index.missing([(A, 1), (A, 2), (B, 1)]) == [(A, 2), (B, 1)]


@pytest.mark.parametrize(
    "other",
    [
        ("id", ObjectVersion("k2", "e", 1), 4),
        ("id", ObjectVersion("k", "e2", 1), 4),
        ("id", ObjectVersion("k", "e", 2), 4),
        ("id", ObjectVersion("k", "e", 1), 8),
        ("id2", ObjectVersion("k", "e", 1), 4),
        ("id", ObjectVersion("k\udcff", "e", 1), 4),
    ],
)
def test_what_differs_in_anything_has_another_name(other: tuple[str, ObjectVersion, int]) -> None:
    assert digest_of(*other) != digest_of("id", ObjectVersion("k", "e", 1), 4)


def test_a_lookup_reads_no_more_rows_with_many_than_with_few(index: Index) -> None:
    """Every statement of the hot path goes by an index."""
    for statement in (
        "SELECT token FROM aliases WHERE digest = ?",
        "SELECT number FROM chunks WHERE token = ? AND number >= 1 AND number < 9",
        "SELECT token, number, length, used FROM chunks ORDER BY used LIMIT 5",
        "SELECT 1 FROM aliases WHERE token = ? AND digest != x'00' LIMIT 1",
    ):
        values = (A,) if "?" in statement else ()
        plan = index._db.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
        assert all("INDEX" in row[3] or "PRIMARY KEY" in row[3] for row in plan), plan
