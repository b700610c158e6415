"""The verdict on a token: its issuer, its times, its audience and its signature, in Envoy's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import grpc

from aio_authgrpc.testing.guard.keys import RemoteKeys
from aio_authgrpc.testing.guard.providers import JwtProvider
from aio_authgrpc.testing.guard.refusal import RefusedError, unauthenticated
from aio_authgrpc.testing.guard.token import Jwt, read_jwt
from aio_authgrpc.tokens import Clock


class TokenCheck:
    """Check tokens of some providers, as Envoy's `jwt_authn` does. For tests alone.

    Args:
        providers: The issuers of accepted tokens.
        clock: Decides whether a token has expired.
        skew: The tolerance for `exp` and `nbf`, in seconds.
    """

    def __init__(self, providers: Sequence[JwtProvider], *, clock: Clock, skew: float) -> None:
        self._providers = {provider.issuer: provider for provider in providers}
        self._keys = RemoteKeys(clock=clock)
        self._clock = clock
        self._skew = skew

    async def claims_of(self, token: str) -> Mapping[str, object]:
        """Return the payload of a valid token.

        Raises:
            RefusedError: The token is invalid: PERMISSION_DENIED for another audience, UNAUTHENTICATED for
                every other fault.
        """
        read = read_jwt(token)
        provider = self._providers.get(str(read.claims.get("iss", "")))
        if provider is None:
            raise unauthenticated("Jwt issuer is not configured")
        check_times(read, now=self._clock.time(), skew=self._skew)
        check_audience(read, provider.audiences)
        await self._keys.check_signature(read, provider.jwks_url)
        return read.claims

    def forget_keys(self) -> None:
        """Drop the issuers' keys, so that the next token fetches them."""
        self._keys.forget()

    async def aclose(self) -> None:
        """Close the connections to the issuers."""
        await self._keys.aclose()


def check_times(token: Jwt, *, now: float, skew: float) -> None:
    """Return if `nbf` and `exp` hold. Times are whole seconds; an `exp` that is missing or 0 never comes.

    Raises:
        RefusedError: One of them does not.
    """
    if _seconds(token, "nbf") > int(now) + skew:
        raise unauthenticated("Jwt not yet valid")
    expires_at = _seconds(token, "exp")
    if expires_at and expires_at < int(now) - skew:
        raise unauthenticated("Jwt is expired")


def _seconds(token: Jwt, claim: str) -> int:
    return int(cast("float", token.claims.get(claim, 0)))


def check_audience(token: Jwt, audiences: Sequence[str]) -> None:
    """Return if the token is for one of the audiences. The scheme and a final slash do not count.

    Raises:
        RefusedError: It is not.
    """
    named = token.claims.get("aud", [])
    several = cast("list[str]", named if isinstance(named, list) else [named])
    if {_bare(audience) for audience in several}.isdisjoint({_bare(audience) for audience in audiences}):
        raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, "Audiences in Jwt are not allowed")


def _bare(audience: str) -> str:
    without_scheme = audience.removeprefix("http://" if audience.startswith("http://") else "https://")
    return without_scheme.removesuffix("/")
