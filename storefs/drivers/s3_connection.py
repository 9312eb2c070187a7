"""A connection to S3 or a server like it: the boto3 client, as storefs needs it.

Used by the S3 driver. Knows where the store is, who asks and how long to wait; credentials stay
with boto3, which finds and refreshes them. The danger is a default of boto3 that another server
takes badly: those are set here, each with its reason.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore
import urllib3
from botocore import handlers
from botocore.config import Config
from botocore.utils import parse_timestamp

from storefs import __version__
from storefs.drivers import checksums, s3_patience
from storefs.drivers.base import Connection
from storefs.drivers.models import Append, Capabilities, Condition
from storefs.drivers.s3_errors import translated
from storefs.drivers.streams import Reader
from storefs.errors import ConfigError
from storefs.units import GIB, TIB

if TYPE_CHECKING:
    from storefs.config import StoreConfig

# Capabilities of AWS as its user guide states them (conditional requests, multipart limits;
# retrieved 2026-11). Of others only the wishes are the same, until somebody has asked them.
_AWS = Capabilities(
    append=Append.EMULATED,
    conditional_put=Condition.ETAG,
    conditional_complete=Condition.ETAG,
    conditional_copy=Condition.ETAG,
    conditional_delete=Condition.ETAG,
    conditional_batch=Condition.ETAG,
    max_object_bytes=10_000 * 5 * GIB,
)
_DIRECTORY_BUCKET = Capabilities(
    append=Append.EMULATED,
    conditional_put=Condition.ETAG,
    conditional_complete=Condition.ETAG,
    conditional_copy=Condition.ETAG,
    conditional_delete=Condition.ETAG,
    conditional_batch=Condition.ETAG,
    ordered_listing=False,
)
_FOREIGN = Capabilities(
    append=Append.EMULATED,
    conditional_put=Condition.ETAG,
    conditional_complete=Condition.ETAG,
    conditional_copy=Condition.ETAG,
    conditional_delete=Condition.ETAG,
    conditional_batch=Condition.ETAG,
    conditions_known=False,
    marker_metadata=False,  # SeaweedFS drops the metadata of `dir/`
    max_object_bytes=5 * TIB,
)

_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_BUCKET = re.compile(r"[A-Za-z0-9.\-_]{1,255}|arn:.+")


class S3Connection(Connection):
    """See the module. `host` is a URL or a name; None is AWS, wherever the bucket is.

    Without `access_id` boto3's own chain finds the credentials: environment, profile, single
    sign-on, web identity, instance metadata. `sdk_retries` off makes every call one attempt.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        access_id: str | None = None,
        access_key: str | None = None,
        *,
        session_token: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        addressing: str = "auto",
        anonymous: bool = False,
        connect_seconds: float = 10.0,
        call_seconds: float = 60.0,
        pool_size: int = 50,
        sdk_retries: bool = True,
        requester_pays: bool = False,
        storage_class: str | None = None,
        sse: str | None = None,
        sse_kms_key_id: str | None = None,
        acl: str | None = None,
        ca_bundle: str | None = None,
        verify_tls: bool = True,
    ) -> None:
        super().__init__(host, port, access_id, access_key)
        if addressing not in ("auto", "path", "virtual"):
            raise ConfigError(f"addressing is auto, path or virtual, not {addressing!r}")
        if ca_bundle is not None and not os.path.exists(ca_bundle):
            raise ConfigError(f"the CA bundle {ca_bundle} does not exist")
        self.endpoint_url = endpoint_url(host, port)
        self.session_token = session_token
        self.region = region
        self.profile = profile
        self.addressing = addressing
        self.anonymous = anonymous
        self.connect_seconds = connect_seconds
        self.call_seconds = call_seconds
        self.pool_size = pool_size
        self.sdk_retries = sdk_retries
        self.requester_pays = requester_pays
        self.storage_class = storage_class
        self.sse = sse
        self.sse_kms_key_id = sse_kms_key_id
        self.acl = acl
        self.verify: bool | str | None = ca_bundle if verify_tls else False
        # mutable, under the lock
        self._lock = threading.Lock()
        self._client: Any = None
        self._signing_client: Any = None
        self._is_foreign: bool | None = None
        self._learned: dict[str, Capabilities] = {}

    @classmethod
    def of(cls, connection: Connection) -> S3Connection:
        """The connection, known to be one of this kind."""
        if not isinstance(connection, cls):
            raise ConfigError(f"the S3 driver got a {type(connection).__name__}")
        return connection

    def __repr__(self) -> str:
        return f"S3Connection({self.endpoint_url or 'AWS'}, region={self.region})"

    @property
    def is_foreign(self) -> bool:
        """Whether this is another server than AWS; the client knows of `AWS_ENDPOINT_URL` too."""
        if self._is_foreign is None:
            self._is_foreign = is_foreign(str(self.get_client().meta.endpoint_url))
        return self._is_foreign

    def get_client(self, container: str | None = None) -> Any:
        """The boto3 client, made once and safe to share between threads."""
        if self._client is None:
            with self._lock, translated("connect"):
                if self._client is None:
                    self._client = self._make_client()
        return self._client

    def get_signing_client(self) -> Any:
        """A client for links: boto3 signs them in the old way, which new regions refuse."""
        foreign = self.is_foreign
        with self._lock, translated("connect"):
            if self._signing_client is None:
                self._signing_client = self._client_for(foreign, signature_version="s3v4")
        return self._signing_client

    def capabilities(self, container: str) -> Capabilities:
        """Those of AWS, or what is hoped for until `learn` was told; asks nothing."""
        if container in self._learned:
            return self._learned[container]
        if self.is_foreign:
            return _FOREIGN
        return _DIRECTORY_BUCKET if container.endswith("--x-s3") else _AWS

    def learn(self, container: str, capabilities: Capabilities) -> None:
        """What a probe found; from now on the driver refuses conditions that the store ignores."""
        with self._lock:
            self._learned[container] = capabilities

    def close(self) -> None:
        """Give sockets back."""
        with self._lock:
            clients = [self._client, self._signing_client]
            self._client = self._signing_client = None
        for client in clients:
            if client is not None:
                client.close()

    def _make_client(self) -> Any:
        foreign = self.endpoint_url is not None and is_foreign(self.endpoint_url)
        client = self._client_for(foreign)
        if not foreign and is_foreign(str(client.meta.endpoint_url)):
            # AWS_ENDPOINT_URL or the profile named the endpoint, which only the client found out.
            client.close()
            client = self._client_for(True)
        self._adapt(client)
        return client

    def _client_for(self, foreign: bool, signature_version: str | None = None) -> Any:
        session = boto3.Session(
            aws_access_key_id=self.access_id,
            aws_secret_access_key=self.access_key,
            aws_session_token=self.session_token,
            region_name=self.region,
            profile_name=self.profile,
        )
        # boto3 spends 0.12 ms on each key of a listing, most of it on the date.
        session._session.get_component("response_parser_factory").set_parser_defaults(
            timestamp_parser=_timestamp
        )
        options: dict[str, Any] = {}
        if not self.sdk_retries:
            options["retries"] = {"total_max_attempts": 1, "mode": "standard"}
        if foreign:
            # Since 1.36 boto3 sends trailing checksums, which OSS, R2, B2 and older MinIO and Ceph
            # refuse or store as part of the object.
            options["request_checksum_calculation"] = "when_required"
            options["response_checksum_validation"] = "when_required"
        if self.anonymous:
            options["signature_version"] = botocore.UNSIGNED
        elif signature_version is not None:
            options["signature_version"] = signature_version
        config = Config(
            connect_timeout=self.connect_seconds,
            read_timeout=self.call_seconds,
            max_pool_connections=self.pool_size,
            tcp_keepalive=True,
            s3={"addressing_style": self.addressing},  # type: ignore[arg-type]  # checked above
            user_agent_extra=f"storefs/{__version__}",
            **options,
        )
        region = session.region_name or ("us-east-1" if foreign else None)
        return session.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=region,
            verify=self.verify,
            config=config,
        )

    def _adapt(self, client: Any) -> None:
        s3_patience.install(client, self.call_seconds)
        events = client.meta.events
        # `Expect: 100-continue` costs a round trip, or a second where a server ignores it.
        events.unregister("before-call.s3", handlers.add_expect_header)
        events.register("before-send.s3", _begin_sending)
        if self.requester_pays:
            events.register("provide-client-params.s3", _pay)
        if is_foreign(str(client.meta.endpoint_url)):
            events.register("before-call.s3.DeleteObjects", _add_content_md5)
        if self.verify is False:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


