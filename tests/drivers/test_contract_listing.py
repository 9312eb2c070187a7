"""One suite for every driver: listings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.drivers.conftest import Place

# In the order of their bytes, which is not that of paths: '-' and '.' come before '/', '0' after.
KEYS = ["a", "b-", "b.txt", "b/1", "b/2/x", "b0", "c/", "c/y", "d/", "\u00e9", "\U0001f600"]


def _fill(place: Place) -> list[str]:
    for key in KEYS:
        place.put(key, b"" if key.endswith("/") else b"x")
    return list(KEYS)


def _all_pages(place: Place, **options: Any) -> list[list[str]]:
    pages: list[list[str]] = []
    marker = None
    while True:
        page, marker = place.page(marker=marker, **options)
        pages.append([found.name for found in page])
        if marker is None:
            return pages


def test_an_empty_bucket_lists_nothing(place: Place) -> None:
    assert place.page() == ([], None)
    assert place.page(delimiter="/") == ([], None)


def test_a_listing_has_every_key_with_its_version(place: Place) -> None:
    keys = _fill(place)

    found = {each.name: each for each in place.page()[0]}

    assert sorted(found) == sorted(keys)
    for key in keys:
        seen = place.head(key)
        assert (found[key].size, found[key].etag) == (seen.size, seen.etag)
        assert found[key].mtime_ns // 10**9 == seen.mtime_ns // 10**9
        assert not found[key].is_prefix


def test_keys_come_in_the_order_of_their_bytes(place: Place) -> None:
    place.needs("byte-order")
    keys = _fill(place)

    assert place.keys() == sorted(keys, key=str.encode)
    names = [found.name for found in place.page(delimiter="/")[0]]
    assert names == sorted(names, key=str.encode)


def test_a_delimiter_groups_what_lies_deeper(place: Place) -> None:
    _fill(place)

    top, _ = place.page(delimiter="/")
    below, _ = place.page("b/", delimiter="/")

    assert {(found.name, found.is_prefix) for found in top} == {
        ("a", False),
        ("b-", False),
        ("b.txt", False),
        ("b/", True),
        ("b0", False),
        ("c/", True),
        ("d/", True),
        ("\u00e9", False),
        ("\U0001f600", False),
    }
    assert {(found.name, found.is_prefix) for found in below} == {("b/1", False), ("b/2/", True)}


def test_a_marker_is_listed_as_an_object_of_its_own_directory(place: Place) -> None:
    _fill(place)

    names = {found.name: found.is_prefix for found in place.page("c/", delimiter="/")[0]}
    alone = [(found.name, found.is_prefix) for found in place.page("d/", delimiter="/")[0]]

    assert names == {"c/": False, "c/y": False}
    assert alone == [("d/", False)]


@pytest.mark.parametrize("prefix", ["b", "b/", "b/2", "b/2/", "x", "b.", "c/y", "c/yy"])
def test_a_prefix_need_not_be_a_directory(place: Place, prefix: str) -> None:
    keys = _fill(place)

    found = sorted(each.name for each in place.page(prefix)[0])

    assert found == sorted(key for key in keys if key.startswith(prefix))


@pytest.mark.parametrize("max_keys", [1, 2, 3, 100])
@pytest.mark.parametrize("delimiter", [None, "/"])
def test_pages_together_are_the_listing(place: Place, max_keys: int, delimiter: str | None) -> None:
    _fill(place)
    whole = [found.name for found in place.page(delimiter=delimiter)[0]]

    pages = _all_pages(place, delimiter=delimiter, max_keys=max_keys)

    # Every entry once; within a page in order, across pages in the order of the store.
    assert sorted(name for page in pages for name in page) == sorted(whole)
    assert all(len(page) <= max_keys for page in pages)


def test_a_listing_begins_after_a_key(place: Place) -> None:
    place.needs("byte-order")
    keys = sorted(_fill(place), key=str.encode)

    for after in ("", "a", "b", "b/", "b/1", "b/2/x", "b/zzz", "c/", "zzz", "\u00e9"):
        names = [found.name for found in place.page(start_after=after)[0]]
        assert names == [key for key in keys if key.encode() > after.encode()], after


def test_a_grouped_listing_begins_after_a_key(place: Place) -> None:
    place.needs("byte-order")
    place.needs("grouped-start-after")
    _fill(place)

    for after, first in (("a", "b-"), ("b/0", "b/"), ("b/2/x", "b0"), ("b0", "c/"), ("c/", "c/")):
        page, _ = place.page(start_after=after, delimiter="/")
        assert page[0].name == first, after


def test_a_page_holds_a_thousand_and_the_iterator_all(place: Place) -> None:
    place.needs("many-objects")
    keys = [f"k{number:05d}" for number in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(place.put, keys))

    page, marker = place.page()

    assert (len(page), marker is None) == (1000, False)
    assert place.keys() == keys


def test_another_delimiter_groups_too(place: Place) -> None:
    place.needs("any-delimiter")
    for key in ("a-1", "a-2", "b", "c/d-1", "c/e"):
        place.put(key)

    page, _ = place.page(delimiter="-")
    pages = _all_pages(place, delimiter="-", max_keys=1)

    wanted = ["a-", "b", "c/d-", "c/e"]
    assert [found.name for found in page] == wanted
    assert [name for each in pages for name in each] == wanted


def test_a_marker_comes_and_goes_as_an_object(place: Place) -> None:
    place.put("d/")
    assert place.head("d/").size == 0
    place.put("d/x", b"x")
    place.delete("d/x")
    assert place.keys() == ["d/"]

    place.delete("d/")

    assert place.keys() == []
    assert place.page(delimiter="/") == ([], None)


def test_a_directory_goes_with_its_last_object(place: Place) -> None:
    place.needs("no-phantom-prefixes")
    place.put("d/e/x", b"x")
    place.put("y", b"y")

    place.delete("d/e/x")

    assert [found.name for found in place.page(delimiter="/")[0]] == ["y"]
