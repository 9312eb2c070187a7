"""A tree on the memory driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storefs.config import TreeConfig
from storefs.tree.tree import Tree
from tests.support.layers import NoFiles, inline_threads, memory_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import trio

    from storefs.store import Store

__all__ = ["inline_threads"]


@pytest.fixture
def store() -> Store:
    """An empty bucket."""
    return memory_store()


@pytest.fixture
def files() -> NoFiles:
    """No file is open."""
    return NoFiles()


@pytest.fixture
async def tree(store: Store, files: NoFiles, nursery: trio.Nursery) -> AsyncIterator[Tree]:
    """A tree whose invariants are checked when the test is over."""
    made = Tree(store, TreeConfig(), files, nursery, give_back=lambda parent, name: None)
    yield made
    made.table.check_invariants()
