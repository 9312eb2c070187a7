"""The commands of `storefs` and their options, made with click from the table of flags.

Each command gathers its settings and calls the module that does the work. `run` is the only place
where an error becomes a line and a code: 2 for what the user can mend, 1 for what went wrong.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from storefs import __version__
from storefs.cli.explain import explain, one_line
from storefs.cli.flags import FLAGS, GROUPS, Flag, Kind
from storefs.cli.sources import gather, split_options
from storefs.errors import StorefsError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

EPILOG = (
    "Each option is also an environment variable (--cache-dir is STOREFS_CACHE_DIR), a key of the "
    "configuration file (cache-dir) and an option of fstab (-o cache_dir=). What is said on the "
    "command line comes first, then the environment, then the file. Credentials are never options: "
    "storefs finds them where the AWS tools do."
)


class FlagCommand(click.Command):
    """A command whose help shows the flags under the headings of the table."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = {flag.variable: flag.group for flag in FLAGS}
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        sections |= {group: [] for group in GROUPS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections[groups.get(parameter.name or "", "Options")].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def flag_option(flag: Flag) -> Callable[[Any], Any]:
    """A click option that hands the text on as it was written."""
    shown = f"default: {flag.default or flag.default_text}"
    if flag.kind is Kind.SWITCH:
        names = [f"--{flag.name}/--{flag.opposite}", *([f"-{flag.short}"] if flag.short else [])]
        return click.option(*names, flag.variable, default=None, help=f"{flag.help} [{shown}]")
    metavar = "|".join(flag.choices) if flag.choices else flag.metavar
    return click.option(
        f"--{flag.name}", flag.variable, metavar=metavar, help=f"{flag.help} [{shown}]"
    )


def with_flags(flags: list[Flag]) -> Callable[[Any], Any]:
    """Add the options of these flags to a command."""

    def decorate(function: Any) -> Any:
        for flag in reversed(flags):
            function = flag_option(flag)(function)
        return function

    return decorate


def said(arguments: dict[str, Any]) -> dict[str, str]:
    """Flags that were given, by name, as text."""
    given = {}
    for flag in FLAGS:
        value = arguments.get(flag.variable)
        if isinstance(value, bool):
            given[flag.name] = "yes" if value else "no"
        elif value is not None:
            given[flag.name] = value
    return given


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="storefs", message="%(prog)s %(version)s")
def cli() -> None:
    """Mount a bucket as an ordinary directory."""


@cli.command(cls=FlagCommand, epilog=EPILOG)
@click.argument("url", required=False)
@click.argument("directory", required=False)
@click.option("--config", metavar="FILE", help="Read settings from this TOML file.")
@click.option(
    "-o",
    "mount_options",
    multiple=True,
    metavar="OPTION[,OPTION]",
    help="Options as in fstab: noexec, noatime, ro, or any flag with underscores.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say what was mounted and where it logs.")
@with_flags(list(FLAGS))
def mount(
    url: str | None,
    directory: str | None,
    config: str | None,
    mount_options: tuple[str, ...],
    verbose: bool,
    **flags: Any,
) -> int:
    """Mount the bucket URL on DIRECTORY.

    URL is s3://bucket or s3://bucket/prefix, or file:///directory for a bucket kept in a local
    directory. Both may stand in the configuration file instead. Returns when the directory can be
    used, or with one line that says why it cannot.
    """
    from storefs.cli.mount import mount as perform

    settings = gather(
        url=url,
        directory=directory,
        flags=said(flags),
        options=split_options(",".join(mount_options)),
        config=config,
    )
    return perform(settings, verbose=verbose)


@cli.command()
@click.argument("directory")
@click.option("-l", "--lazy", is_flag=True, help="Detach at once, though it is busy or stuck.")
@click.option(
    "--stop-timeout",
    metavar="TIME",
    help="How long to wait for what is not stored yet. [default: as the mount was told]",
)
def umount(directory: str, lazy: bool, stop_timeout: str | None) -> int:
    """Unmount DIRECTORY and wait until all is stored.

    Exit code 1 means that something could not be stored; it is named, and kept in the state
    directory. With --lazy it does not wait.
    """
    from storefs.cli.umount import umount as perform

    return perform(directory, lazy=lazy, stop_timeout=stop_timeout)


@cli.command()
@click.argument("directory", required=False)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.option("-w", "--watch", is_flag=True, help="Show it again every second.")
def status(directory: str | None, as_json: bool, watch: bool) -> int:
    """Show what is mounted, what waits to be stored and what failed.

    Exit code 1 means that a mount is dead or that a file could not be stored.
    """
    from storefs.cli.status import status as perform

    return perform(directory, as_json=as_json, watch=watch)


LS_FLAGS = [flag for flag in FLAGS if flag.buckets_only or flag.name == "timeout"]


@cli.command(cls=FlagCommand, epilog=EPILOG)
@click.argument("target")
@click.option("-l", "long", is_flag=True, help="Show size and time too.")
@click.option("-r", "--recursive", is_flag=True, help="Everything below, not one level.")
@click.option("--human", is_flag=True, help="Sizes for people, such as 1.5 MiB.")
@click.option("--config", metavar="FILE", help="Read settings from this TOML file.")
@with_flags(LS_FLAGS)
def ls(
    target: str, long: bool, recursive: bool, human: bool, config: str | None, **flags: Any
) -> int:
    """List keys of TARGET: a URL, or a path in a mounted directory.

    Asks the store itself, past every cache. Names that end with / are directories.
    """
    from storefs.cli.ls import ls as perform

    settings = gather(url=target, flags=said(flags), config=config)
    return perform(settings, target, long=long, recursive=recursive, human=human)


def _speak_utf8() -> None:
    """Keys are UTF-8 whatever the locale says; what cannot be shown is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def run(arguments: list[str]) -> int:
    """The exit code of `storefs ARGUMENTS`; every error is one line on stderr."""
    _speak_utf8()
    try:
        result = cli.main(args=arguments, prog_name="storefs", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.format_message(), err=True)
        return 2
    except click.ClickException as exc:
        context = getattr(exc, "ctx", None)
        command = context.command_path if context is not None else "storefs"
        line = f"{exc.format_message().rstrip('.')}; see `{command} --help`"
        code = 2
    except StorefsError as exc:
        line, code = explain(exc, None), 2
    except (KeyboardInterrupt, click.Abort):
        return 130
    except OSError as exc:
        line, code = str(exc), 1
    except Exception as exc:
        logger.debug("this is a bug", exc_info=True)
        line, code = f"{type(exc).__name__}: {exc} (a bug of storefs: please report it)", 1
    print(f"storefs: {one_line(line)}", file=sys.stderr)
    return code
