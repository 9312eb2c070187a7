"""Where settings come from, and which of them counts.

In this order, first found wins: the command line (flags, then `-o`), the environment
(`STOREFS_CACHE_DIR`), the configuration file, the default. Each value keeps its origin, so that an
error names the place to change. Pure, but for reading the file.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from storefs.cli.flags import BY_NAME, FLAGS, KERNEL_OPPOSITES, KERNEL_OPTIONS, Flag, Kind
from storefs.cli.values import Value, parse
from storefs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it stood, as an error would name it."""

    value: Value
    origin: str


@dataclass
class Settings:
    """What was said, by name of the flag; what is not in here has its default."""

    url: str | None = None
    directory: str | None = None
    kernel_options: tuple[str, ...] = ()
    values: dict[str, Setting] = field(default_factory=dict)

    def get(self, name: str) -> Value:
        """The value as it was said, or None."""
        found = self.values.get(name)
        return found.value if found is not None else None


@dataclass(frozen=True, slots=True)
class OptionString:
    """A `-o` taken apart. `rest` is what storefs does not know."""

    values: dict[str, str]
    kernel_options: tuple[str, ...]
    config: str | None
    rest: tuple[str, ...]


# What mount(8), systemd and fstab add for themselves.
_IGNORED = {"_netdev", "_rnetdev", "nofail", "auto", "noauto", "user", "nouser", "users", "owner"}
_IGNORED |= {"group", "defaults", "async", "relatime", "norelatime"}
_IGNORED_PREFIXES = ("x-", "X-", "comment=", "user=")


def split_options(text: str) -> list[str]:
    """The options of a `-o` string. A comma inside double quotes or after a backslash is text."""
    options, current, quoted, escaped = [], "", False, False
    for letter in text:
        if escaped:
            current += letter if letter in ',"\\' else "\\" + letter
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            options.append(current)
            current = ""
        else:
            current += letter
    return [option for option in [*options, current] if option]


def parse_options(options: Iterable[str]) -> OptionString:
    """Sort options of mount(8), of the kernel and of storefs apart; the last of a kind counts."""
    values: dict[str, str] = {}
    kernel: dict[str, None] = {}
    rest: list[str] = []
    config: str | None = None
    for option in options:
        name, equals, text = option.partition("=")
        flag = BY_NAME.get(name.replace("_", "-"))
        off = BY_NAME.get(name.replace("_", "-").removeprefix("no-").removeprefix("no"))
        if option in ("ro", "rw"):
            values["read-only"] = "yes" if option == "ro" else "no"
        elif option in KERNEL_OPTIONS or option in KERNEL_OPPOSITES:
            kernel.pop(KERNEL_OPPOSITES.get(option, ""), None)
            kernel.pop(next((k for k, v in KERNEL_OPPOSITES.items() if v == option), ""), None)
            kernel[option] = None
        elif option in _IGNORED or option.startswith(_IGNORED_PREFIXES):
            continue
        elif name == "config" and text:
            config = text
        elif flag is not None and (equals or flag.kind is Kind.SWITCH):
            values[flag.name] = text if equals else "yes"
        elif flag is not None:
            raise ConfigError(f"-o {name} needs a value: write {name}=...")
        elif off is not None and off.kind is Kind.SWITCH and not equals:
            values[off.name] = "no"
        else:
            rest.append(option)
    return OptionString(values, tuple(kernel), config, tuple(rest))


def unknown_option(option: str) -> ConfigError:
    """The error for an option that storefs does not have, with the one that may be meant."""
    name = option.partition("=")[0]
    return ConfigError(
        f"unknown option {name!r}{_suggest(name, [flag.option for flag in FLAGS])}; "
        "docs/options.md and `storefs mount --help` list all"
    )


def _suggest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f", perhaps {close[0]!r}" if close else ""


def _setting(flag: Flag, text: str, origin: str) -> Setting:
    try:
        return Setting(parse(flag, text), origin)
    except ValueError as exc:
        raise ConfigError(f"{origin}: {exc}") from exc


def from_environment(environ: Mapping[str, str]) -> dict[str, Setting]:
    """Settings in variables; an empty one counts as not set."""
    return {
        flag.name: _setting(flag, environ[flag.env], flag.env)
        for flag in FLAGS
        if environ.get(flag.env)
    }


