"""`storefs mount`: check, start the daemon (or stay), say in one line what went wrong.

Used by the command line and by mount(8)'s helper. The parent of a daemon imports neither trio nor
an SDK; `storefs.mount` is imported in the process that serves.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING

from storefs import log
from storefs.cli import daemon, options, preflight
from storefs.cli.explain import explain, one_line
from storefs.errors import StorefsError

if TYPE_CHECKING:
    from storefs.cli.sources import Settings
    from storefs.config import MountConfig

logger = logging.getLogger(__name__)

USAGE = 2


def mount(settings: Settings, *, verbose: bool = False, dry_run: bool = False) -> int:
    """Mount as `settings` say; the exit code. Raises StorefsError before anything is started.

    `dry_run` checks everything that can be checked from here, and stops.
    """
    pipe = daemon.ReadyPipe.inherited()
    if pipe is not None:
        return _serve_as_daemon(settings, pipe)
    config = options.mount_config(settings)
    for notice in preflight.check(config):
        say(notice)
    if dry_run:
        return 0
    if config.log.foreground:
        return _serve(config, None)
    return _start_daemon(settings, config, verbose=verbose)


def say(line: str) -> None:
    """One line for the user, beside the output."""
    print(f"storefs: {one_line(line)}", file=sys.stderr, flush=True)


def _start_daemon(settings: Settings, config: MountConfig, *, verbose: bool) -> int:
    argv = daemon.command(options.command_line(settings, config))
    where = log.describe(config.log)
    try:
        outcome = daemon.start(argv, log=where)
    except KeyboardInterrupt:
        say("interrupted; nothing is mounted")
        return 128 + signal.SIGINT
    if outcome.line:
        say(outcome.line)
        return outcome.code
    if verbose:
        say(f"{config.store.url} is mounted on {config.mountpoint} (pid {outcome.pid})")
        say(f"it logs to {where}")
    return 0


def _serve_as_daemon(settings: Settings, pipe: daemon.ReadyPipe) -> int:
    """The child: its only voice is the pipe, then the log."""
    try:
        settings.values.pop("foreground", None)
        config = options.mount_config(settings)
        notices = preflight.check(config)
        log.configure(config.log)
        for notice in notices:
            logger.warning("%s", notice)
        return _serve(config, pipe)
    except StorefsError as exc:
        pipe.failed(explain(exc, None))
        return USAGE


def only_cause(error: Exception) -> Exception:
    """The one error inside groups of one, as a nursery raises them."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _serve(config: MountConfig, pipe: daemon.ReadyPipe | None) -> int:
    """Serve the mount until it is unmounted; failures of the start are told in one line."""
    where = log.configure(config.log)
    started = False

    def ready() -> None:
        nonlocal started
        started = True
        if pipe is not None:
            pipe.ready()

    try:
        from storefs.mount import run

        return run(config, ready=ready)
    except Exception as exc:
        cause = only_cause(exc)
        if isinstance(cause, StorefsError):
            line = explain(cause, config.store)
            if started or pipe is not None:
                logger.error("%s", line)
        else:
            logger.exception("the mount of %s ended", config.store.url)
            line = f"{type(cause).__name__}: {cause}; its traceback is in {where}"
    if pipe is not None:
        pipe.failed(one_line(line))
    else:
        say(line)
    return 1 if started else USAGE
