"""lost+found: bytes that no store has, kept with the key they belonged to and the reason.

Used by the commit path (permanent failures), by `instance` (what a crash left) and by status. Two
files each: `STEM.data`, sparse, and `STEM.json`, which says exactly which bytes count. Nothing here
removes bytes unless it is told to. All functions block; callers go through a thread.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from storefs.handle.record import Record

log = logging.getLogger(__name__)

FORMAT = 1
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class LostFile:
    """One entry. `ranges` are half-open pairs: the bytes of `data` that were written here.

    What is not in them comes from the version `etag` below `base_limit`, and is zero above.
    `whole`: the data file alone is the file. `lost` and `created` are epoch seconds.
    """

    stem: str
    data: str
    key: str
    store: str
    etag: str | None
    base_size: int
    base_limit: int
    size: int
    ranges: list[tuple[int, int]]
    whole: bool
    reason: str
    created: float
    lost: float


class LostAndFound:
    """The directory; shared by all mounts that have this state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep(self, data_path: Path, record: Record, reason: str) -> LostFile:
        """Give staged bytes a name here; again for the same file replaces what was said before.

        The bytes are linked, not moved: an open file goes on working on them.
        """
        stem = record.stem or self._new_stem(record.header.key)
        target = self.directory / f"{stem}.data"
        content = record.content
        if not target.exists() or not os.path.samefile(target, data_path):
            aside = self.directory / f".{stem}.{uuid.uuid4().hex}"
            os.link(data_path, aside)
            os.rename(aside, target)
        with open(target, "rb+") as file:
            if record.is_whole and os.fstat(file.fileno()).st_size < content.size:
                file.truncate(content.size)
            os.fsync(file.fileno())
        lost = LostFile(
            stem=stem,
            data=str(target),
            key=record.header.key,
            store=record.header.store,
            etag=record.header.etag,
            base_size=record.header.size,
            base_limit=content.base_limit,
            size=content.size,
            ranges=[(span.start, span.stop) for span in content.staged],
            whole=record.is_whole,
            reason=reason,
            created=record.header.created,
            lost=time.time(),
        )
        self._describe(lost)
        return lost

    def entries(self, store: str) -> list[LostFile]:
        """What is kept of one store, oldest first."""
        found = []
        for path in self.directory.glob("*.json"):
            try:
                fields = json.loads(path.read_text(encoding="utf-8"))
                if fields.pop("format") != FORMAT or fields["store"] != store:
                    continue
                fields["ranges"] = [(start, stop) for start, stop in fields["ranges"]]
                found.append(LostFile(**fields))
            except (OSError, ValueError, TypeError, KeyError) as exc:
                log.warning("%s cannot be read, so its bytes have no name: %s", path, exc)
        return sorted(found, key=lambda lost: lost.lost)

    def remove(self, stem: str) -> None:
        """Drop an entry: its bytes are stored now, or superseded."""
        (self.directory / f"{stem}.json").unlink(missing_ok=True)
        (self.directory / f"{stem}.data").unlink(missing_ok=True)

    def _describe(self, lost: LostFile) -> None:
        aside = self.directory / f".{lost.stem}.{uuid.uuid4().hex}"
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, **asdict(lost)}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.rename(aside, self.directory / f"{lost.stem}.json")
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @staticmethod
    def _new_stem(key: str) -> str:
        name = _UNSAFE.sub("_", key.rsplit("/", 1)[-1])[-80:].lstrip(".") or "file"
        return f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:8]}-{name}"
