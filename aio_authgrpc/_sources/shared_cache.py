"""The token cache of given credentials, for what is not a channel of this package."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._loop.clock import Clock
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
    clock: Clock | None = None,
) -> AsyncGenerator[TokenCache]:
    """Yield the token cache that the channels of the running event loop have for the same credentials.

    For clients that are not built on a channel of this package: with the same `credentials` object they and
    the channels fetch each token once. The cache is closed with the last of its users; do not close it.

    Args:
        credentials: See `connect`.
        audience: The audience of the tokens: `https://<host>` of the server, as a channel has it. Sources
            whose tokens are good for every audience ignore it.
        request: The HTTP transport for tokens; it stays the caller's. None makes one. Those that
            share a cache were given the same one, and the same `keep_warm` and `clock`.
        keep_warm: See `connect`.
        clock: See `connect`.

    Raises:
        ConfigurationError: On entry: an argument, a file or the environment cannot be used.
    """
    source = as_token_source(credentials)
    lease = await lease_cache(source, audience=audience, request=request, keep_warm=keep_warm, clock=clock)
    try:
        yield lease.cache
    finally:
        await lease.give_back()
