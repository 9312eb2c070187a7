"""Where a mounted test works: a mount, a directory in it, and the bucket behind, together.

Used by the tests under `tests/mounted`. The danger: `path` is for the arguments of commands only;
the test's own process must touch no mount.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.commands import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.buckets import Bucket
    from tests.support.mounting import Mount
    from tests.support.relay import Relay


@dataclass
class Place:
    """A directory of its own for one test, within a mount that others share."""

    mount: Mount
    bucket: Bucket
    name: str
    relay: Relay | None = None

    @property
    def path(self) -> Path:
        """Where it is mounted; only for arguments of commands, never to be touched here."""
        return self.mount.path / self.name

    def sh(self, script: str, **options: Any) -> Any:
        """A shell script in this directory."""
        return self.mount.sh(script, within=self.name, **options)

    def out(self, script: str, **options: Any) -> str:
        """What a shell script in this directory prints, without the last line's end."""
        printed: str = self.sh(script, **options).stdout
        return printed.rstrip("\n")

    def py(self, code: str, *args: str, **options: Any) -> str:
        """Python in this directory; what it prints."""
        return self.mount.py(code, *args, within=self.name, **options).rstrip("\n")

    def errno_of(self, expression: str) -> str:
        """The errno that an expression raises in this directory."""
        return self.mount.errno_of(expression, within=self.name)

    def put(self, name: str, body: bytes = b"", **attributes: Any) -> None:
        """An object in this directory, put by somebody else."""
        self.bucket.put(f"{self.name}/{name}", body, **attributes)

    def get(self, name: str) -> bytes:
        """An object's bytes, as somebody else reads them."""
        return self.bucket.get(f"{self.name}/{name}")

    def names(self) -> list[str]:
        """Names of all objects below, as somebody else lists them."""
        prefix = f"{self.name}/"
        found = [key.removeprefix(prefix) for key in self.bucket.all_keys(prefix)]
        return [name for name in found if name]


def assert_no_traceback(mount: Mount) -> None:
    """What goes wrong at the store is foreseen; a traceback in the log is a bug."""
    log = mount.log()
    at = log.find("Traceback (most recent call last)")
    assert at < 0, f"{mount!r} logged a traceback:\n{log[max(0, at - 500) : at + 6000]}"


def shows(place: Place, name: str, body: bytes, *, within: float = 15) -> None:
    """Wait until the bucket has these bytes under a name."""

    def probe() -> bool:
        try:
            return place.bucket.get(name) == body
        except KeyError:
            return False

    eventually(probe, within=within, what=f"{name} with {len(body)} bytes in the bucket")