def read_file(path: str) -> Settings:
    """Settings of a TOML file: `url`, `directory` and flags by their names.

    Relative paths in it are relative to the file.
    """
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as exc:
        raise ConfigError(f"cannot read the configuration file {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is not TOML: {exc}") from exc
    settings = Settings()
    for key, raw in content.items():
        origin = f"{path}: {key}"
        if key in ("url", "directory"):
            if not isinstance(raw, str):
                raise ConfigError(f"{origin}: write text in quotes")
            setattr(settings, key, _beside(path, raw) if key == "directory" else raw)
        elif key == "options":
            settings.kernel_options = _kernel_options(raw, origin)
        elif key in BY_NAME:
            flag = BY_NAME[key]
            settings.values[key] = _setting(flag, _file_text(flag, raw, path, origin), origin)
        else:
            known = ["url", "directory", "options", *BY_NAME]
            raise ConfigError(f"{path}: unknown key {key!r}{_suggest(key, known)}")
    return settings


def _beside(path: str, text: str) -> str:
    expanded = os.path.expanduser(text)
    return os.path.join(os.path.dirname(os.path.abspath(path)), expanded)


def _kernel_options(raw: Any, origin: str) -> tuple[str, ...]:
    parsed = parse_options(split_options(raw)) if isinstance(raw, str) else None
    if parsed is None or parsed.rest or parsed.values or parsed.config:
        raise ConfigError(
            f'{origin}: write options of mount(8) here, such as "noexec,noatime", '
            "and everything else as a key of its own"
        )
    return parsed.kernel_options


def _file_text(flag: Flag, raw: Any, path: str, origin: str) -> str:
    """What stands in the file, as text; TOML's own types are taken where they cannot mislead."""
    if isinstance(raw, bool):
        if flag.kind is not Kind.SWITCH:
            raise ConfigError(f"{origin}: this is not a switch, write a value")
        return "yes" if raw else "no"
    if isinstance(raw, int | float) and flag.kind is Kind.MODE:
        # 644 in TOML is decimal, and nothing would tell it from 0o1204
        raise ConfigError(f'{origin}: write the permissions in quotes, such as "0644"')
    if isinstance(raw, int | float | str):
        text = str(raw)
        is_path = flag.kind is Kind.PATH or (flag.kind is Kind.PATH_OR_NONE and text != "none")
        return _beside(path, text) if is_path and text else text
    raise ConfigError(f"{origin}: write one value")


def gather(
    *,
    url: str | None = None,
    directory: str | None = None,
    flags: Mapping[str, str] | None = None,
    options: Iterable[str] = (),
    sloppy: bool = False,
    config: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Everything that was said, by order of precedence. `flags` are texts by name.

    Raises ConfigError for what is unknown or wrong; `sloppy` lets unknown `-o` options pass, as
    mount(8)'s -s asks.
    """
    environ = os.environ if environ is None else environ
    parsed = parse_options(options)
    if parsed.rest and not sloppy:
        raise unknown_option(parsed.rest[0])
    path = config or parsed.config or environ.get("STOREFS_CONFIG")
    settings = read_file(os.path.expanduser(path)) if path else Settings()
    settings.values |= from_environment(environ)
    for name, text in parsed.values.items():
        origin = f"-o {BY_NAME[name].option}"
        settings.values[name] = _setting(BY_NAME[name], text, origin)
    for name, text in (flags or {}).items():
        settings.values[name] = _setting(BY_NAME[name], text, f"--{name}")
    settings.kernel_options = parsed.kernel_options or settings.kernel_options
    if directory is None and url is not None and settings.url and "://" not in url:
        url, directory = None, url  # one argument beside a file with a URL: the directory
    settings.url = _utf8(url) if url is not None else settings.url
    settings.directory = directory if directory is not None else settings.directory
    return settings


def _utf8(argument: str) -> str:
    """An argument as UTF-8, whatever the locale: bucket keys are UTF-8."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{argument!a} is not UTF-8") from None


def from_file_or_flags(setting: Setting | None) -> bool:
    """True if it was said for this mount, not just found in the environment."""
    return setting is not None and not setting.origin.startswith("STOREFS_")


__all__ = [
    "OptionString",
    "Setting",
    "Settings",
    "from_environment",
    "from_file_or_flags",
    "gather",
    "parse_options",
    "read_file",
    "split_options",
    "unknown_option",
]
