"""Rules between key, path and name: the delimiter, UTF-8, what is reserved, what cannot be shown.

Pure. A key is split at `/`; a component is a name. Names reach us from the kernel as bytes and are
`str` inside, by UTF-8 and never by the locale; nothing is normalised, so NFC and NFD are two files.

    key                               shown as
    a/b                               directory `a`, file `b`
    a/                                directory `a`, marked (written by mkdir)
    a_$folder$                        directory `a` (marker of Hadoop tools)
    .storefs...                       hidden: belongs to storefs
    a//b, /a, ./a, a/../b, NUL, a component over 255 bytes    hidden, counted, logged once
    a beside a/b                      the directory; the object `a` is hidden, counted
"""

from __future__ import annotations

from storefs.errors import EntryNotFound, NameNotUtf8, NameReserved, NameTooLong

MAX_NAME_BYTES = 255
RESERVED_PREFIX = ".storefs"
FLAG_NAME = ".storefs-attributes"
FOLDER_SUFFIX = "_$folder$"


def is_reserved(name: str) -> bool:
    """True for names that only storefs itself uses in a bucket."""
    return name.startswith(RESERVED_PREFIX)


def is_showable(name: str) -> bool:
    """True if a key's component can be a name in a directory."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        return False
    try:
        return len(name.encode("utf-8")) <= MAX_NAME_BYTES
    except UnicodeEncodeError:  # a lone surrogate: bytes in the key that are not UTF-8
        return False


def decode_lookup(name: bytes) -> str:
    """A name that is looked for; what cannot be a key does not exist. Raises EntryNotFound."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        raise EntryNotFound(repr(name)) from None
    if is_reserved(text):
        raise EntryNotFound(text)
    if len(name) > MAX_NAME_BYTES:
        raise NameTooLong(text)
    return text


def decode_existing(name: bytes) -> str:
    """A name to be removed or renamed. Raises EntryNotFound, or NameReserved."""
    if name.startswith(RESERVED_PREFIX.encode()):
        raise NameReserved(repr(name))
    return decode_lookup(name)


def decode_new(name: bytes, parent_key: str, max_key_bytes: int) -> str:
    """A name to be created. Raises NameNotUtf8, NameReserved or NameTooLong."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        raise NameNotUtf8(repr(name)) from None
    if is_reserved(text):
        raise NameReserved(text)
    # One byte is kept for the `/` of a directory's marker.
    if len(name) > MAX_NAME_BYTES or len(parent_key.encode()) + len(name) + 1 > max_key_bytes:
        raise NameTooLong(text)
    return text


def folder_name(key_name: str) -> str | None:
    """The directory that a foreign marker `dir_$folder$` stands for, or None."""
    if key_name.endswith(FOLDER_SUFFIX) and len(key_name) > len(FOLDER_SUFFIX):
        return key_name[: -len(FOLDER_SUFFIX)]
    return None
