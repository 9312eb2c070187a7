"""README's least policy is enough: every request of a day's work is looked up in it."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.exchanges import Exchange
    from tests.support.places import Place

README = Path(__file__).parents[2] / "README.md"

DAYS_WORK = """
mkdir d; echo one > d/a; echo two >> d/a; cat d/a; ls -l . d
ln -s a d/link; mv d/a d/b; cp d/b d/c; mv d e; echo three > e/b; > e/c
head -c 20000000 /dev/urandom > large; echo tail >> large; truncate -s 10 large
stat missing; rm -r e; rm large
"""


def policy() -> tuple[set[str], str, set[str], str]:
    """Actions on the bucket with the prefixes they may list, actions on objects with their keys."""
    block = re.search(r"```json\n(\{.*?\n\})\n```", README.read_text(), re.DOTALL)
    assert block is not None
    on_bucket, on_objects = json.loads(block[1])["Statement"]
    prefix = on_bucket["Condition"]["StringLike"]["s3:prefix"][0]
    keys = on_objects["Resource"].removeprefix("arn:aws:s3:::my-bucket/")
    return set(on_bucket["Action"]), prefix, set(on_objects["Action"]), keys


def action_of(exchange: Exchange) -> str:
    """The permission that S3 asks for (service authorization reference, actions for S3)."""
    query = parse_qs(exchange.query, keep_blank_values=True)
    on_bucket = unquote(exchange.path).count("/") == 1 or unquote(exchange.path).endswith("//")
    if "tagging" in query:
        return "s3:GetObjectTagging" if exchange.method == "GET" else "s3:PutObjectTagging"
    if exchange.method == "GET" and "list-type" in query:
        return "s3:ListBucket"
    if exchange.method in ("GET", "HEAD") and "uploadId" in query:
        return "s3:ListMultipartUploadParts"
    if exchange.method == "POST" and "delete" in query:
        return "s3:DeleteObject"
    if exchange.method == "DELETE":
        return "s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject"
    if exchange.method in ("GET", "HEAD"):
        return "s3:ListBucket of the whole bucket" if on_bucket else "s3:GetObject"
    return "s3:PutObject"


def test_the_least_policy_of_the_readme_covers_every_request(own: Callable[..., Place]) -> None:
    place = own("s3")
    assert place.relay is not None
    place.mount.mount()
    place.mount.sh(DAYS_WORK, timeout=60, check=False)
    place.mount.umount()
    on_bucket, listed, on_objects, keys = policy()
    bucket, _, prefix = place.bucket.url.removeprefix("s3://").partition("/")
    prefix = prefix.rstrip("/") + "/"
    seen = set()
    for exchange in place.relay.log:
        action = action_of(exchange)
        seen.add(action)
        if action == "s3:ListBucket":
            assert action in on_bucket
            asked = parse_qs(exchange.query, keep_blank_values=True).get("prefix", [""])[0]
            assert fnmatchcase(asked, listed.replace("some/prefix/", prefix)), exchange
            continue
        assert action in on_objects, exchange
        key = unquote(exchange.path).removeprefix(f"/{bucket}").lstrip("/")
        if exchange.method != "POST" or "delete" not in exchange.query:
            assert fnmatchcase(key, keys.replace("some/prefix/", prefix)), exchange
    assert {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"} <= seen
