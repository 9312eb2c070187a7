"""Where a mounted test works: a mount, a directory in it, and the bucket behind, together.

Used by the tests under `tests/mounted`. The danger: `path` is for the arguments of commands only;
the test's own process must touch no mount.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.commands import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.buckets import Bucket, S3Bucket, Stored
    from tests.support.mounting import Mount
    from tests.support.relay import Relay


@dataclass
class Place:
    """A directory of the mount for one test; `name` is empty for all of a mount.

    The directory is made by the first command in it, unless somebody else has put objects there
    before; so what `put` brings is seen at once, as in a directory that the mount meets anew. After
    that `put` waits until the mount may no longer trust what it knows.
    """

    mount: Mount
    bucket: Bucket
    name: str = ""
    relay: Relay | None = None
    ttl_seconds: float = 1.0
    known: bool = False

    @property
    def path(self) -> Path:
        """Where it is mounted; only for arguments of commands, never to be touched here."""
        self._enter()
        return self.mount.path / self.name

    @property
    def prefix(self) -> str:
        """What its keys begin with."""
        return f"{self.name}/" if self.name else ""

    def _enter(self) -> None:
        if self.name and not self.known:
            self.mount.sh(f"mkdir -p '{self.name}'")
        self.known = True

    def sh(self, script: str, **options: Any) -> Any:
        """A shell script in this directory."""
        self._enter()
        return self.mount.sh(script, within=self.name, **options)

    def out(self, script: str, **options: Any) -> str:
        """What a shell script in this directory prints, without the last line's end."""
        printed: str = self.sh(script, **options).stdout
        return printed.rstrip("\n")

    def py(self, code: str, *args: str, **options: Any) -> str:
        """Python in this directory; what it prints."""
        self._enter()
        return self.mount.py(code, *args, within=self.name, **options).rstrip("\n")

    def errno_of(self, expression: str) -> str:
        """The errno that an expression raises in this directory."""
        self._enter()
        return self.mount.errno_of(expression, within=self.name)

    def put(self, name: str, body: bytes = b"", **attributes: Any) -> None:
        """An object in this directory, put by somebody else."""
        self.bucket.put(self.prefix + name, body, **attributes)
        self._wait_until_known_things_are_old()

    def put_many(self, bodies: dict[str, bytes]) -> None:
        """Objects in this directory, put by somebody else."""
        self.bucket.put_many({self.prefix + name: body for name, body in bodies.items()})
        self._wait_until_known_things_are_old()

    def _wait_until_known_things_are_old(self) -> None:
        if self.known:
            time.sleep(self.ttl_seconds + 0.1)

    def get(self, name: str) -> bytes:
        """An object's bytes, as somebody else reads them."""
        return self.bucket.get(self.prefix + name)

    def head(self, name: str) -> Stored:
        """An object's attributes, as somebody else sees them."""
        return self.bucket.head(self.prefix + name)

    def names(self, under: str = "") -> list[str]:
        """Names of all objects below (markers of directories left out), as others list them."""
        found = [key.removeprefix(self.prefix) for key in self.bucket.all_keys(self.prefix + under)]
        return [name for name in found if name and not name.endswith("/")]


@dataclass(frozen=True)
class Probed:
    """A bucket whose conditional writes a mount has tried, and the file where it noted that."""

    bucket: S3Bucket
    relay: Relay
    noted: Path


def assert_no_traceback(mount: Mount) -> None:
    """What goes wrong at the store is foreseen; a traceback in the log is a bug."""
    log = mount.log()
    at = log.find("Traceback (most recent call last)")
    assert at < 0, f"{mount!r} logged a traceback:\n{log[max(0, at - 500) : at + 6000]}"


def shows(place: Place, name: str, body: bytes, *, within: float = 15) -> None:
    """Wait until the bucket has these bytes under a name."""

    def probe() -> bool:
        try:
            return place.get(name) == body
        except KeyError:
            return False

    eventually(probe, within=within, what=f"{name} with {len(body)} bytes in the bucket")
