"""One suite for every driver: checksums."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from storefs.errors import ConfigError, Unsupported

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drivers.conftest import Place

BODY = b"0123456789"
BODY_MD5 = hashlib.md5(BODY).hexdigest()


@pytest.mark.parametrize("kind", ["md5", "crc32", "sha1", "sha256"])
def test_a_checksum_is_computed_going_up_and_coming_down(
    place: Place, kind: str, tmp_path: Path
) -> None:
    wanted = {
        "md5": BODY_MD5,
        "crc32": "a684c7c6",
        "sha1": hashlib.sha1(BODY).hexdigest(),
        "sha256": hashlib.sha256(BODY).hexdigest(),
    }[kind]

    sent = place.put("key", BODY, checksum_type=kind)
    got = place.driver.download_file(
        place.connection, place.bucket, "key", str(tmp_path / "file"), checksum_type=kind
    )

    assert (sent.checksum, sent.checksum_type) == (wanted, kind)
    assert (got.client_checksum, got.checksum_type) == (wanted, kind)
    assert got.server_checksum in (wanted, None)
    if kind == "md5":
        assert got.server_checksum == wanted
    assert place.get("key", checksum_type=kind) == BODY


def test_a_checksum_that_cannot_be_computed_is_refused_by_name(place: Place) -> None:
    with pytest.raises(Unsupported, match="crc32c"):
        place.put("key", BODY, checksum_type="crc32c")
    with pytest.raises(ConfigError, match="crc33"):
        place.put("key", BODY, checksum_type="crc33")
