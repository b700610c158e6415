"""gapic.credentials(): google-auth's credentials over the token cache of an event loop, for any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.auth.exceptions import RefreshError
from google.auth.transport.grpc import AuthMetadataPlugin

from aio_authgrpc import Token, TokenRequest, api_key, connect, service_account
from aio_authgrpc.errors import TokenRefusedError, TokenUnavailableError
from aio_authgrpc.gapic import CachedCredentials, credentials
from aio_authgrpc.testing import Authority, EchoServer, EchoStub, FakeClock, ScriptedTokens

METHOD = "/aio_authgrpc.testing.Echo/UnaryUnary"
URL = "https://storage.googleapis.com/storage/v1/b/bucket"


@pytest.fixture
async def shared(tokens: ScriptedTokens) -> AsyncIterator[CachedCredentials]:
    async with credentials(tokens) as shared:
        yield shared


def headers(given: CachedCredentials, url: str = URL) -> dict[str, str]:
    """Return what a request carries, as google-auth's transports ask for it."""
    found: dict[str, str] = {}
    given.before_request(None, "GET", url, found)
    return found


def composite(server: EchoServer, given: CachedCredentials) -> grpc.ChannelCredentials:
    """Return channel credentials as google-api-core makes them."""
    plugin = AuthMetadataPlugin(given, None)
    return grpc.composite_channel_credentials(server.ssl_credentials, grpc.metadata_call_credentials(plugin))


def call_in_sync(server: EchoServer, given: CachedCredentials) -> bytes:
    with grpc.secure_channel(server.target, composite(server, given)) as channel:
        return bytes(channel.unary_unary(METHOD)(b"x", timeout=10))


def in_a_thread(function: Callable[[], Any]) -> Any:
    """Run a function in a thread, and block this one until its end; raise what it raises."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except Exception as error:  # noqa: BLE001 - raised again
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


async def test_every_arity_of_a_channel_of_googles_carries_the_token(
    arity: Any, echo_server: EchoServer, shared: CachedCredentials, tokens: ScriptedTokens
) -> None:
    """grpc.aio asks in a thread for each call; the loop answers."""
    async with grpc.aio.secure_channel(echo_server.target, composite(echo_server, shared)) as channel:
        for _ in range(2):
            assert await arity.finish(arity.begin(EchoStub(channel))) == arity.responses
    assert [call.values("authorization") for call in echo_server.calls] == [("Bearer token-1",)] * 2
    assert tokens.fetches == 1


async def test_a_synchronous_channel_in_a_thread_carries_the_token(
    echo_server: EchoServer, shared: CachedCredentials
) -> None:
    """As a synchronous google-cloud client does."""
    assert await asyncio.to_thread(call_in_sync, echo_server, shared) == b"x"
    assert echo_server.calls[0].values("authorization") == ("Bearer token-1",)


async def test_a_channel_with_the_same_source_shares_the_token(
    echo_server: EchoServer, shared: CachedCredentials, tokens: ScriptedTokens
) -> None:
    """One token request for a process that has both kinds of client."""
    connection = connect(
        echo_server.target, EchoStub, credentials=tokens, ssl_credentials=echo_server.ssl_credentials
    )
    target = f"https://{echo_server.target}/{METHOD}"
    async with connection as stub:
        await asyncio.gather(stub.UnaryUnary(b"x"), asyncio.to_thread(headers, shared, target))
    assert tokens.fetches == 1


async def test_many_threads_make_one_token_request(shared: CachedCredentials, tokens: ScriptedTokens) -> None:
    """They wait for the same refresh."""
    gate = tokens.hold()
    waiting = [asyncio.create_task(asyncio.to_thread(headers, shared)) for _ in range(20)]
    await gate.wait_for(1)
    gate.release()
    assert await asyncio.gather(*waiting) == [{"authorization": "Bearer token-1"}] * 20
    assert tokens.fetches == 1


async def test_the_token_and_its_end_are_those_of_google_auth(shared: CachedCredentials) -> None:
    """For code that looks: naive UTC, and valid."""
    assert not shared.valid
    await asyncio.to_thread(shared.refresh, None)
    assert shared.token == "token-1"
    assert shared.valid
    assert shared.expiry.tzinfo is None
    found: dict[str, str] = {}
    shared.apply(found)
    assert found == {"authorization": "Bearer token-1"}


async def test_a_token_without_an_end_stays_valid(shared: CachedCredentials, tokens: ScriptedTokens) -> None:
    """google-auth's None."""
    tokens.lifetime = None
    await asyncio.to_thread(headers, shared)
    assert (shared.expiry, shared.expired) == (None, False)


async def test_a_token_that_ends_soon_is_replaced_in_the_background(
    tokens: ScriptedTokens, fake_clock: FakeClock
) -> None:
    """The request is served the old one, and the next one the new one."""
    async with credentials(tokens, clock=fake_clock) as shared:
        await asyncio.to_thread(headers, shared)
        gate = tokens.hold()
        fake_clock.advance(3500)
        assert (await asyncio.to_thread(headers, shared))["authorization"] == "Bearer token-1"
        await gate.wait_for(1)
        gate.release()
        while (await asyncio.to_thread(headers, shared))["authorization"] == "Bearer token-1":
            pass
    assert tokens.fetches == 2


