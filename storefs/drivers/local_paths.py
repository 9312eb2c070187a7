"""Keys as paths below a bucket's directory, without ever leaving it.

Used by the local driver. Every directory on the way is opened by itself and never through a
symbolic link, so that neither a key nor a link that somebody planted reaches a file outside; what
is opened is then used by descriptor. Knows nothing of records or locks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from storefs.errors import (
    AccessDenied,
    InvalidKey,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PRIVATE = b".storefs-bucket"
"""The directory of our own at a bucket's root; no key begins with it."""

MAX_KEY_BYTES = 1024
_MAX_NAME_BYTES = 255

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking: what was a file a moment ago may be a pipe now.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_ERRORS: dict[int, tuple[type[StoreError], str]] = {
    errno.EACCES: (AccessDenied, "the directory's permissions deny it"),
    errno.EPERM: (AccessDenied, "the directory's permissions deny it"),
    errno.EROFS: (AccessDenied, "the directory is on a read-only file system"),
    errno.ENOSPC: (StoreFull, "the disk is full"),
    errno.EDQUOT: (StoreFull, "the disk quota is used up"),
    errno.ENAMETOOLONG: (InvalidKey, "the name is too long for this file system"),
    errno.EILSEQ: (InvalidKey, "this file system does not take such a name"),
    errno.EINVAL: (InvalidKey, "this file system does not take such a name"),
    errno.ENOTDIR: (
        InvalidKey,
        "an object stands where a directory is needed: a local bucket cannot hold both",
    ),
    errno.EISDIR: (
        InvalidKey,
        "a directory stands where the object is wanted: a local bucket cannot hold both",
    ),
    errno.EMFILE: (StoreUnavailable, "too many open files"),
    errno.ENFILE: (StoreUnavailable, "too many open files on this machine"),
    errno.ENOMEM: (StoreUnavailable, "no memory"),
}


def inherit_owner(made: int | bytes, whose: int | bytes, *, dir_fd: int | None = None) -> None:
    """What root makes in somebody's bucket belongs to them: a mount by sudo leaves no root's files.

    `made` and `whose` are open descriptors or paths; `made` may be relative to `dir_fd`.
    """
    if os.geteuid() != 0:
        return
    owner = os.stat(whose)
    if owner.st_uid or owner.st_gid:
        os.chown(made, owner.st_uid, owner.st_gid, dir_fd=dir_fd)


@contextlib.contextmanager
def translated(operation: str, key: str = "") -> Iterator[None]:
    """Around system calls: an OSError leaves as one of ours, with its cause."""
    try:
        yield
    except OSError as exc:
        kind, text = _ERRORS.get(exc.errno or 0, (StoreError, os.strerror(exc.errno or 0)))
        raise kind(text, key=key, operation=operation) from exc


def names_of(key: str) -> list[bytes]:
    """The components of a key; a marker's `dir/` gives those of the directory.

    Raises InvalidKey for a key that no file can have, with the reason.
    """
    try:
        encoded = key.encode()
    except UnicodeEncodeError as exc:
        raise InvalidKey("a key is UTF-8", key=ascii(key)) from exc
    if not 0 < len(encoded) <= MAX_KEY_BYTES:
        raise InvalidKey(f"a key has 1 to {MAX_KEY_BYTES} bytes, not {len(encoded)}", key=key)
    names = encoded.removesuffix(b"/").split(b"/")
    for name in names:
        if name in (b"", b".", b".."):
            raise InvalidKey(f"a local bucket has no {name.decode()!r} between slashes", key=key)
        if len(name) > _MAX_NAME_BYTES:
            raise InvalidKey(f"a file name has at most {_MAX_NAME_BYTES} bytes", key=key)
        if b"\0" in name:
            raise InvalidKey("a file name has no NUL", key=key)
    if names[0] == PRIVATE:
        raise InvalidKey(f"{PRIVATE.decode()} belongs to storefs", key=key)
    return names


def maybe_names_of(key: str) -> list[bytes] | None:
    """As `names_of`, but None: what cannot be stored is not there when it is asked for."""
    try:
        return names_of(key)
    except InvalidKey:
        return None


@contextlib.contextmanager
def directory(
    root: bytes,
    names: Sequence[bytes],
    *,
    created: Callable[[int, int], None] | None = None,
) -> Iterator[int]:
    """A descriptor of the directory `root/names...`.

    With `created` directories that are missing are made, and it is called with the number of
    components of each and a descriptor of its parent. Raises FileNotFoundError, or
    NotADirectoryError where a file or a link is.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for depth, name in enumerate(names, 1):
            try:
                following = os.open(name, _DIRECTORY, dir_fd=descriptor)
            except FileNotFoundError:
                if created is None:
                    raise
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=descriptor)
                    inherit_owner(name, descriptor, dir_fd=descriptor)
                    created(depth, descriptor)
                following = os.open(name, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = following
        yield descriptor
    finally:
        os.close(descriptor)


def stat_file(name: bytes, parent: int) -> os.stat_result | None:
    """What stands there, if it is a plain file; links and devices are not there for us."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def open_file(name: bytes, parent: int) -> int | None:
    """A descriptor of a plain file to read, or None if there is none."""
    if stat_file(name, parent) is None:
        return None
    try:
        descriptor = os.open(name, _FILE, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):  # a link or a socket by now
            return None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def copy_bytes(source: int, target: int, offset: int, length: int) -> int:
    """Copy to the target's position, inside the kernel where it can; returns how many there were.

    File systems with references (btrfs, xfs) then share the blocks.
    """
    done = 0
    while done < length:
        try:
            step = os.copy_file_range(source, target, length - done, offset + done)
        except OSError as exc:
            if exc.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            step = os.write(target, os.pread(source, min(1 << 20, length - done), offset + done))
        if not step:
            break
        done += step
    return done
