"""Settings to configuration, and back to the command line of a daemon.

The generic part puts each value into the fields that its flag names; what is left is the little
that depends on more than one setting. Raises ConfigError, one line each; looks at nothing outside
but the user's number. What the machine must have is checked in `preflight`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from storefs import mounttable
from storefs.cli.flags import BY_NAME, FLAGS, KERNEL_DEFAULTS, KERNEL_OPPOSITES, Kind
from storefs.cli.sources import Settings, from_file_or_flags
from storefs.cli.values import parse, render
from storefs.config import (
    CacheConfig,
    LogConfig,
    MountConfig,
    StoreConfig,
    StoreUrl,
    TreeConfig,
    WriteConfig,
    default_cache_dir,
    default_state_dir,
)
from storefs.errors import ConfigError


def url_text(url: StoreUrl) -> str:
    """The URL such that `StoreUrl.parse` gives the same one again; `str(url)` is for people."""
    if url.scheme == "file":
        return "file://" + quote(url.bucket, errors="surrogateescape")
    return f"{url.scheme}://{url.bucket}/{quote(url.prefix)}"


def _fields(settings: Settings) -> dict[str, Any]:
    """Value of every field that some flag names, said or by default; None where it has none."""
    found: dict[str, Any] = {}
    for flag in FLAGS:
        if flag.name in settings.values:
            value = settings.values[flag.name].value
        elif flag.default is not None:
            value = parse(flag, flag.default)
        else:
            continue
        for name in flag.fields:
            found[name] = not value if flag.inverted else value
    return found


def _layer(found: dict[str, Any], layer: str) -> dict[str, Any]:
    prefix = f"{layer}."
    return {
        name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)
    }


def store_config(settings: Settings) -> StoreConfig:
    """How to reach the store. Raises ConfigError, also for flags that this store has no use for."""
    if settings.url is None:
        raise ConfigError("no bucket is named: write s3://bucket/prefix or file:///directory")
    url = StoreUrl.parse(settings.url)
    _check_store(settings, url)
    found = _layer(_fields(settings), "store")
    if found.get("ca_bundle") is not None:
        found["ca_bundle"] = str(found["ca_bundle"])
    if url.scheme != "s3":
        for flag in FLAGS:
            if flag.buckets_only and flag.name in settings.values:  # from the environment
                for name in flag.fields:
                    found.pop(name.removeprefix("store."), None)
    return StoreConfig(url=url, **found)


def _check_store(settings: Settings, url: StoreUrl) -> None:
    if url.scheme != "s3":
        for flag in FLAGS:
            setting = settings.values.get(flag.name)
            if setting is not None and flag.buckets_only and from_file_or_flags(setting):
                raise ConfigError(f"{setting.origin} has no meaning for {url.scheme}://: remove it")
        return
    endpoint = settings.get("endpoint-url")
    if endpoint is not None:
        _check_endpoint(str(endpoint), settings.values["endpoint-url"].origin)
    if settings.get("anonymous") and settings.get("profile"):
        raise ConfigError("--anonymous uses no credentials, so --profile has no meaning with it")
    if settings.get("sse-kms-key-id") and not str(settings.get("sse")).startswith("aws:kms"):
        raise ConfigError("--sse-kms-key-id needs --sse aws:kms (or aws:kms:dsse)")
    if settings.get("no-verify-tls") and settings.get("ca-bundle"):
        raise ConfigError("--no-verify-tls trusts everybody, so --ca-bundle has no meaning with it")


def _check_endpoint(endpoint: str, origin: str) -> None:
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
        secret = parts.username is not None
    except ValueError:
        valid, secret = False, "@" in endpoint
    if secret:
        raise ConfigError(
            f"{origin}: a URL holds no credentials: put them in the environment or the "
            "credentials file"
        )
    if not valid or parts.query or parts.fragment:
        raise ConfigError(f"{origin}: {endpoint!r} is no endpoint: write https://host:port")


def kernel_options(said: tuple[str, ...], *, root: bool) -> tuple[str, ...]:
    """Options for the kernel: `nosuid` and `nodev` unless root says `suid` or `dev`."""
    options = dict.fromkeys(KERNEL_DEFAULTS)
    for option in said:
        opposite = KERNEL_OPPOSITES.get(option)
        if opposite is None:
            options[option] = None
        elif root or opposite not in KERNEL_DEFAULTS:
            options.pop(opposite, None)
        else:
            raise ConfigError(f"only root may mount with {option!r}: remove it")
    return tuple(options)


def mount_config(settings: Settings) -> MountConfig:
    """The whole configuration of a mount. Raises ConfigError."""
    store = store_config(settings)
    if settings.directory is None:
        raise ConfigError("no directory to mount on is named: storefs mount URL DIRECTORY")
    found = _fields(settings)
    root = os.getuid() == 0
    found.setdefault("allow_other", root)
    found.setdefault("cache.directory", default_cache_dir())
    found.setdefault("write.state_dir", default_state_dir())
    found.setdefault("log.fallback_dir", found["write.state_dir"])
    return MountConfig(
        mountpoint=Path(mounttable.resolve(os.path.expanduser(settings.directory))),
        store=store,
        cache=CacheConfig(**_layer(found, "cache")),
        tree=TreeConfig(**_layer(found, "tree")),
        write=WriteConfig(**_layer(found, "write")),
        log=LogConfig(**_layer(found, "log")),
        memory_limit_bytes=found["memory_limit_bytes"],
        allow_other=found["allow_other"],
        read_only=found["read_only"],
        options=kernel_options(settings.kernel_options, root=root),
    )


def command_line(settings: Settings, config: MountConfig) -> list[str]:
    """Arguments of `storefs mount` that give the same configuration from any directory.

    A daemon is started with these: it reads neither the file nor relative paths again. They are
    seen by everybody in `ps`, which is why nothing secret is ever a flag.
    """
    arguments: list[str] = []
    for name, setting in settings.values.items():
        flag = BY_NAME[name]
        if name == "foreground" or (flag.buckets_only and config.store.url.scheme != "s3"):
            continue
        if flag.kind is Kind.SWITCH:
            arguments.append(f"--{flag.name}" if setting.value else f"--{flag.opposite}")
        else:
            arguments.append(f"--{name}={render(flag, setting.value)}")
    if settings.kernel_options:
        arguments += ["-o", ",".join(settings.kernel_options)]
    return [*arguments, "--", url_text(config.store.url), str(config.mountpoint)]
