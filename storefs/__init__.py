"""storefs: a bucket mounted as a directory, and the storage drivers underneath."""

__version__ = "0.1.0"
