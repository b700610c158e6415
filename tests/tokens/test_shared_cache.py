"""Channels of one source share its cache: one token, or one for each audience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import jwt
import pytest
from google.oauth2 import service_account as google_service_account

from aio_authgrpc import (
    AiohttpRequest,
    ConfigurationError,
    Connection,
    SslCredentials,
    TokenRequest,
    connect,
    service_account,
    static_token,
    token_source,
)
from aio_authgrpc._tokens import shared
from aio_authgrpc._tokens.shared import CacheLease, lease_cache
from aio_authgrpc.bookstore import BookstoreStub
from aio_authgrpc.testing import Authority, EchoServer, EchoStub, MetadataServer, ScriptedTokens
from aio_authgrpc.tokens import TokenCache, shared_cache

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


async def test_closing_the_cache_of_one_channel_closes_that_of_no_other(
    authority: Authority, echo_server: EchoServer, other_server: EchoServer
) -> None:
    """Nor its own: the cache is closed with the last channel that uses it."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    one, other = connection(echo_server, source), connection(other_server, source)
    async with one as first, other as second:
        async with one.auth:
            await first.UnaryUnary(b"x")
        await one.auth.aclose()
        await second.UnaryUnary(b"x")
        await first.UnaryUnary(b"x")
        async with connection(echo_server, source) as third:
            await third.UnaryUnary(b"x")
        cache = one.auth
    assert authority.token_requests == 1
    assert cache.closed
    assert shared._open == {}


async def test_keep_warm_works_on_a_shared_cache(authority: Authority, echo_server: EchoServer) -> None:
    """It refreshes from the opening on, without a call."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    fetched = asyncio.Event()
    async with connection(echo_server, source, keep_warm=True, on_event=lambda _: fetched.set()):
        await fetched.wait()
    assert (authority.token_requests, echo_server.calls) == (1, [])


async def test_a_channel_that_is_kept_warm_shares_no_cache_with_one_that_is_not(
    echo_server: EchoServer,
) -> None:
    """The second sends nothing while it is idle, whichever was opened first."""
    source = ScriptedTokens()
    warm, other = connection(echo_server, source, keep_warm=True), connection(echo_server, source)
    async with warm, other:
        assert warm.auth is not other.auth


async def test_a_listener_hears_nothing_after_its_channel_was_closed(
    echo_server: EchoServer, other_server: EchoServer
) -> None:
    """Another channel goes on with the cache."""
    source, heard, heard_by_other = static_token("t"), list[object](), list[object]()
    async with connection(other_server, source, audience="a", on_event=heard_by_other.append) as other:
        async with connection(echo_server, source, audience="a", on_event=heard.append):
            pass
        await other.UnaryUnary(b"x")
    assert len(heard_by_other) == 2
    assert heard == []


async def test_a_second_channel_that_cannot_be_opened_leaves_the_first_its_cache(
    echo_server: EchoServer, other_server: EchoServer, tmp_path: Path
) -> None:
    """And the cache is closed with the first."""
    source = static_token("t")
    first = connection(echo_server, source, audience="a")
    tls = SslCredentials(root_certificates=tmp_path / "missing.pem")
    second = connect(other_server.target, credentials=source, audience="a", ssl_credentials=tls)
    async with first as stub:
        with pytest.raises(ConfigurationError, match=r"missing\.pem"):
            await second.__aenter__()
        await stub.UnaryUnary(b"x")
        cache = first.auth
    assert cache.closed
    assert shared._open == {}


def test_a_lease_of_a_loop_that_ended_can_be_given_back() -> None:
    """On another loop, whose leases stay."""
    source, leases = static_token("t"), list[CacheLease]()

    async def lease_another(request: AiohttpRequest) -> None:
        leases.append(await lease_cache(source, audience="a", request=request, keep_warm=False))
        await leases[0].give_back()

    async def main(request: AiohttpRequest) -> None:
        leases.append(await lease_cache(source, audience="a", request=request, keep_warm=False))

    request = AiohttpRequest()
    asyncio.run(main(request))
    asyncio.run(lease_another(request))
    assert [lease.cache.closed for lease in leases] == [True, False]
    shared._open.clear()


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


async def test_a_lease_after_all_others_were_given_back_has_a_new_cache() -> None:
    """The old one is closed."""
    arguments: dict[str, Any] = {"audience": "a", "request": None, "keep_warm": False}
    source = ScriptedTokens()
    old = await lease_cache(source, **arguments)
    await old.give_back()
    new = await lease_cache(source, **arguments)
    assert (old.cache.closed, new.cache.closed) == (True, False)
    await new.give_back()
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


async def test_a_channel_that_fails_after_its_lease_leaves_the_other_its_token(
    authority: Authority, echo_server: EchoServer
) -> None:
    """Here its certificate authorities cannot be read. The cache is closed with the last channel."""
    source = service_account(await authority.service_account_info(), scopes=SCOPES)
    missing = SslCredentials(root_certificates="missing.pem")
    opened = connection(echo_server, source)
    async with opened as stub:
        with pytest.raises(ConfigurationError, match=r"missing\.pem"):
            await connect(
                echo_server.target, EchoStub, credentials=source, ssl_credentials=missing
            ).__aenter__()
        await stub.UnaryUnary(b"x")
        auth = opened.auth
    assert auth.closed
    assert shared._open == {}
    assert authority.token_requests == 1


class WatchedLoop(asyncio.SelectorEventLoop):
    """A loop that lets something happen while it is asked whether it is closed.

    Attributes:
        meanwhile: What happens, once.
    """

    meanwhile: Callable[[], object] | None = None

    def is_closed(self) -> bool:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().is_closed()


def run_in_one_go(coroutine: Coroutine[None, None, None]) -> None:
    """Run what does not have to wait, as another thread would between two steps of this one."""
    with suppress(StopIteration):
        coroutine.send(None)


def test_a_loop_in_another_thread_may_lease_at_the_same_time() -> None:
    """The registry is one for all loops, and may change while a loop looks for those that were closed."""
    loop, leases = WatchedLoop(), list[CacheLease]()

    async def lease(request: AiohttpRequest) -> None:
        leases.append(await lease_cache(ScriptedTokens(), audience="a", request=request, keep_warm=False))

    async def main() -> None:
        async with AiohttpRequest() as request:
            await lease(request)
            loop.meanwhile = lambda: run_in_one_go(lease(request))
            await lease(request)
        for each in leases:
            await each.give_back()

    loop.run_until_complete(main())
    loop.close()
    assert len(leases) == 3
    assert shared._open == {}


async def test_each_loop_has_a_cache_of_its_own() -> None:
    """A cache belongs to one; so does its transport."""
    source, caches = ScriptedTokens(), list[TokenCache]()

    async def lease() -> None:
        leased = await lease_cache(source, audience="a")
        caches.append(leased.cache)
        if len(caches) == 1:
            await asyncio.to_thread(asyncio.run, lease())
        await leased.give_back()

    await lease()
    assert caches[0] is not caches[1]
    assert [cache.closed for cache in caches] == [True, True]


async def test_a_lease_of_a_forgotten_cache_leaves_the_next_one_to_its_channels() -> None:
    """A forked child forgets those of its parent, and may have a copy of their loop."""
    source = ScriptedTokens()
    old = await lease_cache(source, audience="a")
    shared._open.clear()
    new = await lease_cache(source, audience="a")
    await old.give_back()
    again = await lease_cache(source, audience="a")
    assert again.cache is new.cache
    await new.give_back()
    await again.give_back()
    assert shared._open == {}
