"""httpx: the same tokens for REST, `httpx.AsyncClient(auth=TokenAuth(...))`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import httpx

from aio_authgrpc import ConfigurationError, Token
from aio_authgrpc._tokens.metadata import Metadata
from aio_authgrpc._tokens.source import header_of
from aio_authgrpc.tokens import TokenCache


class TokenAuth(httpx.Auth):
    """Adds the token of a cache to the requests of an `httpx.AsyncClient` for one origin.

        auth = TokenAuth(connection.auth, "https://bookstore.example.com")
        async with httpx.AsyncClient(auth=auth) as client: ...

    A request that is refused with 401 is sent once more with a new token, if its body is in memory.
    Cancelling a request that waits for its token does not affect others.

    Args:
        tokens: The cache, of a connection (`connection.auth`) or one of yours. It stays open.
        origin: The URL whose scheme, host and port get the token. Requests to others, also by a redirect,
            are sent without. `http://` is taken for this machine alone.

    Raises:
        ConfigurationError: The origin is not an https URL.
    """

    def __init__(self, tokens: TokenCache, origin: str) -> None:
        if "://" not in origin:
            raise ConfigurationError(
                "it is no URL.",
                field="origin",
                hint="Write it with its scheme: 'https://bookstore.example.com'.",
            )
        url = httpx.URL(origin)
        if url.scheme != "https" and url.host not in ("localhost", "127.0.0.1", "::1"):
            raise ConfigurationError(
                "the token would cross the network in the clear.", field="origin", hint="Use an https:// URL."
            )
        self._tokens = tokens
        self._header = header_of(tokens.source, None) or "authorization"
        self._origin = _origin_of(url)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Refuse: tokens are fetched on an event loop."""
        raise ConfigurationError(
            "it is for asyncio.", field="auth", hint="Use httpx.AsyncClient in place of httpx.Client."
        )

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send the request with the token, and once more where the server refuses it.

        Raises:
            AuthRpcError: There is no token.
        """
        if _origin_of(request.url) != self._origin:
            yield request
            return
        token = await self._tokens.get()
        request.headers.update(self._headers(token))
        response = yield request
        # A redirect may have led elsewhere, whose refusal says nothing of the token.
        refused = response.status_code == 401 and _origin_of(response.request.url) == self._origin
        if not refused or not isinstance(request.stream, httpx.ByteStream):
            return
        if self._tokens.reject(token, challenge=response.headers.get("www-authenticate", "")):
            token = await self._tokens.get()
            request.headers.update(self._headers(token))
            yield request

    def _headers(self, token: Token) -> Metadata:
        """Return a token's headers.

        httpx takes `authorization` off a request that is redirected to another origin, and no other header.
        """
        headers = token.as_metadata(self._header)
        others = {key for key, _ in headers} - {"authorization", "x-goog-user-project"}
        if others:
            raise ConfigurationError(
                f"httpx would send {min(others)!r} on to where a server redirects.",
                field="auth",
                hint="Use aio_authgrpc.aiohttp.token_middleware, or a source of one authorization header.",
            )
        return headers

    def __repr__(self) -> str:
        scheme, host, port = self._origin
        return f"<TokenAuth for {scheme}://{host}{'' if port is None else f':{port}'}>"


def _origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # httpx drops a scheme's own port
