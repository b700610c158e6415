"""The commands `token`, `jwt` and `explain`: what a credential gives, shown in the terminal."""

from __future__ import annotations

import time
from contextlib import aclosing
from pathlib import Path

from rich.text import Text

from aio_authgrpc import AiohttpRequest, Token, TokenRequest, TokenSource, service_account_jwt
from aio_authgrpc.cli.claims import claims_of, lifetime, with_dates
from aio_authgrpc.cli.console import advice, err, out, print_error, print_json, progress
from aio_authgrpc.cli.identity import chosen, credentials_of
from aio_authgrpc.cli.options import CredentialOptions, IdentityKind, TokenType
from aio_authgrpc.credentials import DefaultCredentialsExplanation
from aio_authgrpc.errors import ConfigurationError
from aio_authgrpc.tokens import TokenCache


async def print_token(wanted: TokenType, credential: CredentialOptions, *, decode: bool) -> int:
    """Fetch one token, and print it, or its claims."""
    is_id = wanted is TokenType.ID or (wanted is TokenType.AUTO and credential.audience is not None)
    kind = IdentityKind.ID if is_id else IdentityKind.ACCESS
    if kind is IdentityKind.ID and not credential.audience:
        raise ConfigurationError(
            "an ID token is for one audience.", field="--audience", hint="Pass --audience https://HOST."
        )
    if kind is IdentityKind.ID and credential.scopes:
        raise ConfigurationError(
            "an ID token has no scopes.", field="--scopes", hint="Leave out --audience, or --scopes."
        )
    identity = chosen(kind, credential, audience=credential.audience, reason="")
    return await _print(identity.source, audience=credential.audience or "", decode=decode)


async def print_jwt(
    file: Path,
    *,
    issuer: str | None,
    audiences: str,
    subject: str | None,
    email: str | None,
    seconds: int,
    decode: bool,
) -> int:
    """Sign one JWT with the key of a service account, and print it, or its claims."""
    source = service_account_jwt(
        file, issuer=issuer, audience=audiences, subject=subject, email=email, lifetime=seconds
    )
    return await _print(source, audience=audiences, decode=decode)


async def _print(source: TokenSource, *, audience: str, decode: bool) -> int:
    # Not entered: where loading fails or is interrupted, its HTTP session is closed all the same.
    async with aclosing(TokenCache(source, audience=audience)) as cache, progress("Waiting for the token"):
        await cache.load()
        token = await cache.get()
    if decode:
        claims = claims_of(token.value)
        if claims is None:
            err().print(f"The token is opaque: it has no claims to read. It {_lifetime(token)}.")
            return 1
        console = out()
        print_json(with_dates(claims) if console.is_terminal else dict(claims))
        return 0
    print(token.value)
    if out().is_terminal:
        err().print(Text(_lifetime(token), "dim"))
    return 0


def _lifetime(token: Token) -> str:
    return (
        "has no end that is known" if token.expires_at is None else lifetime(token.expires_at - time.time())
    )


async def explain(file: Path | None, *, as_json: bool) -> int:
    """Look up the default credentials, and print what was tried and found."""
    source = credentials_of(file)
    problem: ConfigurationError | None = None
    async with AiohttpRequest() as http, progress("Looking for credentials"):
        try:
            await source.google_credentials(TokenRequest(http=http, audience="", time=time.time()))
        except ConfigurationError as error:
            problem = error
    explanation = source.explain()
    if as_json:
        tried = [{"place": place, "outcome": outcome} for place, outcome in explanation.tried]
        told = None if problem is None else " ".join(advice(problem))
        print_json({"found": explanation.found, "tried": tried, "problem": told})
    else:
        _print_explanation(explanation)
        if problem is not None:
            print_error(problem)
    return 0 if problem is None else 1


def _print_explanation(explanation: DefaultCredentialsExplanation) -> None:
    console = out()
    last = len(explanation.tried) - 1
    for number, (place, outcome) in enumerate(explanation.tried):
        used = number == last and explanation.found is not None
        mark = ("found    ", "green") if used else ("not here ", "dim")
        console.print(Text.assemble(mark, f"{place}: {outcome}"))
    if explanation.found is not None:
        console.print(Text.assemble("Credentials: ", (explanation.found, "bold")))
