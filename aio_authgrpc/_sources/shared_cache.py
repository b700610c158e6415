"""The token cache of given credentials, for what is not a channel of this package."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._sources.credentials import CredentialsType, as_token_source
from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc._tokens.shared import lease_cache


@asynccontextmanager
async def shared_cache(
    credentials: CredentialsType = None,
    *,
    audience: str = "",
    request: AiohttpRequest | None = None,
    keep_warm: bool = False,
) -> AsyncGenerator[TokenCache]:
    """Yield the token cache that the channels of the running event loop have for the same credentials.

    For clients that are not built on a channel of this package: with the same `credentials` object they and
    the channels fetch each token once. The cache is closed with the last of its users; do not close it.

    Args:
        credentials: See `connect`.
        audience: The audience of the tokens: `https://<host>` of the server, as a channel has it. Sources
            whose tokens are good for every audience ignore it.
        request: The HTTP transport for tokens; it stays the caller's. None makes one. Channels share the
            cache if they were given the same one.
        keep_warm: See `connect`; a cache is shared by those that agree on it.

    Raises:
        ConfigurationError: On entry: an argument, a file or the environment cannot be used.
    """
    lease = await lease_cache(
        as_token_source(credentials), audience=audience, request=request, keep_warm=keep_warm
    )
    try:
        yield lease.cache
    finally:
        await lease.give_back()
