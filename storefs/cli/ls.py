"""`storefs ls`: keys of a bucket through its driver, with no mount in between.

A path in a mounted directory is turned into the URL and the store settings of that mount, which
its daemon registered. The listing streams: a bucket of any size is shown as its pages come.
"""

from __future__ import annotations

import os
import sys
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from storefs import control, mounttable
from storefs.cli import text
from storefs.cli.explain import explain
from storefs.cli.mount import say
from storefs.cli.options import store_config
from storefs.config import StoreConfig, StoreUrl
from storefs.errors import ConfigError, ContainerNotFound, ObjectNotFound, StorefsError
from storefs.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storefs.cli.sources import Settings
    from storefs.drivers.models import Object


def ls(
    settings: Settings, target: str, *, long: bool = False, recursive: bool, human: bool = False
) -> int:
    """Print one line for each key; 1 if there is none and the name is not that of a key."""
    store = store_config(settings) if "://" in target else mounted_store(target)
    try:
        lines = 0
        for found in _objects(store, recursive=recursive):
            lines += 1
            sys.stdout.write(line(found, store.url.prefix, long=long, human=human) + "\n")
    except StorefsError as exc:
        say(explain(exc, store))
        return 2 if isinstance(exc, ConfigError | ContainerNotFound) else 1
    if not lines and store.url.prefix:
        say(f"{store.url}: no such key or directory")
        return 1
    return 0


def mounted_store(path: str) -> StoreConfig:
    """The store behind a path in a mount, with the path as its prefix."""
    resolved = mounttable.resolve(os.path.expanduser(path))
    around = [
        mount
        for mount in control.list_mounts()
        if mount.state is not control.State.DRAINING
        and mounttable.is_inside(resolved, mount.mountpoint)
    ]
    if not around:
        raise ConfigError(f"{path!r} is neither a URL (s3://bucket) nor in a mounted directory")
    mount = max(around, key=lambda each: len(each.mountpoint))
    url = _url_below(mount, resolved)
    known = {each.name for each in fields(StoreConfig)}
    stored = mount.record.store if mount.record is not None else {}
    return StoreConfig(url=url, **{name: stored[name] for name in known & stored.keys()})


def _url_below(mount: control.KnownMount, resolved: str) -> StoreUrl:
    """`mount.url` is written for people, without escapes, so it is taken apart by hand."""
    scheme, _, rest = mount.url.partition("://")
    below = resolved[len(mount.mountpoint) :].strip("/")
    below = os.fsencode(below).decode("utf-8", "surrogateescape") + ("/" if below else "")
    if scheme == "file":
        return StoreUrl("file", rest, below)
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.rstrip("/") + "/" if prefix else ""
    return StoreUrl(scheme, bucket, prefix + below)


def _objects(store: StoreConfig, *, recursive: bool) -> Iterator[Object]:
    """What is below the prefix, page by page; where nothing is, the object of that very key."""
    from storefs.drivers import open_driver

    driver, connection, container = open_driver(replace(store, read_only=True))
    prefix = store.url.prefix
    try:
        marker, any_found = None, False
        while True:
            page, marker = driver.list_container_objects(
                connection,
                container,
                prefix or None,
                delimiter=None if recursive else "/",
                marker=marker,
            )
            for found in page:
                if found.name != prefix:  # the directory's own marker
                    yield found
                any_found = True
            if marker is None:
                break
        if not any_found and prefix:
            try:
                yield driver.get_object_meta(connection, prefix.rstrip("/"), container)
            except ObjectNotFound:
                return
    finally:
        connection.close()


def line(found: Object, prefix: str, *, long: bool, human: bool) -> str:
    """One object: its name below the prefix, with size and time before it if `long`."""
    name = found.name.removeprefix(prefix) or found.name
    if not (long or human):
        return text.printable(name)
    if found.is_prefix:
        size, time = "-", "-"
    else:
        size = format_size(found.size) if human else str(found.size)
        time = text.when(found.mtime_ns / 1e9) if found.mtime_ns else "-"
    return f"{size:>14}  {time:<19}  {text.printable(name)}"
