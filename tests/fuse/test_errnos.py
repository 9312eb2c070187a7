"""Every error has an errno, and the guard swallows nothing silently."""

from __future__ import annotations

import errno
import logging
from collections import Counter

import pyfuse3
import pytest
import trio

from storefs import errors
from storefs.fuse.errnos import ERRNOS, errno_of, guarded


def subclasses(cls: type[BaseException]) -> set[type[BaseException]]:
    found = {cls}
    for child in cls.__subclasses__():
        found |= subclasses(child)
    return found


def test_every_class_of_ours_has_its_errno() -> None:
    ours = {cls for cls in subclasses(errors.StorefsError) if cls.__module__.startswith("storefs")}
    assert ours == set(ERRNOS)


def test_an_upload_that_failed_says_what_the_store_said() -> None:
    failed = errors.UploadFailed("f")
    failed.__cause__ = errors.StoreFull("quota")
    assert errno_of(failed) == errno.ENOSPC


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (errors.ObjectNotFound(), errno.ENOENT),
        (ExceptionGroup("", [errors.AccessDenied()]), errno.EACCES),
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (ValueError("a bug"), errno.EIO),
        (pyfuse3.FUSEError(errno.EPERM), errno.EPERM),
    ],
)
async def test_only_fuse_errors_leave_a_handler(
    raised: Exception, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    counts: Counter[str] = Counter()

    @guarded(counts)
    async def handler() -> None:
        raise raised

    with caplog.at_level(logging.WARNING), pytest.raises(pyfuse3.FUSEError) as caught:
        await handler()
    assert caught.value.errno == expected
    assert counts == {"handler": 1}
    if isinstance(raised, ValueError):
        assert "a bug" in caplog.text, "the traceback of a bug is logged"


async def test_a_cancelled_handler_is_left_alone() -> None:
    @guarded(Counter())
    async def handler() -> None:
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        scope.cancel()
        await handler()
    assert scope.cancelled_caught
