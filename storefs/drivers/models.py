"""The contract's values: objects, containers, results, capabilities.

Used by drivers, the store and library users; knows no SDK. `Object` keeps the contract's shape
(name, size, `extra`); the properties read `extra` so that nobody spells its keys.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ProgressCallback = Callable[[int, int | None], None]
"""Called as `(transferred_bytes, total_bytes_or_None)`, from the thread that moves the bytes."""


@dataclass(frozen=True, slots=True)
class ObjectAttributes:
    """What an object has beside its bytes; None and empty mean "the store's default".

    A write through the mount changes the bytes and nothing of this. `tag_count` tells that there
    are tags; `tags` are sent where given (a driver reads them only when asked to).
    """

    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    expires: str | None = None
    website_redirect: str | None = None
    storage_class: str | None = None
    acl: str | None = None
    encryption: str | None = None
    encryption_key_id: str | None = None
    tag_count: int = 0
    tags: Mapping[str, str] | None = None


class Object:
    """What the store says of one object.

    `extra` may hold: `etag` (without quotes), `mtime_ns` (LastModified), `content_type`,
    `metadata` (user metadata, lower-case names), `storage_class`, `restore`, `checksum`,
    `checksum_type`, `version_id`, `is_prefix` (a common prefix of a delimited listing),
    `attributes` (an `ObjectAttributes`, from a HEAD or GET: what a rewrite must carry over).
    """

    def __init__(self, name: str, size: int = 0, **kwargs: Any) -> None:
        self.name = name
        self.extra: dict[str, Any] = dict(kwargs)
        self.size = size

    def __str__(self) -> str:
        return f"name: {self.name}, size: {self.size}, extra: {self.extra}"

    __repr__ = __str__

    @property
    def etag(self) -> str:
        """The version's ETag without quotes; empty for a common prefix."""
        return str(self.extra.get("etag", ""))

    @property
    def mtime_ns(self) -> int:
        """LastModified in nanoseconds since the epoch."""
        return int(self.extra.get("mtime_ns", 0))

    @property
    def metadata(self) -> dict[str, str]:
        """User metadata, if the answer carried any (a HEAD or GET does, a LIST does not)."""
        found: dict[str, str] = self.extra.get("metadata") or {}
        return found

    @property
    def attributes(self) -> ObjectAttributes | None:
        """All that belongs to the object beside its bytes, or None where a LIST did not say."""
        found: ObjectAttributes | None = self.extra.get("attributes")
        return found

    @property
    def is_prefix(self) -> bool:
        """True for a common prefix of a delimited listing; its name ends with the delimiter."""
        return bool(self.extra.get("is_prefix", False))


class Container:
    """A bucket."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        self.name = name
        self.extra: dict[str, Any] = dict(kwargs)

    def __str__(self) -> str:
        return f"name: {self.name}, extra: {self.extra}"


class OperationResult:
    """What an operation leaves to say, in `extra`."""

    def __init__(self, **kwargs: Any) -> None:
        self.extra: dict[str, Any] = dict(kwargs)

    def __str__(self) -> str:
        return "extra: " + str(self.extra)


class DownloadResult(OperationResult):
    """Checksums of a download: the store's and the one computed here."""

    def __init__(
        self,
        server_checksum: str | None = None,
        client_checksum: str | None = None,
        checksum_type: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.__server_checksum = server_checksum
        self.__client_checksum = client_checksum
        self.__checksum_type = checksum_type

    @property
    def server_checksum(self) -> str | None:
        """What the store says, or None where it says nothing comparable."""
        return self.__server_checksum

    @property
    def client_checksum(self) -> str | None:
        """What was computed from the bytes that arrived."""
        return self.__client_checksum

    @property
    def checksum_type(self) -> str | None:
        """Name of the algorithm, such as `md5` or `crc64nvme`."""
        return self.__checksum_type

    def __str__(self) -> str:
        return (
            f"server checksum: {self.server_checksum}, client checksum: {self.client_checksum}, "
            f"checksum type: {self.checksum_type}."
        )


class StreamDownloadResult(DownloadResult):
    """An iterable of `bytes`. `extra["object"]` is the `Object` whose bytes these are."""

    def __init__(self, iterator: Iterator[bytes], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.iterator = iterator

    def __iter__(self) -> StreamDownloadResult:
        return self

    def __next__(self) -> bytes:
        return self.next()

    def next(self) -> bytes:
        """The next piece; StopIteration at the end."""
        return next(self.iterator)

    def close(self) -> None:
        """Give the connection back; harmless when repeated."""
        close = getattr(self.iterator, "close", None)
        if close is not None:
            close()


class UploadResult(OperationResult):
    """`extra` holds `etag` and `size`, and `version_id` where the store has versions."""

    def __init__(self, checksum: str | None, checksum_type: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__checksum = checksum
        self.__checksum_type = checksum_type

    def __str__(self) -> str:
        return f"checksum: {self.checksum}  type: {self.checksum_type}  {super().__str__()}"

    @property
    def checksum(self) -> str | None:
        """Checksum of the bytes sent, compared with the store's answer where it gives one."""
        return self.__checksum

    @property
    def checksum_type(self) -> str | None:
        """Name of the algorithm."""
        return self.__checksum_type


class AppendResult(UploadResult):
    """`next_position` is the object's length after the append, in bytes."""

    def __init__(self, next_position: int, **kwargs: Any) -> None:
        super().__init__(kwargs.pop("checksum", None), kwargs.pop("checksum_type", None), **kwargs)
        self.next_position = next_position

    def __str__(self) -> str:
        return f"next_position: {self.next_position}  {super().__str__()}"


class RestoreResult(OperationResult):
    """`state` is `archived`, `restoring`, `restored` or `available`; `expiry` when a copy goes."""

    def __init__(self, state: str, expiry: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state = state
        self.expiry = expiry


class Append(enum.Enum):
    """How an object grows."""

    NONE = "none"
    NATIVE = "native"
    EMULATED = "emulated"


class Condition(enum.Enum):
    """What a conditional request of one verb can say."""

    NONE = "none"
    CREATE_ONLY = "create-only"
    ETAG = "etag"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do; the layers above read this and never a provider's name.

    `conditions_known` is False while a foreign endpoint was not probed yet: the conditions are then
    what is hoped for, and nothing may rely on them.
    """

    append: Append = Append.EMULATED
    conditional_put: Condition = Condition.NONE
    conditional_complete: Condition = Condition.NONE
    conditional_copy: Condition = Condition.NONE
    conditional_delete: Condition = Condition.NONE
    conditional_batch: Condition = Condition.NONE  # ETags in a batch delete
    conditions_known: bool = True
    atomic_rename: bool = False
    ordered_listing: bool = True
    marker_metadata: bool = True
    whole_checksum: str | None = None
    max_put_bytes: int = 5 * 1024**3
    max_copy_bytes: int = 5 * 1024**3
    min_part_bytes: int = 5 * 1024**2
    max_part_bytes: int = 5 * 1024**3
    max_parts: int = 10_000
    max_object_bytes: int = 5 * 1024**4
    max_key_bytes: int = 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart upload, as the store knows it."""

    number: int
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """An upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    initiated_ns: int
