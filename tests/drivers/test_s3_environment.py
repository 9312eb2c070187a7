"""The S3 driver in the environment that a user's machine may have."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from storefs.config import StoreConfig, StoreUrl
from storefs.drivers import open_driver
from storefs.drivers.s3 import S3Driver
from storefs.drivers.s3_connection import S3Connection, endpoint_url, is_foreign
from storefs.errors import AccessDenied, ConfigError, StoreUnavailable
from tests.drivers.conftest import Place, s3_connection
from tests.support.relay import Relay

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.servers import S3Server


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine that the tests run on."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def _works(connection: S3Connection, bucket: str) -> bool:
    place = Place("moto", S3Driver(), connection, bucket)
    place.put("key", b"bytes")
    body = place.get("key")
    connection.close()
    return body == b"bytes"


def test_a_ca_bundle_in_the_environment_does_not_break_plain_http(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = moto.make_bucket("environment")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")

    assert _works(s3_connection(moto), bucket)


def test_a_ca_bundle_that_does_not_exist_is_a_mistake_of_the_user() -> None:
    with pytest.raises(ConfigError, match=r"/nowhere/ca\.pem"):
        S3Connection("https://127.0.0.1:1", ca_bundle="/nowhere/ca.pem")


def test_a_proxy_in_the_environment_is_used(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = moto.make_bucket("environment")
    with Relay(moto.endpoint_url) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.endpoint_url)
        connection = S3Connection(
            "http://storefs.invalid",  # only the proxy would know where that is
            None,
            moto.access_key,
            moto.secret_key,
            addressing="virtual",
            sdk_retries=False,
        )

        assert _works(connection, bucket)
        assert proxy.counts() == {"PUT": 1, "GET": 1}


def test_a_proxy_that_is_not_there_makes_the_store_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    connection = S3Connection("http://s3.invalid", None, "id", "key", sdk_retries=False)

    with pytest.raises(StoreUnavailable):
        S3Driver().get_object_meta(connection, "key", "bucket")


def test_an_endpoint_may_be_an_ipv6_address() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="::1", port=0, verbose=False)
    server.start()
    try:
        port = server._server.server_port  # type: ignore[union-attr]  # the host has colons too
        connection = S3Connection(f"http://[::1]:{port}", None, "id", "key", sdk_retries=False)
        connection.get_client().create_bucket(Bucket="six")

        assert _works(connection, "six")
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("host", "port", "wanted"),
    [
        (None, None, None),
        ("", None, None),
        ("http://127.0.0.1:8333", None, "http://127.0.0.1:8333"),
        ("https://s3.example.com", 8443, "https://s3.example.com:8443"),
        ("http://[::1]:8333", None, "http://[::1]:8333"),
        ("::1", 8333, "https://[::1]:8333"),
        ("s3.example.com", None, "https://s3.example.com"),
        ("s3.example.com", 80, "http://s3.example.com:80"),
        ("https://example.com/base", 1, "https://example.com:1/base"),
    ],
)
def test_an_endpoint_is_a_url_a_name_or_an_address(
    host: str | None, port: int | None, wanted: str | None
) -> None:
    assert endpoint_url(host, port) == wanted


@pytest.mark.parametrize("host", ["ftp://host", "http://", "http://host:port", "http://[::1"])
def test_an_endpoint_that_is_none_is_a_mistake_of_the_user(host: str) -> None:
    with pytest.raises(ConfigError, match="endpoint"):
        endpoint_url(host, None)


def test_aws_is_told_from_everybody_else() -> None:
    for url in (
        "https://s3.amazonaws.com",
        "https://s3.eu-west-1.amazonaws.com",
        "https://s3.dualstack.eu-west-1.amazonaws.com",
        "https://s3.cn-north-1.amazonaws.com.cn",
    ):
        assert not is_foreign(url)
    for url in (
        "http://127.0.0.1:9000",
        "https://amazonaws.com.evil.example",
        "https://oss-x.aliyuncs.com",
    ):
        assert is_foreign(url)


def test_capabilities_of_aws_are_known_and_of_others_hoped_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    driver = S3Driver()
    aws = S3Connection(None, None, "id", "key")
    other = S3Connection("http://127.0.0.1:1", None, "id", "key")

    assert driver.capabilities(aws, "bucket").conditions_known
    assert not driver.capabilities(aws, "bucket--euw1-az1--x-s3").ordered_listing
    assert not driver.capabilities(other, "bucket").conditions_known


def test_an_endpoint_from_the_environment_is_as_foreign(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = moto.make_bucket("environment")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint_url)
    connection = S3Connection(None, None, "id", "key", sdk_retries=False)

    config = connection.get_client().meta.config
    assert connection.is_foreign
    assert config.request_checksum_calculation == "when_required"
    assert _works(connection, bucket)


def test_credentials_come_from_a_profile(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = moto.make_bucket("environment")
    (tmp_path / "credentials").write_text(
        "[team]\naws_access_key_id = id\naws_secret_access_key = key\n"
    )

    connection = S3Connection(moto.endpoint_url, profile="team", sdk_retries=False)

    assert _works(connection, bucket)


def test_without_credentials_it_is_said_where_they_were_looked_for(moto: S3Server) -> None:
    connection = S3Connection(moto.endpoint_url, sdk_retries=False)

    with pytest.raises(AccessDenied, match="AWS_ACCESS_KEY_ID"):
        S3Driver().get_object_meta(connection, "key", "bucket")


def test_a_profile_that_nobody_wrote_is_a_mistake_of_the_user() -> None:
    connection = S3Connection("http://127.0.0.1:1", profile="absent")

    with pytest.raises(ConfigError, match="absent"):
        connection.get_client()


@pytest.mark.parametrize("bucket", ["two words", "umlaut-\u00e9"])
def test_a_name_that_no_bucket_has_is_a_mistake_of_the_user(bucket: str) -> None:
    with pytest.raises(ConfigError, match="bucket"):
        open_driver(StoreConfig(StoreUrl("s3", bucket)))


@pytest.mark.parametrize(
    ("url", "wanted"),
    [("file:///tmp", set()), ("memory://bucket", set()), ("s3://bucket", {"boto3", "botocore"})],
)
def test_only_the_driver_in_use_is_imported(url: str, wanted: set[str]) -> None:
    script = (
        "import sys\n"
        "from storefs.config import StoreConfig, StoreUrl\n"
        "from storefs.drivers import open_driver\n"
        f"open_driver(StoreConfig(StoreUrl.parse({url!r})))\n"
        "print(*({'boto3', 'botocore'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )

    assert set(found.stdout.split()) == wanted
