"""Text to values and back: one function per kind of flag.

Pure, but for looking up user names. A bad value is a ValueError with one sentence that says what
to write instead; `sources` adds where it stood.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from pathlib import Path

from storefs.cli.flags import Flag, Kind
from storefs.units import parse_size

Value = str | int | float | bool | Path | None

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|m|min|h)?\s*$", re.IGNORECASE)
_FACTORS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}


def parse(flag: Flag, text: str) -> Value:
    """The value that `text` means for this flag."""
    value = _parse_kind(flag, text)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if flag.minimum is not None and value < flag.minimum:
            least = render(flag, flag.minimum)
            raise ValueError(f"{text!r} is too little: at least {least} is needed")
        if flag.above is not None and value <= flag.above:
            raise ValueError(f"{text!r} is too little: it must be above {render(flag, flag.above)}")
    return value


def _parse_kind(flag: Flag, text: str) -> Value:
    if flag.kind is Kind.SWITCH:
        return parse_switch(text)
    if not text.strip():
        raise ValueError("a value is missing")
    match flag.kind:
        case Kind.SIZE:
            return parse_size(text)
        case Kind.SECONDS:
            return parse_seconds(text)
        case Kind.MODE:
            return _parse_mode(text)
        case Kind.USER:
            return _parse_user(text)
        case Kind.GROUP:
            return _parse_group(text)
        case Kind.CHOICE:
            return _parse_choice(flag, text)
        case Kind.PATH_OR_NONE if text == "none":
            return None
        case Kind.PATH | Kind.PATH_OR_NONE:
            return Path(os.path.abspath(os.path.expanduser(text)))
    return text


def parse_switch(text: str) -> bool:
    """yes or no, in the words that people use."""
    try:
        return _WORDS[text.strip().lower()]
    except KeyError:
        raise ValueError(f"{text!r} is neither yes nor no") from None


def parse_seconds(text: str) -> float:
    """Seconds meant by `30`, `500ms`, `2m`, `1h`."""
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write seconds, such as 30, or 500ms, 2m, 1h")
    return float(match[1]) * _FACTORS[(match[2] or "s").lower()]


def _parse_mode(text: str) -> int:
    if not re.fullmatch(r"(0o)?[0-7]{3,4}", text) or int(text, 8) > 0o777:
        raise ValueError(f"{text!r} are no permissions: write them in octal, such as 0644")
    return int(text, 8)


def _parse_user(text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {text!r}") from None


def _parse_group(text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {text!r}") from None


def _parse_choice(flag: Flag, text: str) -> str:
    if text not in flag.choices:
        raise ValueError(f"{text!r} is unknown: write {', '.join(flag.choices)}")
    return text


def render(flag: Flag, value: Value) -> str:
    """Text that `parse` takes for the same value."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if flag.kind is Kind.MODE:
        return f"{value:04o}"
    if flag.kind is Kind.SIZE:
        return _render_size(int(str(value)))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return format(value, "f").rstrip("0") if isinstance(value, float) else str(value)


def _render_size(size_bytes: int) -> str:
    for factor, letter in ((1024**4, "T"), (1024**3, "G"), (1024**2, "M"), (1024, "K")):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{letter}"
    return str(size_bytes)
