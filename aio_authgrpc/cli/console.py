"""What every command does at the terminal: print, show that it waits, and end with an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import typer
from rich.console import Console
from rich.text import Text

from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc.cli import INTERRUPTED
from aio_authgrpc.errors import AuthGrpcError, ConfigurationError

BAD_ARGUMENT = 2
# The exit code of an RPC that ended with another status than OK: this number and the status's own, as
# grpcurl does it. 64 itself is OK's, and never used.
STATUS_BASE = 64

# Advice of the library names arguments of Python; the command has options in their place.
_OPTIONS = {
    "pass that one as connect(audience=...), or to the source.": "pass that one as --audience.",
    "pass credentials=.": "pass --credentials FILE.",
    "credentials=": "--credentials",
    "audience='https://...'": "--audience https://...",
    "audience=": "--audience",
    "authority=": "--authority",
    "target_principal='<its email>'": "--impersonate EMAIL",
    "target_principal=": "--impersonate",
    "plaintext=True": "--plaintext",
    "SslCredentials(root_certificates=...) with": "--root-certificates FILE with",
    "SslCredentials(client_certificate=...)": "--client-certificate FILE",
}

# A wait is shown where it is longer.
_PATIENCE = 1.0


def out() -> Console:
    """Return stdout's console. Only a terminal gets colours, and lines that wrap."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Return stderr's."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print one JSON value: indented and coloured on a terminal, else on one line."""
    console = out()
    if console.is_terminal:
        console.print_json(data=value)
    else:
        # Not by rich, whose width would wrap it.
        print(json.dumps(value, ensure_ascii=False), flush=True)


def print_error(error: BaseException) -> None:
    """Print an error and what to do about it, without a traceback and without a secret."""
    lines = [Text.assemble(("error: ", "bold red"), redacted(_text_of(error)))]
    lines += [Text.assemble(("hint: ", "bold cyan"), text) for text in advice(error)]
    for line in lines:
        err().print(line)


def advice(error: BaseException) -> list[str]:
    """Return what to do about an error, in the words of the command line; may be empty."""
    hint = error.hint if isinstance(error, AuthGrpcError) else ""
    notes: list[str] = getattr(error, "__notes__", [])
    return [redacted(_with_options(text)) for text in (hint, *notes) if text]


def _with_options(text: str) -> str:
    for argument, option in _OPTIONS.items():
        text = text.replace(argument, option)
    return text


def _text_of(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details() or ''}".rstrip(": ")
    if isinstance(error, ConfigurationError):
        return str(error).removesuffix(f" {error.hint}") if error.hint else str(error)
    return str(error)


def exit_code(code: grpc.StatusCode) -> int:
    """Return the exit code of an RPC's status."""
    number: int = code.value[0]
    return 0 if number == 0 else STATUS_BASE + number


@asynccontextmanager
async def progress(text: str) -> AsyncGenerator[None]:
    """Show on a terminal what is being waited for, once a second has passed."""
    console = err()
    if not console.is_terminal:
        yield
        return
    with contextlib.ExitStack() as shown:
        timer = asyncio.get_running_loop().call_later(
            _PATIENCE, lambda: shown.enter_context(console.status(f"{text} …"))
        )
        try:
            yield
        finally:
            timer.cancel()


def run(work: Coroutine[None, None, int]) -> None:
    """Run a command's coroutine, and exit with the code that it returns, or with that of its error."""
    try:
        code = asyncio.run(work)
    except KeyboardInterrupt:
        err().print("Interrupted.")
        code = INTERRUPTED
    except grpc.aio.AioRpcError as error:
        print_error(error)
        code = exit_code(error.code())
    except ConfigurationError as error:
        print_error(error)
        code = BAD_ARGUMENT
    sys.stdout.flush()
    raise typer.Exit(code)
