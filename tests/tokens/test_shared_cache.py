"""Channels of one source share its cache: one token, or one for each audience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import jwt
import pytest
from google.oauth2 import service_account as google_service_account

from aio_authgrpc import (
    AiohttpRequest,
    ConfigurationError,
    Connection,
    TokenRequest,
    connect,
    service_account,
    static_token,
    token_source,
)
from aio_authgrpc._tokens import shared
from aio_authgrpc._tokens.shared import lease_cache
from aio_authgrpc.bookstore import BookstoreStub
from aio_authgrpc.testing import Authority, EchoServer, EchoStub, MetadataServer, ScriptedTokens
from aio_authgrpc.tokens import shared_cache

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


@pytest.fixture
async def other_server() -> AsyncIterator[EchoServer]:
    async with EchoServer() as server:
        yield server


def connection(server: EchoServer, credentials: Any, **arguments: Any) -> Connection[EchoStub]:
    return connect(
        server.target,
        EchoStub,
        credentials=credentials,
        ssl_credentials=server.ssl_credentials,
        **arguments,
    )


def audience(server: EchoServer) -> Any:
    token = str(server.calls[-1].values("authorization")[0]).removeprefix("Bearer ")
    return jwt.decode(token, options={"verify_signature": False}).get("aud")


async def test_two_channels_of_one_source_share_its_token(
    authority: Authority, echo_server: EchoServer, other_server: EchoServer
) -> None:
    """An access token is valid for both servers; it is fetched once for all waiting calls."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    async with connection(echo_server, source) as one, connection(other_server, source) as other:
        await asyncio.gather(*(stub.UnaryUnary(b"x") for stub in (one, other) for _ in range(10)))
    assert authority.token_requests == 1


async def test_two_channels_of_one_google_credential_share_its_token(
    authority: Authority, echo_server: EchoServer, other_server: EchoServer
) -> None:
    """The object counts, not the source that is wrapped around it."""
    make = google_service_account.Credentials.from_service_account_info
    credentials = await asyncio.to_thread(make, await authority.service_account_info(), scopes=SCOPES)
    async with connection(echo_server, credentials) as one, connection(other_server, credentials) as other:
        await asyncio.gather(one.UnaryUnary(b"x"), other.UnaryUnary(b"x"))
    assert authority.token_requests == 1


async def test_two_channels_of_one_google_credential_send_each_its_own_audience(
    authority: Authority, echo_server: EchoServer, other_server: EchoServer
) -> None:
    """google-auth's plugin sends the first host's token to the second."""
    make = google_service_account.Credentials.from_service_account_info
    credentials = await asyncio.to_thread(make, await authority.service_account_info())
    async with connection(echo_server, credentials) as one, connection(other_server, credentials) as other:
        await one.UnaryUnary(b"x")
        await other.UnaryUnary(b"x")
    assert audience(echo_server) == f"https://{echo_server.target}/"
    assert audience(other_server) == f"https://{other_server.target}/"


async def test_a_channel_that_closes_leaves_the_other_the_token(
    authority: Authority, echo_server: EchoServer, other_server: EchoServer
) -> None:
    """Here it closes while the token is being fetched."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(connection(other_server, source))
        with authority.hold() as gate:
            async with connection(echo_server, source) as one:
                call, waiting = one.UnaryUnary(b"x"), other.UnaryUnary(b"x")
                await gate.arrived.wait()
            with pytest.raises(Exception, match="closed"):
                await call
        assert await waiting == b"x"
        await other.UnaryUnary(b"x")
    assert authority.token_requests == 1


async def test_a_source_may_be_used_again_when_all_its_channels_have_closed(
    authority: Authority, echo_server: EchoServer
) -> None:
    """The new cache gets the token that is still valid."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    opened = connection(echo_server, source)
    for _ in range(3):
        async with opened as stub:
            await stub.UnaryUnary(b"x")
    assert len(echo_server.calls) == 3
    assert authority.token_requests == 1


async def test_a_source_without_a_cache_key_is_asked_for_each_audience(
    echo_server: EchoServer, other_server: EchoServer
) -> None:
    """Its tokens may depend on the audience."""
    fetches = 0

    async def fetch() -> str:
        nonlocal fetches
        fetches += 1
        return f"token-{fetches}"

    source = token_source(fetch)
    async with connection(echo_server, source) as one, connection(other_server, source) as other:
        await one.UnaryUnary(b"x")
        await other.UnaryUnary(b"x")
        async with connection(echo_server, source) as again:
            await again.UnaryUnary(b"x")
    assert fetches == 2


async def test_a_channel_that_cannot_be_opened_leaves_nothing_behind(echo_server: EchoServer) -> None:
    """The next attempt reads the file again."""
    opened = connection(echo_server, service_account("missing.json"))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"missing\.json"):
            await opened.__aenter__()
    assert shared._open == {}


