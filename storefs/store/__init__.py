"""The async object store over a driver: bounded, retried, with deadlines."""

from storefs.store.store import Store
from storefs.store.version import Version

__all__ = ["Store", "Version"]
