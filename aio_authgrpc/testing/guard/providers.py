"""Whose tokens a guard accepts, and for which audiences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aio_authgrpc.testing.google.authority import Authority


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtProvider:
    """An issuer of accepted tokens.

    Attributes:
        issuer: The `iss` of its tokens.
        jwks_url: The address of its keys, plain HTTP: a JWKS. The guard of this package also takes a map from
            key id to X.509 certificate.
        audiences: The accepted values of `aud`.
    """

    issuer: str
    jwks_url: str
    audiences: Sequence[str]


def providers_of(authority: Authority, *, accept: Iterable[str], audience: str) -> list[JwtProvider]:
    """Return an authority and service accounts of it as providers.

    Args:
        authority: Its ID tokens need `audience`; its access tokens are accepted with their own audience.
        accept: The service accounts whose self-signed tokens are accepted.
        audience: The audience of the service.
    """
    audiences = [audience, authority.access_token_audience]
    of_authority = JwtProvider(issuer=authority.issuer, jwks_url=authority.jwks_url, audiences=audiences)
    of_accounts = [
        JwtProvider(issuer=email, jwks_url=authority.account_jwks_url(email), audiences=[audience])
        for email in accept
    ]
    return [of_authority, *of_accounts]
