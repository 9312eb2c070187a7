"""One table from errors to errnos, and the guard around every handler.

pyfuse3 answers `FUSEError` alone; any other exception ends the mount. So the guard is total: ours
are looked up by class, a group of one is unwrapped, a cancellation passes, and everything else is
logged with its traceback and answered with EIO.
"""

from __future__ import annotations

import errno
import functools
import logging
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pyfuse3

from storefs import errors

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Coroutine

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

ERRNOS: dict[type[errors.StorefsError], int] = {
    errors.StorefsError: errno.EIO,
    errors.ConfigError: errno.EINVAL,
    errors.StoreError: errno.EIO,
    errors.ObjectNotFound: errno.ENOENT,
    errors.ContainerNotFound: errno.ENOENT,
    errors.AccessDenied: errno.EACCES,
    errors.ObjectChanged: errno.ESTALE,
    errors.ObjectExists: errno.EEXIST,
    errors.ObjectArchived: errno.EIO,
    errors.PositionMismatch: errno.ESTALE,
    errors.ObjectTooLarge: errno.EFBIG,
    errors.InvalidKey: errno.EINVAL,
    errors.InvalidRange: errno.EIO,
    errors.ChecksumMismatch: errno.EIO,
    errors.NoSuchUpload: errno.EIO,
    errors.StoreFull: errno.ENOSPC,
    errors.StoreUnavailable: errno.EIO,
    errors.Throttled: errno.EIO,
    errors.DeadlineExceeded: errno.EIO,
    errors.Unsupported: errno.ENOTSUP,
    errors.TreeError: errno.EIO,
    errors.NotADirectory: errno.ENOTDIR,
    errors.IsADirectory: errno.EISDIR,
    errors.NotEmpty: errno.ENOTEMPTY,
    errors.NameTaken: errno.EEXIST,
    errors.NameInvalid: errno.EINVAL,
    errors.NameTooLong: errno.ENAMETOOLONG,
    errors.NameNotUtf8: errno.EILSEQ,
    errors.NameReserved: errno.EPERM,
    errors.EntryNotFound: errno.ENOENT,
    errors.CrossesDevices: errno.EXDEV,
    errors.Superseded: errno.ESTALE,
    errors.ReadOnly: errno.EROFS,
    errors.NotALink: errno.EINVAL,
    errors.HandleError: errno.EIO,
    errors.UploadFailed: errno.EIO,
    errors.BadHandle: errno.EBADF,
    errors.StagingFull: errno.ENOSPC,
    errors.CacheError: errno.EIO,
    errors.ChunkCorrupt: errno.EIO,
}
"""Every class has its line; a test walks the tree of classes."""


def errno_of(error: BaseException) -> int:
    """The errno of an error of ours; that of a disk (no space) as it is; else EIO.

    An UploadFailed is what its cause is: a program wants to know that the disk or quota is full.
    """
    if isinstance(error, errors.UploadFailed) and isinstance(error.__cause__, errors.StorefsError):
        error = error.__cause__
    for cls in type(error).__mro__:
        found = ERRNOS.get(cls)
        if found is not None:
            return found
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error.errno
    return errno.EIO


def guarded(
    counts: Counter[str],
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """A decorator: count the request, and let nothing but FUSEError and cancellation leave."""

    def decorate(
        handler: Callable[P, Coroutine[Any, Any, T]],
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        name = getattr(handler, "__name__", "handler")

        @functools.wraps(handler)
        async def guard(*args: P.args, **kwargs: P.kwargs) -> T:
            counts[name] += 1
            try:
                return await handler(*args, **kwargs)
            except pyfuse3.FUSEError:
                raise
            except Exception as exc:
                raise pyfuse3.FUSEError(answer(name, exc)) from exc

        return guard

    return decorate


def answer(handler: str, error: Exception) -> int:
    """The errno to answer with; what nobody expected is logged with its traceback."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    code = errno_of(error)
    if not isinstance(error, errors.StorefsError) and code == errno.EIO:
        log.error("unexpected error in %s", handler, exc_info=error)
    elif code in (errno.EIO, errno.EACCES):
        log.warning("%s: %s", handler, error)
    else:
        log.debug("%s: %s", handler, error)
    return code