async def test_a_channel_that_is_cancelled_while_it_opens_leaves_nothing_behind(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it waits for a metadata server."""
    async with MetadataServer(authority) as server:
        monkeypatch.setenv("GCE_METADATA_IP", server.host)
        monkeypatch.setenv("CLOUDSDK_CONFIG", "/nowhere")
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        with server.hold(path="/") as gate:
            opening = asyncio.create_task(connect("host", BookstoreStub).__aenter__())
            await gate.arrived.wait()
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
    assert shared._open == {}


async def test_opening_may_be_cancelled_at_any_step_and_leaves_nothing_behind(
    authority: Authority, echo_server: EchoServer
) -> None:
    """Between any two steps of the event loop."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    async with AiohttpRequest() as http:
        await source.load(TokenRequest(http=http, audience="", time=0))  # from here on no thread
    for steps in range(100):
        opened = connection(echo_server, source)
        opening = asyncio.create_task(opened.__aenter__())
        for _ in range(steps):
            await asyncio.sleep(0)
        if opening.done():
            break
        opening.cancel()
        await asyncio.wait({opening})
        assert opening.cancelled(), f"after {steps} steps"
        assert shared._open == {}, f"after {steps} steps"
    assert opening.done()
    await opened.__aexit__(None, None, None)
    assert shared._open == {}


async def test_a_cache_that_its_user_closed_is_not_handed_out_again(
    authority: Authority, echo_server: EchoServer
) -> None:
    """`auth.aclose()` is public; the next connection gets a new cache."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    first = connection(echo_server, source)
    async with first:
        await first.auth.aclose()
        async with connection(echo_server, source) as stub:
            await stub.UnaryUnary(b"x")
    assert shared._open == {}


async def test_keep_warm_works_on_a_shared_cache(authority: Authority, echo_server: EchoServer) -> None:
    """It refreshes from the opening on, without a call."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    fetched = asyncio.Event()
    async with connection(echo_server, source, keep_warm=True, on_event=lambda _: fetched.set()):
        await fetched.wait()


def test_the_cache_of_a_loop_that_ended_is_forgotten_at_the_next_lease() -> None:
    """It can no longer be closed."""
    source = static_token("t")

    async def lease_only(request: AiohttpRequest) -> None:
        await lease_cache(source, audience="a", request=request, keep_warm=False)

    for _ in range(3):
        asyncio.run(lease_only(AiohttpRequest()))
    assert len(shared._open) == 1
    shared._open.clear()


# Leases


async def test_leases_of_one_source_and_audience_have_the_same_cache() -> None:
    """It is closed with the last one."""
    source = ScriptedTokens()
    one = await lease_cache(source, audience="a", request=None, keep_warm=False)
    other = await lease_cache(source, audience="a", request=None, keep_warm=False)
    assert one.cache is other.cache
    await one.give_back()
    assert not other.cache.closed
    await other.give_back()
    assert other.cache.closed
    assert shared._open == {}


async def test_a_lease_is_given_back_once() -> None:
    """The second time does nothing: the other channel keeps its cache."""
    source = ScriptedTokens()
    one = await lease_cache(source, audience="a", request=None, keep_warm=False)
    other = await lease_cache(source, audience="a", request=None, keep_warm=False)
    await one.give_back()
    await one.give_back()
    assert not other.cache.closed
    await other.give_back()


@pytest.mark.parametrize("arguments", [{"audience": "b"}, {"keep_warm": True}, {"source": ScriptedTokens()}])
async def test_leases_that_differ_have_caches_of_their_own(arguments: dict[str, Any]) -> None:
    """By audience, timer or source."""
    usual: dict[str, Any] = {"source": ScriptedTokens(), "audience": "a", "request": None, "keep_warm": False}
    one = await lease_cache(**usual)
    other = await lease_cache(**(usual | arguments))
    assert one.cache is not other.cache
    await one.give_back()
    assert not other.cache.closed
    await other.give_back()


async def test_leases_with_different_transports_have_caches_of_their_own() -> None:
    """A transport that was given stays open."""
    source = ScriptedTokens()
    async with AiohttpRequest() as http:
        one = await lease_cache(source, audience="a", request=http, keep_warm=False)
        other = await lease_cache(source, audience="a", request=None, keep_warm=False)
        assert one.cache is not other.cache
        await one.give_back()
        await other.give_back()
        assert not http.closed


async def test_a_lease_after_the_cache_was_closed_has_a_new_cache() -> None:
    """Giving back the lease of the closed one leaves the new one to its channels."""
    arguments: dict[str, Any] = {"audience": "a", "request": None, "keep_warm": False}
    source = ScriptedTokens()
    old = await lease_cache(source, **arguments)
    await old.cache.aclose()
    new = await lease_cache(source, **arguments)
    assert not new.cache.closed
    await old.give_back()
    again = await lease_cache(source, **arguments)
    assert again.cache is new.cache
    await new.give_back()
    await again.give_back()
    assert shared._open == {}


async def test_what_is_no_channel_can_have_the_channels_cache(
    authority: Authority, echo_server: EchoServer
) -> None:
    """By the same credentials, google-auth's included; it stays open until its last user has left."""
    make = google_service_account.Credentials.from_service_account_info
    credentials = await asyncio.to_thread(make, await authority.service_account_info(), scopes=SCOPES)
    async with shared_cache(credentials) as cache:
        opened = connection(echo_server, credentials)
        async with opened as stub:
            await asyncio.gather(stub.UnaryUnary(b"x"), cache.get())
            assert opened.auth is cache
        assert not cache.closed
    assert cache.closed
    assert authority.token_requests == 1


async def test_a_mistake_in_a_file_shows_when_a_shared_cache_is_opened() -> None:
    """As with a channel, and nothing is left open."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        async with shared_cache(service_account("/nowhere/key.json", scopes=SCOPES)):
            raise AssertionError
