"""The `aio-authgrpc` command. It needs the extra `cli`."""

from __future__ import annotations

import logging
import os
import sys
import warnings

# Top-level modules of the extra and of `testing`, which it includes.
_EXTRA = frozenset({"jwt", "rich", "trustme", "typer"})

# The exit code that shells report for a process ended by SIGINT: 128 + 2.
INTERRUPTED = 130


def main() -> None:
    """Run the command with the arguments of the process, and exit with its code.

    Exits with 2 and one line on stderr where the extra is not installed.
    """
    _say_things_once()
    try:
        from aio_authgrpc.cli.app import app  # noqa: PLC0415 - it needs the extra

        app()
    except ImportError as error:
        # Another missing module is a bug, and keeps its traceback.
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print("aio-authgrpc needs its extra: pip install 'aio-authgrpc[cli]'", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _say_things_once() -> None:
    """Keep stderr to the command's own words: what is logged becomes an error's text, or is no news."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.getLogger("aio_authgrpc").addHandler(logging.NullHandler())
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