async def test_a_token_that_has_ended_is_waited_for(tokens: ScriptedTokens, fake_clock: FakeClock) -> None:
    """The next request has the new one."""
    async with credentials(tokens, clock=fake_clock) as shared:
        await asyncio.to_thread(headers, shared)
        fake_clock.advance(3600)
        assert (await asyncio.to_thread(headers, shared))["authorization"] == "Bearer token-2"


async def test_refresh_takes_the_last_token_for_refused(
    tokens: ScriptedTokens, fake_clock: FakeClock
) -> None:
    """As google-auth means it after an answer of 401; a token of the last ten seconds is kept."""
    async with credentials(tokens, clock=fake_clock) as shared:
        await asyncio.to_thread(headers, shared)
        await asyncio.to_thread(shared.refresh, None)
        assert shared.token == "token-1"
        fake_clock.advance(11)
        await asyncio.to_thread(shared.refresh, None)
        assert shared.token == "token-2"
        assert await asyncio.to_thread(headers, shared) == {"authorization": "Bearer token-2"}


async def test_a_token_that_a_channel_had_refused_is_not_served_again(
    echo_server: EchoServer, tokens: ScriptedTokens, fake_clock: FakeClock
) -> None:
    """The cache is one: what the channel takes back is gone for the threads, from the second request on."""
    arguments: Any = {
        "credentials": tokens,
        "clock": fake_clock,
        "ssl_credentials": echo_server.ssl_credentials,
    }
    url = f"https://{echo_server.target}/service"
    async with (
        credentials(tokens, clock=fake_clock) as shared,
        connect(echo_server.target, EchoStub, **arguments) as stub,
    ):
        await asyncio.to_thread(headers, shared, url)
        fake_clock.advance(11)
        echo_server.refuse()
        await stub.UnaryUnary(b"x")
        await asyncio.to_thread(headers, shared, url)  # the loop is told to look again
        assert await asyncio.to_thread(headers, shared, url) == {"authorization": "Bearer token-2"}


# The thread of the loop


async def test_a_request_on_the_thread_of_the_loop_is_served_what_is_at_hand(
    shared: CachedCredentials,
) -> None:
    """It cannot wait for the loop, and need not."""
    await asyncio.to_thread(headers, shared)
    assert headers(shared) == {"authorization": "Bearer token-1"}


async def test_a_stale_token_is_served_on_the_thread_of_the_loop(
    tokens: ScriptedTokens, fake_clock: FakeClock
) -> None:
    """While the cache refreshes it."""
    async with credentials(tokens, clock=fake_clock) as shared:
        await asyncio.to_thread(headers, shared)
        fake_clock.advance(3500)
        assert headers(shared) == {"authorization": "Bearer token-1"}


async def test_a_request_on_the_thread_of_the_loop_without_a_token_says_what_to_do(
    shared: CachedCredentials, tokens: ScriptedTokens
) -> None:
    """At once, where it would wait for itself for ever."""
    for attempt in (headers, lambda given: given.refresh(None)):
        with pytest.raises(RefreshError, match=r"asyncio\.to_thread"):
            attempt(shared)
    assert tokens.fetches == 0


async def test_a_thread_is_served_while_the_loop_is_blocked(tokens: ScriptedTokens) -> None:
    """As gRPC asks, in a thread of its own, for a synchronous call that blocks the loop's thread."""
    async with credentials(tokens, loop_timeout=3600) as shared:
        await asyncio.to_thread(headers, shared)
        assert in_a_thread(lambda: headers(shared)) == {"authorization": "Bearer token-1"}


async def test_a_thread_that_waits_for_a_blocked_loop_gives_up(tokens: ScriptedTokens) -> None:
    """With what to do about it, and without a token request afterwards."""
    async with credentials(tokens, loop_timeout=0.05) as shared:
        with pytest.raises(RefreshError, match="blocked, perhaps by a synchronous request"):
            in_a_thread(lambda: headers(shared))
        await asyncio.sleep(0)
    assert tokens.fetches == 0


async def test_a_stale_token_is_served_while_the_loop_is_blocked(
    tokens: ScriptedTokens, fake_clock: FakeClock
) -> None:
    """It has some seconds left: better than none."""
    async with credentials(tokens, clock=fake_clock, loop_timeout=0.05) as shared:
        await asyncio.to_thread(headers, shared)
        fake_clock.advance(3500)
        assert in_a_thread(lambda: headers(shared)) == {"authorization": "Bearer token-1"}


