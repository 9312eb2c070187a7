"""What the write path needs from the layers below, as narrow as its use.

`storefs.store.Store` and `storefs.cache.Cache` fit these; tests put smaller things in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from storefs.cache.chunks import ObjectVersion
    from storefs.drivers.models import Capabilities, Object, ObjectAttributes, Part
    from storefs.store.outcomes import Outcomes
    from storefs.store.version import Version
    from storefs.units import ByteRange


class ObjectStore(Protocol):
    """The verbs of the store that write; keys are relative to the mounted prefix."""

    capabilities: Capabilities
    outcomes: Outcomes

    async def head(self, key: str, *, if_match: str | None = None) -> Object: ...

    async def tags(self, key: str) -> dict[str, str]: ...

    async def put(
        self,
        key: str,
        body: bytes,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        attributes: ObjectAttributes | None = None,
    ) -> Version: ...

    async def copy(
        self,
        src: str,
        dst: str,
        *,
        src_if_match: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        attributes: ObjectAttributes | None = None,
    ) -> Version: ...

    async def delete(self, key: str, *, if_match: str | None = None) -> None: ...

    async def create_multipart(
        self, key: str, *, attributes: ObjectAttributes | None = None
    ) -> str: ...

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: bytes | bytearray | memoryview
    ) -> Part: ...

    async def copy_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        src: str,
        *,
        offset: int,
        length: int,
        src_if_match: str | None,
    ) -> Part: ...

    async def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: list[Part],
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Version: ...

    async def abort_multipart(self, key: str, upload_id: str) -> None: ...


class ChunkCache(Protocol):
    """Bytes of stored versions, in chunks."""

    @property
    def chunk_bytes(self) -> int: ...

    async def read(self, version: ObjectVersion, span: ByteRange) -> bytes: ...

    async def admit(self, version: ObjectVersion, offset: int, data: bytes) -> None: ...

    def rename(self, old: ObjectVersion, new: ObjectVersion) -> None: ...

    def drop(self, version: ObjectVersion) -> None: ...


class VersionReader(Protocol):
    """Reads one version with read-ahead; the version moves along with our own commits."""

    version: ObjectVersion

    async def read(self, offset: int, size: int) -> bytes: ...

    def close(self) -> None: ...
