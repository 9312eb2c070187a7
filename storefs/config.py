"""What a mount is told: frozen dataclasses, one per layer, units in their names.

Built by `cli` from flags, environment and file, in that order of precedence; read by the layers.
Each default is explained where it stands. Holds no credentials: those come from each cloud's own
chain, so nothing here needs hiding in a log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import platformdirs

from storefs.errors import ConfigError
from storefs.units import GIB, MIB

SCHEMES = ("s3", "file", "memory")


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """`s3://bucket/prefix/`, `file:///directory` or `memory://bucket`, taken apart.

    `prefix` is empty or ends with `/`. For `file`, `bucket` is the absolute directory.
    """

    scheme: str
    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        if self.scheme == "file":
            return f"file://{self.bucket}"
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Raises ConfigError with one line that says what a URL looks like."""
        try:
            parts = urlsplit(text)
            user = parts.username
        except ValueError as exc:
            raise ConfigError(f"{text!r} is not a URL: {exc}") from exc
        if parts.scheme not in SCHEMES:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES if scheme != "memory")
            raise ConfigError(f"{text!r}: unknown scheme; storefs mounts {known}")
        if user is not None:
            raise ConfigError(
                "a URL holds no credentials: put them in the environment or the credentials file"
            )
        if parts.query or parts.fragment:
            raise ConfigError(f"{text!r}: '?' and '#' are not part of a bucket URL; write %3F, %23")
        if parts.scheme == "file":
            path = unquote(parts.path)
            if parts.netloc or not path.startswith("/"):
                raise ConfigError(f"{text!r}: write file:///absolute/directory, with three slashes")
            return cls("file", os.path.normpath(path))
        if not parts.netloc:
            raise ConfigError(f"{text!r} names no bucket: write {parts.scheme}://bucket/prefix")
        prefix = unquote(parts.path).lstrip("/")
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        return cls(parts.scheme, parts.netloc, prefix)


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """How to reach the store.

    `timeout_seconds` bounds a call without a body as a whole, and the time without progress of a
    transfer. `calls` is how many requests are in flight at most, and the size of the SDK's pool.
    """

    url: StoreUrl
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    anonymous: bool = False
    requester_pays: bool = False
    storage_class: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    acl: str | None = None
    ca_bundle: str | None = None
    verify_tls: bool = True
    timeout_seconds: float = 60.0
    calls: int = 48
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Clean chunks on disk and in memory. `directory` None: memory alone.

    `memory_bytes` is the share of the mount's memory limit for hot chunks and read-ahead.
    """

    directory: Path | None
    size_bytes: int = 10 * GIB
    min_free_bytes: int = 1 * GIB
    memory_bytes: int = 128 * MIB
    chunk_bytes: int = 1 * MIB


@dataclass(frozen=True, slots=True)
class TreeConfig:
    """Names and attributes. Times to live in seconds: what exists, what does not.

    `max_inodes` bounds the table; above it the oldest without handles are asked back.
    """

    metadata_ttl_seconds: float = 5.0
    negative_ttl_seconds: float = 1.0
    max_inodes: int = 500_000
    read_only: bool = False
    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    file_mode: int = 0o644
    dir_mode: int = 0o755


@dataclass(frozen=True, slots=True)
class WriteConfig:
    """Staging and upload. `state_dir` holds the only copy of what is not stored yet.

    `backlog_bytes`: a writer waits while so much of its file is written and not yet sent.
    `memory_bytes` is the share of the mount's memory limit for bodies that are being sent, of all
    files together.
    """

    state_dir: Path
    memory_bytes: int = 96 * MIB
    backlog_bytes: int = 64 * MIB
    part_bytes: int = 8 * MIB
    timeout_seconds: float = 60.0
    stop_timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Where log lines go: a file, else journal or syslog (daemon), else stderr.

    `fallback_dir` takes `storefs.log` for a daemon on a machine with neither journal nor syslog.
    """

    level: str = "info"
    file: Path | None = None
    foreground: bool = True
    fallback_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class MountConfig:
    """One mount, whole."""

    mountpoint: Path
    store: StoreConfig
    cache: CacheConfig
    tree: TreeConfig
    write: WriteConfig
    log: LogConfig
    memory_limit_bytes: int = 512 * MIB
    allow_other: bool = False
    read_only: bool = False
    options: tuple[str, ...] = ()
    """Further mount options for the kernel, such as `nosuid`, `nodev`, `noexec`, `noatime`."""


def default_cache_dir() -> Path:
    """Root: /var/cache/storefs; a user: $XDG_CACHE_HOME/storefs."""
    if os.getuid() == 0:
        return Path("/var/cache/storefs")
    return platformdirs.user_cache_path("storefs", appauthor=False)


def default_state_dir() -> Path:
    """Root: /var/lib/storefs; a user: $XDG_STATE_HOME/storefs."""
    if os.getuid() == 0:
        return Path("/var/lib/storefs")
    return platformdirs.user_state_path("storefs", appauthor=False)


def runtime_dir() -> Path:
    """Where running mounts register: /run/storefs, or a user's $XDG_RUNTIME_DIR/storefs."""
    if os.getuid() == 0:
        return Path("/run/storefs")
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "storefs" if base else Path(f"/tmp/storefs-{os.getuid()}")