def connection_for(config: StoreConfig) -> S3Connection:
    """The connection of a mount: no retries of the SDK's own, time-outs out of `--timeout`.

    A call gets 0.4 of it, so that one more on a new connection still fits.
    """
    if not _BUCKET.fullmatch(config.url.bucket):
        raise ConfigError(f"{config.url.bucket!r} cannot be the name of a bucket")
    call_seconds = max(1.0, config.timeout_seconds * 0.4)
    return S3Connection(
        config.endpoint_url,
        region=config.region,
        profile=config.profile,
        addressing=config.addressing,
        anonymous=config.anonymous,
        connect_seconds=min(5.0, call_seconds),
        call_seconds=call_seconds,
        # The store bounds calls and bodies each by itself.
        pool_size=2 * config.calls,
        sdk_retries=False,
        requester_pays=config.requester_pays,
        storage_class=config.storage_class,
        sse=config.sse,
        sse_kms_key_id=config.sse_kms_key_id,
        acl=config.acl,
        ca_bundle=config.ca_bundle,
        verify_tls=config.verify_tls,
    )


def endpoint_url(host: str | None, port: int | None) -> str | None:
    """A URL out of what a user gave: nothing, a URL, a name or an address."""
    if not host:
        return None
    if "://" not in host:
        try:
            bare = f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            bare = host
        host = f"{'http' if port == 80 else 'https'}://{bare}"
    try:
        parts = urlsplit(host)
        known_port = parts.port
    except ValueError as exc:
        raise ConfigError(f"{host!r} is not an endpoint: {exc}") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{host!r} is not an endpoint: write https://host[:port]")
    if port is not None and known_port is None:
        host = f"{parts.scheme}://{parts.netloc}:{port}{parts.path}"
    return host


def is_foreign(url: str) -> bool:
    """Whether an endpoint is not AWS."""
    name = urlsplit(url).hostname or ""
    return not name.endswith(_AWS_HOSTS)


def _timestamp(value: Any) -> Any:
    # Listings have ISO dates, which C code parses; headers have others, which botocore knows.
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return parse_timestamp(value)


def _begin_sending(request: Any, **_: Any) -> None:
    body = getattr(request.body, "_raw", request.body)
    if isinstance(body, Reader):
        body.sending = True


def _pay(params: dict[str, Any], model: Any, **_: Any) -> dict[str, Any]:
    if "RequestPayer" in model.input_shape.members:
        params["RequestPayer"] = "requester"
    return params


def _add_content_md5(params: dict[str, Any], **_: Any) -> None:
    # boto3 sends a CRC32 instead since 1.36; OSS and older MinIO and Ceph ask for this one.
    digest = checksums.md5(params["body"]).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
