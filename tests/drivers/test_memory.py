"""The memory driver's handles, and a local bucket compared with it key by key."""

from __future__ import annotations

import dataclasses
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storefs.config import StoreConfig, StoreUrl
from storefs.drivers import open_driver
from storefs.drivers.local import LocalDriver
from storefs.drivers.local_connection import LocalConnection
from storefs.drivers.memory import MemoryConnection, MemoryDriver
from storefs.drivers.memory_connection import CAPABILITIES
from storefs.errors import ObjectNotFound, StoreUnavailable
from tests.drivers.conftest import Place


def _place(**options: object) -> tuple[Place, MemoryConnection]:
    connection = MemoryConnection(buckets=("bucket",), **options)  # type: ignore[arg-type]
    return Place("memory", MemoryDriver(), connection, "bucket"), connection


def test_what_fails_before_was_not_done_and_what_fails_after_was() -> None:
    place, connection = _place()

    def fail(operation: str, key: str) -> None:
        raise StoreUnavailable(key=key, operation=operation)

    connection.before = fail
    with pytest.raises(StoreUnavailable) as caught:
        place.put("key", b"bytes")
    assert (caught.value.key, caught.value.operation) == ("key", "put_object")
    connection.before = None
    with pytest.raises(ObjectNotFound):
        place.head("key")

    connection.after = fail
    with pytest.raises(StoreUnavailable):
        place.put("key", b"bytes")
    connection.after = None
    assert place.get("key") == b"bytes"


def test_requests_are_counted_by_verb() -> None:
    place, connection = _place()
    place.put("key", b"bytes")
    place.get("key")
    place.get("key")

    assert connection.requests == {"put_object": 1, "download_object_as_stream": 2}


def test_connections_with_one_host_share_their_buckets() -> None:
    one = MemoryConnection("test-shared", buckets=("bucket",))
    other = MemoryConnection("test-shared")
    Place("memory", MemoryDriver(), one, "bucket").put("key", b"bytes")

    assert Place("memory", MemoryDriver(), other, "bucket").get("key") == b"bytes"
    driver, connection, bucket = open_driver(StoreConfig(StoreUrl.parse("memory://bucket")))
    assert driver.list_container_objects(connection, bucket) == ([], None)


def test_the_clock_is_the_tests() -> None:
    place, _ = _place(clock=lambda: 42)
    place.put("key", b"bytes")

    assert place.head("key").mtime_ns == place.page()[0][0].mtime_ns == 42


def test_a_store_that_ignores_conditions_can_be_played() -> None:
    place, _ = _place(ignored_conditions=frozenset({"put", "delete"}))
    place.put("key", b"old")

    place.put("key", b"new", if_none_match="*")
    place.put("key", b"newer", if_match="0" * 32)
    assert place.get("key") == b"newer"
    place.delete("key", if_match="0" * 32)
    assert place.keys() == []


def test_a_store_with_an_order_of_its_own_can_be_played() -> None:
    place, _ = _place(listing_order=lambda key: key.split("/"))
    keys = ["a/x", "a-", "a.txt", "a0"]
    for key in keys:
        place.put(key, b"x")

    names, marker = [], None
    while True:
        page, marker = place.page(max_keys=1, marker=marker, delimiter="/")
        names += [found.name for found in page]
        if marker is None:
            break

    assert names == ["a/", "a-", "a.txt", "a0"]
    assert place.keys() == keys


def test_capabilities_are_those_given() -> None:
    small = dataclasses.replace(CAPABILITIES, min_part_bytes=3)
    place, _ = _place(capabilities=small)
    upload = place.begin("key")
    parts = [place.send("key", upload, number, b"abc") for number in (1, 2)]
    place.complete("key", upload, parts)

    assert place.get("key") == b"abcabc"


_NAME = st.text(st.sampled_from("a-./0\u00e9\U0001f600b"), min_size=1, max_size=6)


def _holdable(key: str) -> bool:
    return all(name not in ("", ".", "..") for name in key.removesuffix("/").split("/"))


def _compatible(keys: list[str]) -> list[str]:
    """Keys that a directory holds together: no object where another one needs a directory."""
    kept: list[str] = []
    for key in keys:
        path = key.removesuffix("/") + "/"
        is_below_a_file = any(path.startswith(other + "/") for other in kept if other[-1] != "/")
        is_file_above = key[-1] != "/" and any((other + "/").startswith(path) for other in kept)
        if not is_below_a_file and not is_file_above:
            kept.append(key)
    return kept


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_NAME.filter(_holdable), max_size=12, unique=True),
    st.sampled_from([None, "/", "a"]),
    st.integers(1, 5),
    st.text(st.sampled_from("a-./0b"), max_size=3),
    st.none() | _NAME,
)
def test_a_directory_lists_what_a_store_lists(
    keys: list[str], delimiter: str | None, max_keys: int, prefix: str, start_after: str | None
) -> None:
    """The same keys in memory and in a directory: the same entries, in the same order and pages."""
    store, connection = _place()
    with tempfile.TemporaryDirectory() as root:
        directory = Place("local", LocalDriver(), LocalConnection(durable=False), root)
        for key in _compatible(keys):
            for place in (store, directory):
                place.put(key, b"" if key.endswith("/") else b"x")

        connection.bucket("bucket").check_invariants()
        pages = [
            _pages(place, prefix, delimiter, max_keys, start_after) for place in (store, directory)
        ]

    assert pages[0] == pages[1]


def _pages(
    place: Place, prefix: str, delimiter: str | None, max_keys: int, start_after: str | None
) -> list[list[tuple[str, bool]]]:
    pages, marker = [], None
    while True:
        page, marker = place.page(
            prefix,
            delimiter=delimiter,
            max_keys=max_keys,
            start_after=start_after,
            marker=marker,
        )
        pages.append([(found.name, found.is_prefix) for found in page])
        if marker is None:
            return pages
