"""The identity of a test's own caller."""

from __future__ import annotations

from aio_authgrpc import id_token, service_account
from aio_authgrpc.testing.google.authority import Authority
from aio_authgrpc.tokens import Token, TokenRequest, TokenSource


class AuthoritySource:
    """ID tokens of a service account, from an authority's token endpoint.

    Args:
        authority: Has the account. The first token makes it.
        audience: The audience of the tokens.
    """

    def __init__(self, authority: Authority, *, audience: str) -> None:
        self._authority = authority
        self._audience = audience
        self._source: TokenSource | None = None

    async def fetch(self, request: TokenRequest) -> Token:
        """Return an ID token. See `TokenSource`."""
        if self._source is None:
            key_file = await self._authority.service_account_info()
            self._source = id_token(self._audience, credentials=service_account(key_file))
        return await self._source.fetch(request)
