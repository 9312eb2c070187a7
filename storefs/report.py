"""What a running mount says of itself, for `storefs status`.

Used by `mount`; reads the layers and changes nothing. Plain numbers and words alone: the answer is
sent as JSON.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from storefs.fuse.operations import REQUESTS
from storefs.store.probe import describe

if TYPE_CHECKING:
    from storefs.handle.state import PendingFile
    from storefs.mount import Mount


def status(mount: Mount) -> dict[str, Any]:
    """The whole answer."""
    files = [_file(each) for each in mount.left or mount.files.pending()]
    return {
        "url": mount.record.url,
        "mountpoint": mount.record.mountpoint,
        "pid": mount.record.pid,
        "since": mount.record.since,
        "read_only": mount.config.read_only,
        "write_mode": "through",
        "conditions": describe(mount.store.capabilities),
        "requests": dict(mount.store.requests),
        "fuse": dict(REQUESTS),
        "pending": [each for each in files if each["state"] != "failed"],
        "failed": [each for each in files if each["state"] == "failed"],
        "lost_found": [
            {"path": lost.data, "key": lost.key, "bytes": lost.size, "reason": lost.reason}
            for lost in mount.files.lost_and_found()
        ],
        "hidden_keys": mount.tree.hidden_keys,
        "cache": {
            **asdict(mount.cache.stats),
            "bytes": mount.cache.stats.disk_bytes,
            "limit_bytes": mount.config.cache.size_bytes,
        },
        "inodes": len(mount.tree.table),
        "draining": mount.draining,
    }


def _file(pending: PendingFile) -> dict[str, Any]:
    return {
        "path": "/" + pending.key,
        "key": pending.key,
        "bytes_total": pending.bytes_total,
        "bytes_sent": pending.bytes_sent,
        "state": pending.state,
        "error": pending.error,
        "since": pending.since,
    }
