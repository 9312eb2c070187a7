"""Drivers: one kind of store each, behind one contract (`base`), with its values (`models`).

`open_driver` makes the driver and the connection that a mount needs, importing only the module of
the scheme in use: boto3 alone costs 50 MiB. Library users take a driver class from its module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from storefs.errors import ConfigError

if TYPE_CHECKING:
    from storefs.config import StoreConfig
    from storefs.drivers.base import Connection, StorageDriver

__all__ = ["open_driver"]


def open_driver(config: StoreConfig) -> tuple[StorageDriver, Connection, str]:
    """The driver, a connection and the name of the bucket that a URL stands for; asks nothing yet.

    Raises ConfigError for what cannot be right without asking: a directory that does not exist, a
    profile that nobody wrote.
    """
    scheme = config.url.scheme
    if scheme == "s3":
        from storefs.drivers.s3 import S3Driver
        from storefs.drivers.s3_connection import connection_for as connect_s3

        return S3Driver(), connect_s3(config), config.url.bucket
    if scheme == "file":
        from storefs.drivers.local import LocalDriver
        from storefs.drivers.local_connection import connection_for as connect_local

        return LocalDriver(), connect_local(config), config.url.bucket
    if scheme == "memory":
        from storefs.drivers.memory import MemoryConnection, MemoryDriver

        connection = MemoryConnection("memory", buckets=(config.url.bucket,))
        return MemoryDriver(), connection, config.url.bucket
    raise ConfigError(f"{config.url}: storefs has no driver for {scheme}://")
