"""Listing a local bucket in the byte order of keys, a page at a time.

Used by the local driver. A directory is read once and its names are kept, sorted and packed, as
long as its own time stands, so that the pages of a large one do not read it again. Of files only
the status is looked at, never the content. Skips what is no object (links, devices, names that are
not UTF-8) and says so once.
"""

from __future__ import annotations

import bisect
import logging
import os
import stat
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from storefs.drivers.listing import lower_bound, roll_up, successor
from storefs.drivers.local_paths import PRIVATE, directory, maybe_names_of, stat_file
from storefs.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

log = logging.getLogger(__name__)

Entry = tuple[str, os.stat_result | None]
"""A key and its file's status; a common prefix has none. A marker has its directory's."""

_KEPT_BYTES = 32 * MIB
"""Names kept in memory, over all directories: about a million and a half."""

_SETTLED_NS = 100_000_000
"""A directory changed later than this before it was read may change again without its time moving:
kernels stamp files every 4 ms."""


class Names(Sequence[str]):
    """Sorted names in one piece of memory; those of directories end with `/`."""

    def __init__(self, names: list[str]) -> None:
        encoded = [name.encode() for name in sorted(names)]
        self._text = b"".join(encoded)
        self._ends = array("Q", [0])
        for name in encoded:
            self._ends.append(self._ends[-1] + len(name))

    @property
    def size_bytes(self) -> int:
        """Memory taken."""
        return len(self._text) + 8 * len(self._ends) + 200

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._text[self._ends[index] : self._ends[index + 1]].decode()


class Snapshots:
    """The names of directories, read when they changed. Safe for many threads."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], tuple[int, Names]] = OrderedDict()
        self._kept_bytes = 0
        self._told = False

    def names(self, descriptor: int) -> Names:
        """Of an open directory, as it is now."""
        found = os.fstat(descriptor)
        identity = (found.st_dev, found.st_ino)
        with self._lock:
            mtime_ns, names = self._kept.get(identity, (-1, None))
        if names is not None and mtime_ns == found.st_mtime_ns:
            return names
        settled = time.time_ns() - found.st_mtime_ns > _SETTLED_NS
        names = self._read(descriptor)
        if settled:
            self._keep(identity, found.st_mtime_ns, names)
        return names

    def _read(self, descriptor: int) -> Names:
        names: list[str] = []
        skipped = 0
        with os.scandir(descriptor) as entries:
            for entry in entries:
                raw = os.fsencode(entry.name)
                if raw == PRIVATE:
                    continue
                try:
                    name = raw.decode()
                except UnicodeDecodeError:
                    skipped += 1
                    continue
                if entry.is_dir(follow_symlinks=False):
                    names.append(name + "/")
                elif entry.is_file(follow_symlinks=False):
                    names.append(name)
                else:
                    skipped += 1
        if skipped and not self._told:
            self._told = True
            log.warning(
                "%s holds symbolic links, devices or names that are not UTF-8 (%d in one "
                "directory); they are no objects and are not shown",
                os.fsdecode(self.root),
                skipped,
            )
        return Names(names)

    def _keep(self, identity: tuple[int, int], mtime_ns: int, names: Names) -> None:
        with self._lock:
            before = self._kept.pop(identity, None)
            if before is not None:
                self._kept_bytes -= before[1].size_bytes
            self._kept[identity] = (mtime_ns, names)
            self._kept_bytes += names.size_bytes
            while self._kept_bytes > _KEPT_BYTES:
                _, (_, dropped) = self._kept.popitem(last=False)
                self._kept_bytes -= dropped.size_bytes


class Walk:
    """One page's walk over the tree. `is_marked` says whether a `dir/` was put explicitly."""

    def __init__(
        self,
        snapshots: Snapshots,
        prefix: str,
        start_after: str | None,
        marker: str | None,
        is_marked: Callable[[str], bool],
    ) -> None:
        self._snapshots = snapshots
        self._prefix = prefix
        self._is_marked = is_marked
        self._bound, self._inclusive = lower_bound(marker, start_after)

    def entries(self, delimiter: str | None) -> Generator[Entry, None, None]:
        """Keys and common prefixes in order."""
        if delimiter not in (None, "", "/"):
            return self._rolled_up(delimiter)
        return self._below(bool(delimiter))

    def _below(self, grouped: bool) -> Generator[Entry, None, None]:
        base = self._prefix[: self._prefix.rfind("/") + 1]
        names = maybe_names_of(base) if base else []
        if names is None:
            return
        try:
            with directory(self._snapshots.root, names) as descriptor:
                yield from self._directory(base, descriptor, grouped)
        except (FileNotFoundError, NotADirectoryError):
            return

    def _rolled_up(self, delimiter: str) -> Generator[Entry, None, None]:
        found = self._below(False)
        while (entry := next(found, None)) is not None:
            common = roll_up(entry[0], self._prefix, delimiter)
            if common is None:
                yield entry
                continue
            yield common, None
            self._bound, self._inclusive = successor(common), True
            found = self._below(False)

    def _directory(self, key: str, descriptor: int, grouped: bool) -> Generator[Entry, None, None]:
        names = self._snapshots.names(descriptor)
        if (
            key
            and self._wanted(key)
            and key.startswith(self._prefix)
            and (not names or self._is_marked(key))
        ):
            yield key, os.fstat(descriptor)
        position = self._first(key, names)
        while position < len(names):
            name = names[position]
            position += 1
            full = key + name
            if not full.startswith(self._prefix):
                if full > self._prefix:
                    return
                continue
            if not name.endswith("/"):
                found = stat_file(name.encode(), descriptor) if self._wanted(full) else None
                if found is not None:
                    yield full, found
            elif grouped:
                if full > self._bound or self._has_later(full, name, descriptor):
                    yield full, None
            else:
                yield from self._subdirectory(full, name, descriptor)

    def _first(self, key: str, names: Names) -> int:
        """Where to begin among a directory's names; one earlier, for the directory on the way."""
        least = max(self._prefix, self._bound)
        if least <= key:
            return 0
        if not least.startswith(key):
            return len(names) if least > key else 0
        return max(0, bisect.bisect_left(names, least[len(key) :]) - 1)

    def _wanted(self, full: str) -> bool:
        return full >= self._bound if self._inclusive else full > self._bound

    def _has_later(self, full: str, name: str, parent: int) -> bool:
        """Whether a directory that the bound lies in has keys behind it."""
        if successor(full) <= self._bound:
            return False
        return next(self._subdirectory(full, name, parent), None) is not None

    def _subdirectory(self, full: str, name: str, parent: int) -> Generator[Entry, None, None]:
        if successor(full) <= self._bound:
            return
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(name.rstrip("/").encode(), flags, dir_fd=parent)
        except (FileNotFoundError, NotADirectoryError):
            return  # gone since its name was read
        try:
            yield from self._directory(full, descriptor, False)
        finally:
            os.close(descriptor)


def is_directory(found: os.stat_result) -> bool:
    """Whether an entry's status is that of a marker."""
    return stat.S_ISDIR(found.st_mode)
