"""Bodies going up and coming down, without any store."""

from __future__ import annotations

import io
import os
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storefs.drivers import checksums, streams
from storefs.drivers.appends import batches, copied_ranges
from storefs.drivers.downloads import Download, clamp
from storefs.drivers.models import Capabilities
from storefs.drivers.uploads import part_size
from storefs.errors import ChecksumMismatch, InvalidRange, StoreError, StoreUnavailable
from storefs.units import GIB, MIB, TIB

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_that_shrinks_while_it_is_sent_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with open(path, "rb") as file:
        body = streams.of_descriptor(file.fileno(), 0, 10)
        body.read(4)
        os.truncate(path, 6)

        with pytest.raises(StoreError, match="shorter"):
            body.read(4)


def test_a_file_without_a_descriptor_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(b"skipped0123456789")
    file.seek(7)
    body = streams.with_length(file)

    assert (len(body), body.read(3), body.read()) == (10, b"012", b"3456789")
    body.seek(-2, os.SEEK_END)
    assert body.read() == b"89"


def test_progress_is_told_of_what_is_sent_and_not_of_what_is_signed() -> None:
    told: list[int] = []
    body = streams.of_buffer(b"0123456789")
    body.progress = lambda done, _: told.append(done)

    body.read()  # to sign
    body.seek(0)
    assert told == []
    body.sending = True
    while body.read(4):
        pass

    assert told == [0, 4, 8, 10]


def test_a_checksum_is_of_what_was_sent_last() -> None:
    body = streams.of_buffer(b"0123456789")
    body.hash_with("md5")
    for size in (5, 100):  # a first attempt that broke, and a second
        body.seek(0)
        body.sending = True
        body.read(size)

    assert body.hexdigest("md5") == checksums.of("md5", b"0123456789")


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 40))
def test_a_puller_cuts_a_stream_into_bodies_of_the_size_asked_for(
    pieces: list[bytes], size: int
) -> None:
    puller = streams.Puller(iter(pieces))
    bodies: list[bytes] = []
    while not puller.at_end():
        bodies.append(puller.take(size).read())

    assert b"".join(bodies) == b"".join(pieces)
    assert all(len(body) == size for body in bodies[:-1])
    assert all(bodies)


def test_a_long_body_is_spooled_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SPOOL_MEMORY_BYTES", 100)
    rolled: list[int] = []
    rollover = tempfile.SpooledTemporaryFile.rollover

    def counted(file: Any) -> None:
        rolled.append(1)
        rollover(file)

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", counted)
    with streams.with_length(iter([b"x" * 60] * 3)) as body:
        assert body.read() == b"x" * 180

    assert rolled == [1]


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(1, 30))
def test_a_joined_body_is_one_after_the_other(head: bytes, tail: bytes, size: int) -> None:
    body = streams.joined(head, streams.of_buffer(tail))

    assert b"".join(body.pieces(size)) == head + tail
    body.seek(0)
    assert body.read() == head + tail


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 60))
def test_commits_are_full_but_the_last(pieces: list[bytes], most: int) -> None:
    bodies = [body.read() for body in batches(iter(pieces), most, 60.0)]

    assert b"".join(bodies) == b"".join(pieces)
    assert all(len(body) == most for body in bodies[:-1])


# -- coming down ---------------------------------------------------------------------------------


def _download(pieces: list[bytes], length: int, **options: object) -> tuple[Download, list[int]]:
    closed: list[int] = []
    source = iter(pieces)
    download = Download(
        lambda _most: next(source, b""),
        lambda: closed.append(1),
        length,
        **options,  # type: ignore[arg-type]
    )
    return download, closed


def test_pieces_have_the_size_asked_for_however_they_come() -> None:
    download, closed = _download([b"ab", b"c", b"def", b"g"], 7, chunk_size=3)

    assert list(download) == [b"abc", b"def", b"g"]
    assert closed == [1]


def test_a_body_that_ends_early_is_an_error_and_closed() -> None:
    download, closed = _download([b"abc"], 7)

    with pytest.raises(StoreUnavailable, match="3 of 7"):
        next(download)
    assert closed == [1]


@pytest.mark.parametrize("expected", ["0" * 32, None])
def test_a_wrong_checksum_is_told_at_the_end(expected: str | None) -> None:
    download, _ = _download([b"abc"], 3, checksum=checksums.new("md5"), expected=expected)
    assert next(download) == b"abc"

    with pytest.raises(ChecksumMismatch if expected else StopIteration):
        next(download)


@given(st.integers(0, 30), st.integers(0, 40), st.none() | st.integers(0, 40))
def test_a_range_is_clamped_as_a_slice_is(size: int, offset: int, length: int | None) -> None:
    body = bytes(range(size))
    if offset >= size and (offset or size):
        with pytest.raises(InvalidRange):
            clamp(offset, length, size, "key")
        return
    start, stop = clamp(offset, length, size, "key")

    assert body[start:stop] == body[offset:][:length]


# -- sizes ---------------------------------------------------------------------------------------


def test_parts_grow_so_that_the_largest_object_is_reached() -> None:
    caps = Capabilities()

    assert part_size(caps, None) == 8 * MIB
    assert part_size(caps, 1) == caps.min_part_bytes
    total = sum(part_size(caps, None, number) for number in range(1, caps.max_parts + 1))
    assert total >= 5 * TIB
    assert part_size(caps, None, caps.max_parts) <= caps.max_part_bytes


@given(st.integers(5 * MIB, 60 * GIB), st.sampled_from([5 * MIB, 6 * MIB, 64 * MIB, GIB, 5 * GIB]))
def test_copied_ranges_cover_everything_in_legal_parts(size: int, most: int) -> None:
    ranges = copied_ranges(size, most, 5 * MIB)

    position = 0
    for start, length in ranges:
        assert start == position
        assert length <= most
        position += length
    assert position == size
    if most >= 10 * MIB:
        assert all(length >= 5 * MIB for _, length in ranges)
