"""S3 over TLS: certificates, and the same patience as without."""

from __future__ import annotations

import datetime
import hashlib
import http.server
import ipaddress
import os
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from storefs.drivers import streams
from storefs.drivers.s3 import S3Driver
from storefs.drivers.s3_connection import S3Connection
from storefs.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANSWER_SECONDS = 0.8


class _Store(http.server.BaseHTTPRequestHandler):
    """Answers every HEAD with an object, and every PUT with its ETag after a while."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.send_header("ETag", '"etag"')
        self.end_headers()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(ANSWER_SECONDS)  # a relay that passes on what it has swallowed
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Not on the terminal of a test run."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "storefs test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def url(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Store)
    server.daemon_threads = True
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # clients that refuse
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def _size(connection: S3Connection) -> int:
    try:
        return S3Driver().get_object_meta(connection, "key", "bucket").size
    finally:
        connection.close()


def test_a_certificate_is_trusted_by_the_bundle_given(url: str, certificate: Path) -> None:
    connection = S3Connection(url, None, "id", "key", ca_bundle=str(certificate), sdk_retries=False)

    assert _size(connection) == 5


def test_a_bundle_from_the_environment_works_alike(
    url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))

    assert _size(S3Connection(url, None, "id", "key", sdk_retries=False)) == 5


def test_a_certificate_that_nobody_trusts_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="--ca-bundle"):
        _size(S3Connection(url, None, "id", "key", sdk_retries=False))


def test_verification_can_be_switched_off_without_a_warning_for_each_request(url: str) -> None:
    connection = S3Connection(url, None, "id", "key", verify_tls=False, sdk_retries=False)

    assert _size(connection) == 5


@pytest.mark.parametrize("is_new", [True, False], ids=["new connection", "used connection"])
def test_a_body_over_tls_is_given_the_same_time(url: str, certificate: Path, is_new: bool) -> None:
    connection = S3Connection(
        url,
        None,
        "id",
        "key",
        ca_bundle=str(certificate),
        connect_seconds=0.4,
        call_seconds=0.4,
        sdk_retries=False,
    )
    driver = S3Driver()
    if not is_new:
        driver.get_object_meta(connection, "key", "bucket")

    driver.upload_object_via_stream(connection, os.urandom(256 * 1024), "bucket", "key")

    connection.close()


def test_a_body_that_botocore_wraps_for_aws_is_still_ours() -> None:
    """AWS gets a trailing checksum: the body is sent through botocore's own wrapper."""
    data = os.urandom(100_000)
    told: list[int] = []
    body = streams.of_buffer(data)
    body.hash_with("md5")
    body.progress = lambda done, _: told.append(done)
    wrapper = AwsChunkedWrapper(
        body,  # type: ignore[arg-type]  # it is read and sought, no more
        checksum_cls=Crc32Checksum,
        checksum_name="x-amz-checksum-crc32",
        chunk_size=16_384,
    )
    request = type("Request", (), {"body": wrapper})()

    from storefs.drivers.s3_connection import _begin_sending

    _begin_sending(request)
    sent = b"".join(iter(lambda: wrapper.read(8192), b""))

    assert body.hexdigest("md5") == hashlib.md5(data).hexdigest()
    assert told[-1] == len(data)
    assert len(sent) > len(data)
