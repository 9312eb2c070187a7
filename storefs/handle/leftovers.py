"""What a dead mount left in the store: uploads never completed, copies that served its handles.

Used by the handle table once, behind its start. A failure is logged: these cost money, not data.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from storefs.errors import StorefsError
from storefs.handle.unlinked import remove_scratch

if TYPE_CHECKING:
    from storefs.handle.commit import Committer
    from storefs.handle.instance import Instance

log = logging.getLogger(__name__)


async def sweep(instance: Instance, committer: Committer) -> None:
    """Abort and remove what the adopted directories name."""
    for upload_id, key in instance.uploads:
        try:
            await committer.store.abort_multipart(key, upload_id)
        except StorefsError as exc:
            log.warning("parts of an earlier upload of %s stay in the store: %s", key, exc)
    for key in instance.scratch:
        await remove_scratch(key, committer)
