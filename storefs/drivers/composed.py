"""The verbs that every store composes in the same way: the common base of our drivers.

The memory, local and s3 drivers bring `put_reader`, ranged download, listing, single delete and the
multipart group; uploads, appends and downloads to files come from the bases. Here are the deletes
of many, and the two checks that every verb begins with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storefs.drivers.appends import Appends
from storefs.drivers.downloads import Downloads
from storefs.drivers.models import Condition, OperationResult
from storefs.drivers.uploads import refuse_unknown
from storefs.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from storefs.drivers.base import Connection


class ComposedDriver(Appends, Downloads):
    """See the module."""

    def require_conditions(
        self,
        operation: str,
        offered: Condition,
        if_match: str | None,
        if_none_match: str | None,
    ) -> None:
        """Raises Unsupported for a condition that this store would ignore."""
        if if_none_match is not None:
            if if_none_match != "*":
                raise ConfigError('if_none_match takes "*" alone: nothing may be there')
            if if_match is not None:
                raise ConfigError("if_match and if_none_match contradict each other")
            if offered is Condition.NONE:
                raise self.unsupported(operation, "has no conditional requests here")
        if if_match is not None and offered is not Condition.ETAG:
            raise self.unsupported(operation, "cannot compare versions in this request")

    def batch_delete_objects(
        self,
        connection: Connection,
        key_list: list[str],
        container_name: str | None = None,
        *,
        if_match: dict[str, str] | None = None,
    ) -> OperationResult:
        """Remove many, one after the other; `extra` has `deleted` and `errors` by key."""
        deleted = 0
        errors: dict[str, StoreError] = {}
        for key in key_list:
            try:
                self.delete_object(
                    connection, key, container_name, if_match=(if_match or {}).get(key)
                )
                deleted += 1
            except StoreError as exc:
                errors[key] = exc
        return OperationResult(deleted=deleted, errors=errors)

    def delete_objects_by_prefix(
        self,
        connection: Connection,
        prefix: str,
        container_name: str | None = None,
        **kwargs: Any,
    ) -> OperationResult:
        """Remove all objects under a prefix, a page at a time: any number, little memory."""
        refuse_unknown("delete_objects_by_prefix", kwargs)
        if not prefix:
            raise self.unsupported(
                "delete_objects_by_prefix", "an empty prefix is the whole bucket"
            )
        deleted = 0
        errors: dict[str, StoreError] = {}
        marker: str | None = None
        while True:
            page, marker = self.list_container_objects(
                connection, container_name or "", prefix, marker=marker
            )
            result = self.batch_delete_objects(
                connection, [found.name for found in page], container_name
            )
            deleted += result.extra["deleted"]
            errors.update(result.extra["errors"])
            if marker is None:
                return OperationResult(deleted=deleted, errors=errors)
