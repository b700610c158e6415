"""The Typer application: its commands, in the order of the help, each with its examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

import aio_authgrpc
from aio_authgrpc.cli.commands import calls, servers, tokens

# Typer's own tracebacks can show local variables, and with them tokens: Python's are enough.
app = typer.Typer(
    name="aio-authgrpc",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def options(
    *, version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False
) -> None:
    """Authenticated gRPC clients for asyncio.

    Exit codes: 0 for success, 1 for a fault that was found, 2 for arguments or credentials that cannot be
    used, 64 + N for the gRPC status N, 130 after Ctrl-C.
    """
    if version:
        typer.echo(f"aio-authgrpc {aio_authgrpc.__version__}")
        raise typer.Exit


COMMANDS: dict[Callable[..., None], tuple[str, ...]] = {
    calls.call: (
        "call bookstore-xyz.a.run.app",
        "call bookstore-xyz.a.run.app Bookstore/GetShelf --describe",
        """call bookstore-xyz.a.run.app Bookstore/GetShelf -d '{"shelf": 1}'""",
        "call pubsub.googleapis.com Publisher/ListTopics --proto pubsub.proto -d @request.json",
        "call localhost:8000 Chat/Talk --plaintext -d - < messages.json",
    ),
    calls.doctor: (
        "doctor bookstore-xyz.a.run.app",
        "doctor pubsub.googleapis.com google.pubsub.v1.Publisher/ListTopics",
        "doctor localhost:50051 --plaintext --json",
    ),
    tokens.token: (
        "token",
        "token --audience https://bookstore-xyz.a.run.app --decode",
        "token --impersonate deployer@PROJECT.iam.gserviceaccount.com --scopes openid,email",
    ),
    tokens.explain: (
        "explain",
        "explain --credentials key.json --json",
    ),
    tokens.jwt: ("jwt key.json --audiences bookstore.endpoints.PROJECT.cloud.goog",),
    servers.bookstore: (
        "bookstore --host bookstore.example.com --port 443 --use_tls true --auth_token @token.txt",
        "bookstore GetBook --shelf 1 --book 1 --api_key KEY",
    ),
    servers.serve: (
        "serve",
        "serve --json",
    ),
    servers.demo: (
        "demo",
        "demo --envoy",
    ),
}
for _command, _examples in COMMANDS.items():
    # A blank line between examples: one paragraph would run them together.
    _epilog = "\n\n".join(["Examples:", *(f"`aio-authgrpc {line}`" for line in _examples)])
    app.command(epilog=_epilog)(_command)
