"""Find out whether a foreign store honours conditional writes, and remember the answer.

Some servers take If-None-Match or If-Match and write all the same, so nothing may rely on them
before this was seen: verb by verb, by a scratch key under the mounted prefix, removed again. The
answer is kept for 30 days in the state directory. Until it is known, writes carry the conditions
and are compared just before as well (see `Capabilities.conditions_known`); so nobody waits for the
probe, and it runs when the mount has been idle for a moment after its first write, or 30 s after.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from storefs.drivers.models import Capabilities, Condition, Part
from storefs.errors import (
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StoreError,
    Unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from storefs.store.store import Store

log = logging.getLogger(__name__)

KEPT_SECONDS = 30 * 24 * 3600
BOGUS_ETAG = "00000000000000000000000000000000"
VERBS = (
    "conditional_put",
    "conditional_complete",
    "conditional_copy",
    "conditional_delete",
    "conditional_batch",
)


async def _refused(attempt: Callable[[], Awaitable[object]]) -> bool:
    """True if a request whose condition cannot hold was refused for it."""
    try:
        await attempt()
    except (ObjectChanged, ObjectExists):
        return True
    except Unsupported:
        return False
    return False


def _condition(create_only: bool, etag: bool) -> Condition:
    if create_only and etag:
        return Condition.ETAG
    return Condition.CREATE_ONLY if create_only else Condition.NONE


async def probe(store: Store) -> Capabilities:
    """Ask the store, verb by verb. Raises the store's error if it cannot be asked at all."""
    key = f".storefs/probe-{uuid.uuid4().hex}"
    copy = key + "-copy"
    first = await store.put(key, b"storefs: may be deleted\n")
    try:
        put = _condition(
            await _refused(lambda: store.put(key, b"x", if_none_match="*")),
            await _refused(lambda: store.put(key, b"x", if_match=BOGUS_ETAG)),
        )
        complete = await _probe_complete(store, key)
        await store.copy(key, copy)
        copied = _condition(
            await _refused(lambda: store.copy(key, copy, if_none_match="*")),
            await _refused(lambda: store.copy(key, copy, if_match=BOGUS_ETAG)),
        )
        batch = await _batch_refused(store, key)
        delete = await _refused(lambda: _delete(store, key, BOGUS_ETAG))
    finally:
        for left in (key, copy):
            await _delete(store, left, None)
    log.debug("probed with %s (version %s)", key, first.etag)
    return replace(
        store.capabilities,
        conditions_known=True,
        conditional_put=put,
        conditional_complete=complete,
        conditional_copy=copied,
        conditional_delete=Condition.ETAG if delete else Condition.NONE,
        conditional_batch=Condition.ETAG if batch else Condition.NONE,
    )


async def _delete(store: Store, key: str, etag: str | None) -> None:
    """The bare request: `Store.delete` would compare first."""
    await store.call(
        "delete",
        key,
        lambda: store.driver.delete_object(
            store.connection, store.prefix + key, store.container, if_match=etag
        ),
    )


async def _batch_refused(store: Store, key: str) -> bool:
    """True if a batch delete leaves an object of another version alone. It may be gone after."""
    name = store.prefix + key
    try:
        await store.call(
            "delete_many",
            key,
            lambda: store.driver.batch_delete_objects(
                store.connection, [name], store.container, if_match={name: BOGUS_ETAG}
            ),
        )
    except Unsupported:
        return False
    try:
        await store.head(key)
    except ObjectNotFound:
        await store.put(key, b"storefs: may be deleted\n")
        return False
    return True


async def _probe_complete(store: Store, key: str) -> Condition:
    async def attempt(if_match: str | None, if_none_match: str | None) -> bool:
        upload = await store.create_multipart(key)
        try:
            part: Part = await store.upload_part(key, upload, 1, b"x")
            return await _refused(
                lambda: store.complete_multipart(
                    key, upload, [part], if_match=if_match, if_none_match=if_none_match
                )
            )
        finally:
            try:
                await store.abort_multipart(key, upload)
            except StoreError as exc:
                log.debug("abort of the probe's upload: %s", exc)

    return _condition(await attempt(None, "*"), await attempt(BOGUS_ETAG, None))


class Memory:
    """Answers by store, in one small file; anything unreadable counts as not known."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def recall(self, identity: str, hoped: Capabilities) -> Capabilities | None:
        """What was seen of this store in the last 30 days."""
        seen = self._load().get(identity)
        try:
            if seen is None or time.time() - float(seen["at"]) > KEPT_SECONDS:
                return None
            found = {verb: Condition(seen[verb]) for verb in VERBS}
        except (KeyError, TypeError, ValueError):
            return None
        return replace(hoped, conditions_known=True, **found)  # type: ignore[arg-type]

    def note(self, identity: str, found: Capabilities) -> None:
        """Keep an answer; written aside and renamed."""
        answers = self._load()
        answers[identity] = {
            "at": time.time(),
            **{verb: getattr(found, verb).value for verb in VERBS},
        }
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        aside.write_text(json.dumps(answers, indent=1))
        aside.chmod(0o600)
        aside.replace(self.path)

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            loaded = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return loaded if isinstance(loaded, dict) else {}


def describe(found: Capabilities) -> str:
    """For people: what protects a file from being overwritten unseen."""
    if not found.conditions_known:
        return "not known yet: versions are compared just before each write"
    if found.conditional_put is Condition.ETAG and found.conditional_complete is Condition.ETAG:
        return "conditional writes: nobody's change is overwritten unseen"
    if found.conditional_put is Condition.NONE:
        return "no conditional writes: versions are compared just before each write"
    return "conditional creation alone: an overwrite is compared just before it is written"
