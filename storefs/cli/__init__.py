"""The command line: arguments to configuration, errors to one clear line and an exit code.

`main` is the entry point. Nothing here imports trio, pyfuse3 or a store's SDK before a command
needs it: `--help` is quick, and a daemon's parent starts it before there is any thread.
"""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run `storefs` with these arguments (the process's own if None) and exit."""
    from storefs.cli.app import run

    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


__all__ = ["main"]
