"""The contract's own parameters come first in every driver, with its names, order and defaults.

The table is the contract as it was given; what we added is keyword-only with a default, so that
code written against the contract works with every driver.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from storefs.drivers.base import Connection, StorageDriver
from storefs.drivers.local import LocalDriver
from storefs.drivers.memory import MemoryDriver
from storefs.drivers.models import (
    AppendResult,
    Container,
    DownloadResult,
    Object,
    OperationResult,
    RestoreResult,
    StreamDownloadResult,
    UploadResult,
)
from storefs.drivers.s3 import S3Driver

# Parameters after `self`; a default stands behind the name, `**kwargs` is noted as "...".
METHODS: dict[str, list[Any]] = {
    "get_object_meta": ["connection", "object_name", ("container_name", None)],
    "upload_file": [
        "connection",
        "file_path",
        "container_name",
        "object_name",
        ("checksum_type", None),
        ("threads", None),
        ("progress_callback", None),
        ...,
    ],
    "upload_object_via_stream": [
        "connection",
        "iterator",
        "container_name",
        "object_name",
        ("checksum_type", None),
        ("progress_callback", None),
        ...,
    ],
    "append_object": [
        "connection",
        "iterator",
        "container_name",
        "object_name",
        ("position", 0),
        ("checksum_type", None),
        ("progress_callback", None),
        ...,
    ],
    "download_file": [
        "connection",
        "container_name",
        "object_name",
        "dst_path",
        ("progress_callback", None),
        ...,
    ],
    "download_object_as_stream": [
        "connection",
        "container_name",
        "object_name",
        ("chunk_size", None),
        ("progress_callback", None),
        ...,
    ],
    "copy_object": [
        "connection",
        "src_container_name",
        "src_obj_key",
        "dst_obj_key",
        ("dst_container_name", None),
        ...,
    ],
    "archive_object": [
        "connection",
        "src_container_name",
        "src_object_name",
        "archive_container_name",
        "dst_object_name",
        ...,
    ],
    "restore_object": ["connection", "src_container_name", "src_object_name", ...],
    "delete_object": ["connection", "object_name", ("container_name", None)],
    "batch_delete_objects": ["connection", "key_list", ("container_name", None)],
    "delete_objects_by_prefix": ["connection", "prefix", ("container_name", None), ...],
    "iterate_container_objects": ["connection", "container_name", ("prefix", None)],
    "list_container_objects": ["connection", "container_name", ("prefix", None), ...],
    "get_container": ["connection", "container_name", ...],
    "get_object_sign_url": ["connection", "object_name", ("container_name", None)],
    "enable_object_cdn": ["connection", "object_name", ("container_name", None), ...],
    "create_connection_manager": ["store_host", "store_port", "access_id", "access_key", ...],
    "accept_connect": ["store_host", "store_port", "access_id", "access_key", ...],
}

CONSTRUCTORS: list[tuple[type, list[Any]]] = [
    (Object, ["name", ("size", 0), ...]),
    (Container, ["name", ...]),
    (OperationResult, [...]),
    (
        DownloadResult,
        [("server_checksum", None), ("client_checksum", None), ("checksum_type", None), ...],
    ),
    (StreamDownloadResult, ["iterator", ...]),
    (UploadResult, ["checksum", "checksum_type", ...]),
    (AppendResult, ["next_position", ...]),
    (RestoreResult, ["state", ("expiry", None), ...]),
    (Connection, ["host", "port", "access_id", "access_key"]),
]

DRIVERS = [StorageDriver, MemoryDriver, LocalDriver, S3Driver]


def _check(function: Any, wanted: list[Any]) -> None:
    given = list(inspect.signature(function).parameters.values())
    takes_more = wanted[-1:] == [...]
    expected = [entry if isinstance(entry, tuple) else (entry,) for entry in wanted if entry != ...]
    positional = [each for each in given if each.kind is each.POSITIONAL_OR_KEYWORD]
    found = [
        (each.name,) if each.default is each.empty else (each.name, each.default)
        for each in positional
    ]
    assert found == expected
    added = [each for each in given if each.kind is each.KEYWORD_ONLY]
    assert all(each.default is not each.empty for each in added)
    assert any(each.kind is each.VAR_KEYWORD for each in given) == takes_more


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.__name__)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_the_parameters_of_the_contract(
    driver: type[StorageDriver], method: str
) -> None:
    _check(getattr(driver(), method), METHODS[method])


@pytest.mark.parametrize(
    ("kind", "wanted"), CONSTRUCTORS, ids=[kind.__name__ for kind, _ in CONSTRUCTORS]
)
def test_a_value_is_made_as_the_contract_says(kind: type, wanted: list[Any]) -> None:
    _check(kind, wanted)


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.__name__)
def test_a_connection_is_made_by_the_drivers_class(driver: type[StorageDriver]) -> None:
    connection = driver.accept_connect("localhost", 1, "id", "key")

    assert isinstance(connection, driver.connection_class)
    assert (connection.host, connection.port) == ("localhost", 1)
    assert (connection.access_id, connection.access_key) == ("id", "key")
    with pytest.raises(TypeError):
        driver.create_connection_manager("localhost", 1, "id", "key", no_such_option=1)
