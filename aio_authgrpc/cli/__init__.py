"""The `aio-authgrpc` command. What it needs beyond the package comes with the extra `cli`."""

from __future__ import annotations

import sys

# Top-level modules of the extra, with those of `testing`, which it contains.
_EXTRA = frozenset({"jwt", "rich", "trustme", "typer"})

# What a shell reports of a process that SIGINT ended: 128 + 2.
INTERRUPTED = 130


def main() -> None:
    """Run the command with the arguments of the process, and exit with its code.

    Exits with 2 and one line on stderr where the extra is not installed.
    """
    try:
        from aio_authgrpc.cli.app import app  # noqa: PLC0415 - it needs the extra

        app()
    except ImportError as error:
        # Whatever else cannot be imported is a bug, and keeps its traceback.
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print("aio-authgrpc needs its extra: pip install 'aio-authgrpc[cli]'", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
