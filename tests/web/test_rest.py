"""The same tokens for REST: httpx's `auth=`, and aiohttp's middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from aio_authgrpc import ConfigurationError, api_key
from aio_authgrpc.aiohttp import token_middleware
from aio_authgrpc.errors import TokenRefusedError
from aio_authgrpc.httpx import TokenAuth
from aio_authgrpc.testing import FakeClock, ScriptedTokens
from aio_authgrpc.tokens import TokenCache

Get = Callable[..., Awaitable[int]]


class Service:
    """An HTTP server that records the `Authorization` of each request, and refuses tokens on demand."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []
        self.keys: list[str | None] = []
        self.refused: set[str | None] = set()
        self.redirects_to = ""

    async def answer(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization")
        self.seen.append(given)
        self.keys.append(request.headers.get("X-API-Key"))
        if self.redirects_to and request.path == "/redirect":
            raise web.HTTPFound(self.redirects_to)
        if given in self.refused:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        return web.Response(text="fine")


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/")


@pytest.fixture
async def service() -> Service:
    return Service()


@pytest.fixture
async def origin(service: Service) -> AsyncIterator[str]:
    async with serving(service) as url:
        yield url


@pytest.fixture(params=["httpx", "aiohttp"])
async def get(request: pytest.FixtureRequest, cache: TokenCache, origin: str) -> AsyncIterator[Get]:
    """Give a function that sends a request with the cache's tokens, and returns the status."""
    if request.param == "httpx":
        async with httpx.AsyncClient(auth=TokenAuth(cache, origin), follow_redirects=True) as client:

            async def with_httpx(url: str, **arguments: Any) -> int:
                return (await client.request("POST" if arguments else "GET", url, **arguments)).status_code

            yield with_httpx
    else:
        async with ClientSession(middlewares=[token_middleware(cache, origin)]) as session:

            async def with_aiohttp(url: str, content: bytes | None = None) -> int:
                method = "GET" if content is None else "POST"
                async with session.request(method, url, data=content) as response:
                    return response.status

            yield with_aiohttp


async def test_requests_carry_the_token(
    get: Get, service: Service, origin: str, tokens: ScriptedTokens
) -> None:
    """One token request for many."""
    assert await asyncio.gather(*(get(f"{origin}/") for _ in range(10))) == [200] * 10
    assert service.seen == ["Bearer token-1"] * 10
    assert tokens.fetches == 1


async def test_a_refused_request_is_sent_once_more(
    get: Get, service: Service, origin: str, cache: TokenCache, fake_clock: FakeClock
) -> None:
    """With a new token."""
    await cache.get()
    fake_clock.advance(60)
    service.refused = {"Bearer token-1"}
    assert await get(f"{origin}/") == 200
    assert service.seen == ["Bearer token-1", "Bearer token-2"]


async def test_a_token_just_fetched_is_not_replaced(get: Get, service: Service, origin: str) -> None:
    """The refusal means the identity, not the token's age."""
    service.refused = {"Bearer token-1", "Bearer token-2"}
    assert await get(f"{origin}/") == 401
    assert service.seen == ["Bearer token-1"]


async def test_another_origin_gets_no_token(get: Get, service: Service, origin: str) -> None:
    """Neither directly nor by a redirect."""
    other = Service()
    async with serving(other) as elsewhere:
        assert await get(f"{elsewhere}/") == 200
        service.redirects_to = f"{elsewhere}/redirected"
        assert await get(f"{origin}/redirect") == 200
    assert other.seen == [None, None]
    assert service.seen == ["Bearer token-1"]


async def test_a_fragment_is_no_other_origin(get: Get, service: Service, origin: str) -> None:
    """It is not sent, and the token is."""
    assert await get(f"{origin}/a#part") == 200
    assert service.seen == ["Bearer token-1"]


async def test_a_body_arrives(get: Get, service: Service, origin: str) -> None:
    """A request with content is authenticated, too."""
    assert await get(f"{origin}/", content=b"x") == 200
    assert service.seen == ["Bearer token-1"]


async def test_without_a_token_nothing_is_sent(
    get: Get, service: Service, origin: str, tokens: ScriptedTokens
) -> None:
    """The error is the one that an RPC would raise."""
    tokens.fail(RuntimeError("no"), times=None)
    with pytest.raises(TokenRefusedError):
        await get(f"{origin}/")
    assert service.seen == []


async def test_anothers_refusal_does_not_cost_the_token(
    get: Get, service: Service, origin: str, cache: TokenCache, fake_clock: FakeClock, tokens: ScriptedTokens
) -> None:
    """It says nothing of a token that it never saw."""
    other = Service()
    other.refused = {None}
    await cache.get()
    fake_clock.advance(60)
    async with serving(other) as elsewhere:
        service.redirects_to = f"{elsewhere}/redirected"
        assert await get(f"{origin}/redirect") == 401
    assert other.seen == [None]
    assert service.seen == ["Bearer token-1"]
    assert tokens.fetches == 1


async def test_a_source_with_a_header_of_its_own_keeps_it(service: Service, origin: str) -> None:
    """An API key is no bearer."""
    async with TokenCache(api_key("the-key")) as cache:
        async with ClientSession(middlewares=[token_middleware(cache, origin)]) as session:
            await (await session.get(origin)).read()
        auth = TokenAuth(cache, origin)
        async with httpx.AsyncClient(auth=auth) as client:
            with pytest.raises(ConfigurationError, match="x-api-key"):
                await client.get(origin)
    assert service.seen == [None]
    assert service.keys == ["the-key"]


@pytest.mark.parametrize("make", [TokenAuth, token_middleware], ids=["httpx", "aiohttp"])
async def test_an_origin_in_the_clear_is_refused(make: Any, cache: TokenCache) -> None:
    """The token would cross the network; this machine is excepted."""
    with pytest.raises(ConfigurationError, match="in the clear"):
        make(cache, "http://bookstore.example.com")


@pytest.mark.parametrize("make", [TokenAuth, token_middleware], ids=["httpx", "aiohttp"])
async def test_an_origin_without_a_scheme_is_refused(make: Any, cache: TokenCache) -> None:
    """The error writes it with one."""
    with pytest.raises(ConfigurationError, match="https://"):
        make(cache, "bookstore.example.com")


async def test_a_synchronous_client_is_refused(cache: TokenCache, origin: str) -> None:
    """Tokens are fetched on an event loop."""
    with pytest.raises(ConfigurationError, match="AsyncClient"):
        TokenAuth(cache, origin).sync_auth_flow(httpx.Request("GET", origin))
