"""The options of `token`, `jwt` and `explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aio_authgrpc.cli.options import AsJson, CredentialOptions, TokenType, with_options


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