def test_a_loop_that_has_stopped_or_was_closed_is_an_error() -> None:
    """After `asyncio.run()` no loop fetches a token."""
    tokens = ScriptedTokens()
    loop = asyncio.new_event_loop()
    opening = credentials(tokens, loop_timeout=0.05)
    shared = loop.run_until_complete(opening.__aenter__())
    with pytest.raises(RefreshError, match="did not answer within"):
        headers(shared)
    loop.run_until_complete(opening.__aexit__(None, None, None))
    loop.close()
    with pytest.raises(RefreshError, match="credentials were closed"):
        headers(shared)


def test_a_loop_that_was_closed_before_the_credentials_is_an_error() -> None:
    """A fresh token is served all the same."""
    loop = asyncio.new_event_loop()
    opening = credentials(ScriptedTokens())
    shared = loop.run_until_complete(opening.__aenter__())
    loop.run_until_complete(asyncio.to_thread(headers, shared))
    loop.close()
    assert headers(shared) == {"authorization": "Bearer token-1"}
    with pytest.raises(RefreshError, match="event loop of the credentials was closed"):
        headers(shared, "https://another.googleapis.com/path")


# Their end


async def test_closed_credentials_refuse(tokens: ScriptedTokens) -> None:
    """Although a token would be at hand."""
    async with credentials(tokens) as shared:
        await asyncio.to_thread(headers, shared)
    with pytest.raises(RefreshError, match="were closed"):
        await asyncio.to_thread(headers, shared)


async def test_a_thread_that_waits_is_told_of_the_end(tokens: ScriptedTokens) -> None:
    """It would wait for ever."""
    gate = tokens.hold()
    async with credentials(tokens) as shared:
        waiting = asyncio.create_task(asyncio.to_thread(headers, shared))
        await gate.wait_for(1)
    with pytest.raises(RefreshError, match="closed while a request waited"):
        await waiting


# What goes wrong


@pytest.mark.parametrize(
    ("error", "retryable"),
    [(TokenRefusedError("It said no."), False), (TokenUnavailableError("Nobody is there."), True)],
    ids=["refused", "unavailable"],
)
async def test_a_failure_is_google_auths_with_ours_as_its_cause(
    error: Exception, retryable: bool, shared: CachedCredentials, tokens: ScriptedTokens
) -> None:
    """google-cloud's retries read `retryable`."""
    tokens.fail(error, times=None)
    with pytest.raises(RefreshError, match=r"It said no\.|Nobody is there\.") as caught:
        await asyncio.to_thread(headers, shared)
    assert caught.value.retryable is retryable
    assert isinstance(caught.value.__cause__, type(error))


class Broken(ScriptedTokens):
    """A source of a user's own, whose look-up fails."""

    async def load(self, request: TokenRequest) -> None:
        raise LookupError("of the user's own")


async def test_an_error_of_a_users_own_source_reaches_the_thread() -> None:
    """As it is."""
    async with credentials(Broken()) as shared:
        with pytest.raises(LookupError, match="of the user's own"):
            await asyncio.to_thread(headers, shared)


# Audience, header, project


class Audiences:
    """A source whose token is the audience that it was asked for."""

    async def fetch(self, request: TokenRequest) -> Token:
        return Token(request.audience)


@pytest.mark.parametrize(
    ("audience", "expected"),
    [(None, "https://storage.googleapis.com"), ("https://another", "https://another")],
)
async def test_the_audience_is_the_host_of_the_request_or_the_given_one(
    audience: str | None, expected: str
) -> None:
    """As a channel's is."""
    async with credentials(Audiences(), audience=audience) as shared:
        assert (await asyncio.to_thread(headers, shared))["authorization"] == f"Bearer {expected}"


async def test_a_service_account_without_scopes_signs_for_the_host(authority: Authority) -> None:
    """No token request is made, and each host gets a token of its own."""
    async with credentials(service_account(await authority.service_account_info())) as shared:
        first = await asyncio.to_thread(headers, shared, "https://a.googleapis.com/x")
        second = await asyncio.to_thread(headers, shared, "https://b.googleapis.com/x")
    assert first != second
    assert authority.token_requests == 0


async def test_a_source_with_a_header_of_its_own_keeps_it() -> None:
    """An API key is no bearer token."""
    async with credentials(api_key("the-key", header="x-goog-api-key")) as shared:
        assert await asyncio.to_thread(headers, shared) == {"x-goog-api-key": "the-key"}


async def test_another_project_can_pay(shared: CachedCredentials) -> None:
    """google-api-core asks for it with `client_options.quota_project_id`."""
    other = shared.with_quota_project("another")
    assert await asyncio.to_thread(headers, other) == {
        "authorization": "Bearer token-1",
        "x-goog-user-project": "another",
    }
    assert "x-goog-user-project" not in await asyncio.to_thread(headers, shared)


async def test_they_are_of_a_universe_and_show_no_secret(tokens: ScriptedTokens) -> None:
    """Some clients compare the universe with their own."""
    async with credentials(tokens, universe_domain="universe.example") as shared:
        await asyncio.to_thread(headers, shared)
        assert shared.universe_domain == "universe.example"
        assert "token-1" not in repr(shared)
