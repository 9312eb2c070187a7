"""Daemon, commands and users where the locale knows no UTF-8, as under cron."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.mounting import storefs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.places import Place

BARE = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NAMES = ["na\u00efve", "caf\u00e9", "cafe\u0301", "\u96ea\u2603", "\U0001f600 smile", "plain"]


@pytest.fixture
def bare(own: Callable[..., Place], kind: str) -> Iterator[Place]:
    """A mount whose daemon and users live in the C locale."""
    place = own(kind, "--metadata-ttl", "1", "--negative-ttl", "1")
    place.mount.env.update(BARE)
    place.mount.mount()
    yield place
    place.mount.umount()


def test_names_and_bytes_are_the_same_in_the_c_locale(bare: Place) -> None:
    for name in NAMES:
        bare.bucket.put(f"in/{name}", name.encode())
    listed = bare.mount.py("print(sorted(os.fsencode(n).hex() for n in os.listdir('in')))")
    assert listed.strip() == str(sorted(name.encode().hex() for name in NAMES))
    code = """
    os.mkdir("out")
    for name in os.listdir(b"in"):
        with open(b"in/" + name, "rb") as source, open(b"out/" + name, "wb") as target:
            target.write(source.read())
        os.rename(b"out/" + name, b"out/" + name + b"-\\xc3\\xa9")
        with open(b"out/" + name + b"-\\xc3\\xa9", "ab") as target:
            target.write(b" more")
    os.symlink(os.fsdecode("caf\\u00e9".encode()), "link")
    print(os.fsencode(os.readlink("link")).hex())
    """
    assert bytes.fromhex(bare.mount.py(code).strip()).decode() == "caf\u00e9"
    for name in NAMES:
        assert bare.bucket.get(f"out/{name}-\u00e9") == name.encode() + b" more"
    bare.mount.py("[os.unlink(b'out/' + name) for name in os.listdir(b'out')]")
    assert [key for key in bare.bucket.all_keys("out/") if key != "out/"] == []


def test_a_name_that_is_not_utf8_is_refused_in_the_c_locale(bare: Place) -> None:
    assert bare.mount.errno_of('open(b"caf\\xe9", "w")') == "EILSEQ"


def test_commands_speak_of_such_names_in_the_c_locale(bare: Place) -> None:
    bare.bucket.put("d/\u96ea", b"x")
    for command in (
        ["ls", bare.mount.url, *bare.mount.flags[:4]],
        ["status"],
        ["status", "--json"],
    ):
        flags = [flag for flag in command if "ttl" not in flag and flag != "1"]
        done = storefs(*flags, env=bare.mount.env)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


def test_a_mount_point_and_a_prefix_beyond_ascii_work_in_the_c_locale(
    own: Callable[..., Place],
) -> None:
    place = own("s3")
    place.bucket.put("pr\u00e9fixe/file", b"bytes")
    place.mount.env.update(BARE)
    place.mount.url += "/pr\u00e9fixe"
    place.mount.path = place.mount.directory / "p\u00f4int"
    os.mkdir(place.mount.path)
    place.mount.mount()
    assert place.mount.sh("cat file").stdout == "bytes"
    place.mount.sh("echo more >> file")
    assert place.bucket.get("pr\u00e9fixe/file") == b"bytesmore\n"
    place.mount.umount()
