"""`mount.storefs`: what mount(8) calls for `mount -t storefs` and for lines in fstab.

It takes `SOURCE DIR [-sfnv] [-N namespace] [-t type] [-o options]`, hands known options on, and
answers with mount(8)'s codes: 1 for wrong usage, 32 for a mount that failed. Options that it does
not know are refused, unless -s asks to let them pass.
"""

from __future__ import annotations

import ctypes
import getopt
import os
import sys
from dataclasses import dataclass, field

from storefs.cli.explain import explain
from storefs.cli.mount import mount, say
from storefs.cli.sources import gather, parse_options, split_options
from storefs.errors import ConfigError, StorefsError

WRONG_USAGE = 1
MOUNT_FAILED = 32
CLONE_NEWNS = 0x00020000
TYPES = ("storefs", "fuse.storefs")
USAGE = "mount.storefs SOURCE DIRECTORY [-sfnv] [-N namespace] [-t type] [-o options]"


@dataclass
class Call:
    """A call of the helper, taken apart."""

    source: str
    directory: str
    options: list[str] = field(default_factory=list)
    sloppy: bool = False
    fake: bool = False
    verbose: bool = False
    namespace: str | None = None


def parse(arguments: list[str]) -> Call:
    """Raises ConfigError for what mount(8) would not send."""
    try:
        flags, rest = getopt.gnu_getopt(arguments, "sfnvrwo:t:N:h")
    except getopt.GetoptError as exc:
        raise ConfigError(f"{exc}; usage: {USAGE}") from exc
    if len(rest) != 2:
        raise ConfigError(f"usage: {USAGE}")
    call = Call(rest[0], rest[1])
    for flag, value in flags:
        match flag:
            case "-o":
                call.options += split_options(value)
            case "-t" if value not in TYPES:
                raise ConfigError(f"type {value!r} is not of storefs: write -t storefs")
            case "-r" | "-w":
                call.options.append("ro" if flag == "-r" else "rw")
            case "-s":
                call.sloppy = True
            case "-f":
                call.fake = True
            case "-v":
                call.verbose = True
            case "-N":
                call.namespace = value
    return call  # -n asks not to write /etc/mtab, which nobody does any more


def enter_namespace(namespace: str) -> None:
    """Go on in another mount namespace: a path, or the number of a process."""
    path = f"/proc/{namespace}/ns/mnt" if namespace.isdecimal() else namespace
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise ConfigError(f"-N {namespace}: {exc.strerror}") from exc
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, CLONE_NEWNS) != 0:
            raise ConfigError(f"-N {namespace}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(fd)


def run(arguments: list[str]) -> int:
    """The exit code, in mount(8)'s meaning; every error is one line on stderr."""
    try:
        call = parse(arguments)
        unknown = parse_options(call.options).rest
        settings = gather(
            url=call.source if "://" in call.source else None,  # else a name of its own in fstab
            directory=call.directory,
            options=call.options,
            sloppy=call.sloppy,
        )
        settings.url = settings.url or call.source
        if call.verbose and unknown:
            say(f"ignored: {', '.join(unknown)}")
    except StorefsError as exc:
        say(explain(exc, None))
        return WRONG_USAGE
    try:
        if call.namespace is not None:
            enter_namespace(call.namespace)
        code = mount(settings, verbose=call.verbose, dry_run=call.fake)
    except StorefsError as exc:
        say(explain(exc, None))
        return MOUNT_FAILED
    except OSError as exc:
        say(str(exc))
        return MOUNT_FAILED
    return MOUNT_FAILED if code else 0


def main() -> None:
    """The entry point."""
    if any(argument in ("-h", "--help") for argument in sys.argv[1:]):
        print(f"usage: {USAGE}\nOptions of -o are those of `storefs mount`, with underscores.")
        sys.exit(0)
    sys.exit(run(sys.argv[1:]))
