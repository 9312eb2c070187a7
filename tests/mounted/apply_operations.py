"""Applies operations to a mounted directory and to a local one, side by side; a script for a test.

`python apply_operations.py MOUNTED LOCAL < operations.json`. Each operation is a list: its name,
then its arguments. After each the two answers must be the same: data, size, names or errno. It
ends with 1 and says which operation differed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
from typing import Any


class Side:
    """One of the two directories, with its open files by number."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.open: dict[int, int] = {}

    def path(self, name: str) -> str:
        """Where a relative name is."""
        return os.path.join(self.root, name)

    def do(self, operation: str, *args: Any) -> Any:
        """The answer, or the errno's name; what a file system may choose freely is left out."""
        try:
            return getattr(self, f"do_{operation}")(*args)
        except OSError as error:
            code = errno.errorcode[error.errno or 0]
            return {"EEXIST": "ENOTEMPTY"}.get(code, code) if operation == "rename" else code

    def do_write_file(self, name: str, data: str) -> None:
        with open(self.path(name), "wb") as file:
            file.write(data.encode())

    def do_append(self, name: str, data: str) -> None:
        with open(self.path(name), "ab") as file:
            file.write(data.encode())

    def do_read_file(self, name: str) -> str:
        with open(self.path(name), "rb") as file:
            return file.read().decode()

    def do_truncate(self, name: str, size: int) -> None:
        os.truncate(self.path(name), size)

    def do_unlink(self, name: str) -> None:
        os.unlink(self.path(name))

    def do_mkdir(self, name: str) -> None:
        os.mkdir(self.path(name))

    def do_rmdir(self, name: str) -> None:
        os.rmdir(self.path(name))

    def do_rename(self, old: str, new: str) -> None:
        os.rename(self.path(old), self.path(new))

    def do_list(self, name: str) -> list[str]:
        return sorted(os.listdir(self.path(name)))

    def do_stat(self, name: str) -> tuple[bool, int]:
        told = os.lstat(self.path(name))
        is_directory = stat.S_ISDIR(told.st_mode)
        return is_directory, 0 if is_directory else told.st_size

    def do_symlink(self, target: str, name: str) -> None:
        os.symlink(target, self.path(name))

    def do_readlink(self, name: str) -> str:
        return os.readlink(self.path(name))

    def do_open(self, number: int, name: str, flags: int) -> None:
        self.do_close(number)
        self.open[number] = os.open(self.path(name), flags, 0o644)

    def do_close(self, number: int) -> None:
        if number in self.open:
            os.close(self.open.pop(number))

    def handle(self, number: int) -> int:
        """The descriptor of an open file; EBADF as the kernel says it."""
        if number not in self.open:
            raise OSError(errno.EBADF, "not open")
        return self.open[number]

    def do_pwrite(self, number: int, data: str, at: int) -> int:
        return os.pwrite(self.handle(number), data.encode(), at)

    def do_pread(self, number: int, size: int, at: int) -> str:
        return os.pread(self.handle(number), size, at).decode()

    def do_ftruncate(self, number: int, size: int) -> None:
        os.ftruncate(self.handle(number), size)

    def do_fsync(self, number: int) -> None:
        os.fsync(self.handle(number))

    def do_fstat(self, number: int) -> tuple[int, int]:
        told = os.fstat(self.handle(number))
        return told.st_size, min(told.st_nlink, 1)


def main() -> int:
    """Apply all; 1 at the first difference."""
    mounted, local = Side(sys.argv[1]), Side(sys.argv[2])
    for number, operation in enumerate(json.load(sys.stdin)):
        told, expected = mounted.do(*operation), local.do(*operation)
        if told != expected:
            print(f"operation {number}, {operation}:\nmounted {told!r}\nlocal   {expected!r}")
            return 1
    for side in (mounted, local):
        for opened in list(side.open):
            with contextlib.suppress(OSError):
                side.do_close(opened)
    return 0


if __name__ == "__main__":
    sys.exit(main())
