"""The small log beside a staging file: whose bytes these are, and exactly which.

Written by `staging`, read again after a crash by `instance`. Pure: lines in, values out. One line a
record, appended after the bytes were written and before the write is acknowledged; a line without
its end was cut off by the crash and never acknowledged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from storefs.handle.ranges import Content
from storefs.units import ByteRange

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Header:
    """The file that staged bytes belong to. `etag` None: not in the store when it was opened.

    `store` names the store, `size` is the base version's in bytes, `created` in epoch seconds.
    """

    key: str
    store: str
    etag: str | None
    size: int
    created: float


@dataclass(slots=True)
class Record:
    """All that a log says. `content` holds exactly what was written here."""

    header: Header
    content: Content
    uploads: dict[str, str] = field(default_factory=dict)  # id to key: begun, not known to be over
    stem: str | None = None  # the name it already has in lost+found
    is_unlinked: bool = False  # the file was removed: nobody misses these bytes
    scratch: str | None = None  # the key of a copy that serves the handles of an unlinked file

    @property
    def is_whole(self) -> bool:
        """True if the staged bytes alone are the file."""
        return self.content.base_limit == 0


def header_line(header: Header) -> str:
    """The first line of a log."""
    fields = {
        "format": FORMAT,
        "key": header.key,
        "store": header.store,
        "etag": header.etag,
        "size": header.size,
        "created": header.created,
    }
    return json.dumps(fields) + "\n"


def write_line(span: ByteRange) -> str:
    """These bytes are in the staging file."""
    return f"w {span.start} {span.stop}\n"


def truncate_line(size: int) -> str:
    """The file was cut or grown to this size."""
    return f"t {size}\n"


def moved_line(header: Header) -> str:
    """The file has another key or base version now."""
    return f"m {json.dumps([header.key, header.etag, header.size])}\n"


def upload_line(upload_id: str, key: str, *, begun: bool) -> str:
    """A multipart upload was begun, or is over."""
    return f"u {json.dumps([upload_id, key, begun])}\n"


def stem_line(stem: str) -> str:
    """The bytes have this name in lost+found."""
    return f"l {json.dumps(stem)}\n"


def unlinked_line(is_unlinked: bool, scratch: str | None) -> str:
    """The file lost its name, or got it back."""
    return f"x {json.dumps([is_unlinked, scratch])}\n"


def whole_log(record: Record) -> str:
    """The shortest log that says the same."""
    content = record.content
    lines = [
        header_line(record.header),
        truncate_line(content.base_limit),
        truncate_line(content.size),
        *(write_line(span) for span in content.staged),
        *(upload_line(upload_id, key, begun=True) for upload_id, key in record.uploads.items()),
    ]
    if record.stem is not None:
        lines.append(stem_line(record.stem))
    if record.is_unlinked:
        lines.append(unlinked_line(record.is_unlinked, record.scratch))
    return "".join(lines)


def parse_log(data: bytes) -> Record | None:
    """What a log says, up to the first line that is cut off; None if even the header is."""
    lines = data.split(b"\n")[:-1]
    if not lines:
        return None
    try:
        fields: dict[str, Any] = json.loads(lines[0])
        if fields.pop("format") != FORMAT:
            return None
        header = Header(**fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    record = Record(header, Content.stored(header.size))
    for line in lines[1:]:
        try:
            _apply(record, line.decode())
        except (ValueError, TypeError, IndexError):
            break
    return record


def _apply(record: Record, line: str) -> None:
    kind, _, rest = line.partition(" ")
    if kind == "w":
        start, stop = rest.split(" ")
        record.content.write(ByteRange(int(start), int(stop)))
    elif kind == "t":
        record.content.truncate(int(rest))
    elif kind == "m":
        key, etag, size = json.loads(rest)
        record.header = replace(record.header, key=key, etag=etag, size=size)
    elif kind == "u":
        upload_id, key, begun = json.loads(rest)
        if begun:
            record.uploads[upload_id] = key
        else:
            record.uploads.pop(upload_id, None)
    elif kind == "l":
        record.stem = json.loads(rest)
    elif kind == "x":
        record.is_unlinked, record.scratch = json.loads(rest)
    else:
        raise ValueError(kind)
