"""The `aio-authgrpc` command. It needs the extra `cli`."""

from __future__ import annotations

import logging
import os
import sys
import warnings

# Top-level modules of the extra and of `testing`, which it includes.
_EXTRA = frozenset({"google.rpc", "grpc_reflection", "jwt", "rich", "trustme", "typer"})

# The exit code that shells report for a process ended by SIGINT: 128 + 2.
INTERRUPTED = 130


def main() -> None:
    """Run the command with the arguments of the process, and exit with its code.

    Exits with 2 and one line on stderr where the extra is not installed.
    """
    _keep_stderr_clean()
    try:
        from aio_authgrpc.cli.app import app  # noqa: PLC0415 - it needs the extra

        app()
    except ImportError as error:
        # Another missing module is a bug, and keeps its traceback.
        if not _EXTRA.intersection(_packages(error.name or "")):
            raise
        print("aio-authgrpc needs its extra: pip install 'aio-authgrpc[cli]'", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _packages(module: str) -> list[str]:
    """Return a module's name, and those of the packages that it is in."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _keep_stderr_clean() -> None:
    """Keep stderr to the command's own words: what is logged becomes an error's text, or is no news."""
    if "GRPC_VERBOSITY" not in os.environ:
        # gRPC's core has read the variable when it was imported, and logs each failed handshake. What Python
        # prints goes to a copy of the descriptor.
        sys.stderr = open(os.dup(2), "w", buffering=1, closefd=False)  # noqa: SIM115 - it is kept
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    logging.getLogger("aio_authgrpc").addHandler(logging.NullHandler())
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)
