"""Everything that storefs raises by its own name.

    StorefsError
      ConfigError                      a user's mistake: exit code 2, one line, no traceback
      StoreError(key, operation, request_id)
        ObjectNotFound                 no such key (ENOENT)
        ContainerNotFound              no such bucket (ENOENT)
        AccessDenied                   the store refused the credentials or the action (EACCES)
        ObjectChanged                  a condition failed: another version is there (ESTALE)
        ObjectExists                   an If-None-Match: * met an object (EEXIST)
        ObjectArchived                 must be restored before it can be read (EIO)
        PositionMismatch(length)       an append whose position is not the length (ESTALE)
        ObjectTooLarge                 above what the store takes (EFBIG)
        InvalidKey                     a key that the store refuses (EINVAL)
        InvalidRange                   a range past the end (EIO)
        ChecksumMismatch               bytes differ from what the store says it has (EIO)
        NoSuchUpload                   the multipart upload is gone (EIO)
        StoreFull                      quota or disk (ENOSPC)
        StoreUnavailable               may be tried again: reset, time-out, 5xx (EIO)
          Throttled                    the store asks for fewer requests (EIO)
          DeadlineExceeded             tried until the deadline (EIO)
        Unsupported                    this store has no such thing (ENOTSUP)
      TreeError(path)
        NotADirectory  IsADirectory  NotEmpty  NameTaken  NameInvalid  NameTooLong
        NameNotUtf8  NameReserved  EntryNotFound  CrossesDevices  Superseded  ReadOnly  NotALink
      HandleError(path)
        UploadFailed                   carries the store's error as its cause (EIO)
        BadHandle                      no such open file (EBADF)
        StagingFull                    the state directory's disk is full (ENOSPC)
      CacheError
        ChunkCorrupt                   recovered by fetching again; seen by nobody

One table in `fuse.errnos` gives each its errno. Drivers translate their SDK's errors into these and
keep the cause.
"""

from __future__ import annotations


class StorefsError(Exception):
    """Base of all errors of storefs."""


class ConfigError(StorefsError):
    """A mistake in an option, a file or a URL; the message says what to change."""


class StoreError(StorefsError):
    """The store answered with an error, or not at all."""

    retryable = False

    position: int | None = None
    """Of an append that failed on its way: the length that the object has reached, in bytes."""

    attempts: int = 1
    """How often an SDK that retries by itself asked; only the last answer is this error."""

    def __init__(
        self,
        message: str = "",
        *,
        key: str = "",
        operation: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message or type(self).__name__)
        self.message = message or type(self).__name__
        self.key = key
        self.operation = operation
        self.request_id = request_id

    def __str__(self) -> str:
        parts = [self.message]
        if self.operation:
            parts.append(f"in {self.operation}")
        if self.key:
            parts.append(f"of {self.key!r}")
        if self.request_id:
            parts.append(f"(request {self.request_id})")
        return " ".join(parts)


class ObjectNotFound(StoreError):
    """No object has this key."""


class ContainerNotFound(StoreError):
    """No bucket has this name."""


class AccessDenied(StoreError):
    """The store refused: wrong key, expired token, missing permission."""


class ObjectChanged(StoreError):
    """A condition on the version failed."""


class ObjectExists(StoreError):
    """A condition on absence failed."""


class ObjectArchived(StoreError):
    """The object is in an archive class and not restored."""


class PositionMismatch(StoreError):
    """The object's length is not the append's position; `length` is the true one, in bytes."""

    def __init__(
        self, message: str = "", *, length: int = 0, key: str = "", operation: str = ""
    ) -> None:
        super().__init__(message, key=key, operation=operation)
        self.length = length


class ObjectTooLarge(StoreError):
    """Above the largest object or part of this store."""


class InvalidKey(StoreError):
    """The store does not take such a key."""


class InvalidRange(StoreError):
    """The range begins past the end of the object."""


class ChecksumMismatch(StoreError):
    """What was moved is not what the store says it has.

    `stored_etag`: the version that a damaged upload left under the key, if it left one.
    """

    retryable = True
    stored_etag: str | None = None


class NoSuchUpload(StoreError):
    """The multipart upload does not exist (any more)."""


class StoreFull(StoreError):
    """Quota or disk of the store is used up."""


class StoreUnavailable(StoreError):
    """No answer, or one that asks to try again."""

    retryable = True


class Throttled(StoreUnavailable):
    """The store asks for a lower request rate."""


class DeadlineExceeded(StoreUnavailable):
    """Nothing came within the time allowed."""

    retryable = False


class Unsupported(StoreError):
    """This store cannot do that; the message names store and reason."""


class TreeError(StorefsError):
    """A name cannot be used as asked."""

    def __init__(self, path: str = "") -> None:
        super().__init__(path)
        self.path = path


class NotADirectory(TreeError):
    """A file stands where a directory is needed."""


class IsADirectory(TreeError):
    """A directory stands where a file is needed."""


class NotEmpty(TreeError):
    """The directory still has entries."""


class NameTaken(TreeError):
    """Something has this name already."""


class NameInvalid(TreeError):
    """No object can have this name."""


class NameTooLong(TreeError):
    """The name or the key that it gives is too long."""


class NameNotUtf8(TreeError):
    """Keys are UTF-8; this name is not."""


class NameReserved(TreeError):
    """Names that begin with `.storefs` belong to storefs."""


class EntryNotFound(TreeError):
    """Nothing has this name."""


class CrossesDevices(TreeError):
    """Cannot be renamed inside the store at this size; programs then copy."""


class Superseded(TreeError):
    """This inode is an old version; the kernel looks the name up again."""


class ReadOnly(TreeError):
    """The mount is read-only."""


class NotALink(TreeError):
    """Not a symbolic link."""


class HandleError(StorefsError):
    """An open file cannot do what is asked."""

    def __init__(self, path: str = "") -> None:
        super().__init__(path)
        self.path = path


class UploadFailed(HandleError):
    """Bytes could not be stored; the cause is the store's error."""


class BadHandle(HandleError):
    """No such open file, or not open for this."""


class StagingFull(HandleError):
    """The disk of the state directory is full."""


class CacheError(StorefsError):
    """The local cache."""


class ChunkCorrupt(CacheError):
    """A cached chunk fails its checksum; it is dropped and fetched again."""
