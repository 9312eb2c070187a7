"""Bytes of open files: read ahead, written to a staging file, committed to the store."""

from storefs.handle.lost import LostFile
from storefs.handle.state import LocalState, PendingFile
from storefs.handle.table import OpenFiles

__all__ = ["LocalState", "LostFile", "OpenFiles", "PendingFile"]
