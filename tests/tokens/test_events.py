"""Events: what happens to a token, told once, to whoever listens, without a secret."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import grpc
import pytest

from aio_authgrpc import AuthorizedChannel, ConfigurationError, connect, static_token
from aio_authgrpc.errors import TokenUnavailableError
from aio_authgrpc.events import (
    CallReplayed,
    RefreshFailed,
    RefreshStarted,
    RefreshSucceeded,
    StaleServed,
    TokenEvent,
    TokenRejected,
)
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock
from aio_authgrpc.tokens import TokenCache


@pytest.fixture
def told(cache: TokenCache) -> list[TokenEvent]:
    """Give what the cache tells from now on."""
    events: list[TokenEvent] = []
    cache.subscribe(events.append)
    return events


def kinds(events: list[TokenEvent]) -> list[type]:
    return [type(event) for event in events]


async def test_a_refresh_is_told_from_its_start_to_its_end(
    cache: TokenCache, told: list[Any], fake_clock: FakeClock
) -> None:
    """With what came of it."""
    await cache.get()
    started, succeeded = told
    assert started == RefreshStarted(at=fake_clock.time())
    assert succeeded == RefreshSucceeded(
        at=fake_clock.time(), generation=1, expires_at=fake_clock.time() + 3600, attempts=1, duration=0.0
    )


async def test_a_refresh_that_fails_is_told_with_its_error(
    cache: TokenCache, told: list[Any], tokens: Any
) -> None:
    """And with when the next may be, as the status has it."""
    tokens.fail(TokenUnavailableError("down"))
    with pytest.raises(TokenUnavailableError):
        await cache.get()
    assert kinds(told) == [RefreshStarted, RefreshFailed]
    assert str(told[1].error) == "UNAVAILABLE: down"
    assert told[1].next_attempt_at == pytest.approx(cache.status().next_attempt_at)


async def test_a_stale_token_is_told_once(
    cache: TokenCache, told: list[Any], fake_clock: FakeClock, tokens: Any
) -> None:
    """However many calls are served with it."""
    await cache.get()
    fake_clock.advance(3600 - 100)
    with tokens.hold() as gate:
        for _ in range(5):
            cache.current()
        await gate.arrived.wait()
    await cache.get()
    assert kinds(told).count(StaleServed) == 1


async def test_a_replay_is_told_with_the_challenge(
    channel: AuthorizedChannel,
    told: list[Any],
    echo_server: EchoServer,
    fake_clock: FakeClock,
    replayable: Any,
) -> None:
    """The token is rejected, the call is sent again, a new token is fetched."""
    stub = EchoStub(channel)
    await replayable.finish(replayable.begin(stub))
    fake_clock.advance(60)
    told.clear()
    echo_server.refuse(trailing=(("www-authenticate", 'Bearer error="invalid_token"'),))
    await replayable.finish(replayable.begin(stub))
    assert kinds(told) == [TokenRejected, CallReplayed, RefreshStarted, RefreshSucceeded]
    assert (told[0].taken_back, told[0].challenge) == (True, 'Bearer error="invalid_token"')


async def test_a_refusal_for_want_of_scope_is_not_replayed(
    channel: AuthorizedChannel, told: list[Any], echo_server: EchoServer, fake_clock: FakeClock, arity: Any
) -> None:
    """RFC 6750, 3.1: the token is good, and another would not do more."""
    stub = EchoStub(channel)
    await arity.finish(arity.begin(stub))
    fake_clock.advance(60)
    told.clear()
    echo_server.refuse(trailing=(("www-authenticate", 'Bearer error="insufficient_scope"'),))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await arity.finish(arity.begin(stub))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await asyncio.sleep(0)  # a call whose requests are a stream is asked by a callback
    assert [(type(event), event.taken_back) for event in told] == [(TokenRejected, False)]
    assert len(echo_server.calls) == 2


async def test_a_challenge_that_repeats_the_token_does_not_show_it(
    cache: TokenCache, told: list[Any], fake_clock: FakeClock
) -> None:
    """A server may be that careless."""
    token = await cache.get()
    fake_clock.advance(60)
    cache.reject(token, challenge="Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl")
    assert told[-1].challenge == "Bearer [redacted]"


async def test_events_can_be_iterated(cache: TokenCache, tokens: Any) -> None:
    """Until the cache is closed; those that came before are read first."""
    stream = cache.events()
    await cache.get()
    await cache.aclose()
    assert kinds([event async for event in stream]) == [RefreshStarted, RefreshSucceeded]


async def test_an_iteration_waits_for_the_next_event(cache: TokenCache) -> None:
    """And ends with its block."""
    async with cache.events() as stream:
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await cache.get()
        assert type(await waiting) is RefreshStarted
    assert [type(event) async for event in stream] == [RefreshSucceeded]


async def test_a_slow_reader_loses_the_oldest(cache: TokenCache, fake_clock: FakeClock) -> None:
    """The newest are what matters."""
    async with cache.events() as stream:
        for _ in range(600):
            fake_clock.advance(3600)
            await cache.get()
    events = [event async for event in stream]
    assert (len(events), type(events[-1])) == (1000, RefreshSucceeded)
    assert events[-1].generation == 600  # type: ignore[attr-defined]  # it is one that has it


async def test_whoever_has_unsubscribed_is_told_nothing_more(cache: TokenCache) -> None:
    """Twice does no harm."""
    events: list[TokenEvent] = []
    unsubscribe = cache.subscribe(events.append)
    unsubscribe()
    unsubscribe()
    await cache.get()
    assert events == []


async def test_a_callback_that_raises_harms_nobody(cache: TokenCache, told: list[Any]) -> None:
    """It goes to the loop's exception handler; the refresh and the others go on."""
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

    def fail(event: TokenEvent) -> None:
        raise LookupError("a mistake")

    cache.subscribe(fail)
    await cache.get()
    assert [str(problem["exception"]) for problem in problems] == ["a mistake", "a mistake"]
    assert cache.status().generation == 1


async def test_connect_takes_a_callback(echo_server: EchoServer) -> None:
    """From the first refresh on, also one that ready_timeout starts; until the connection is closed."""
    events: list[TokenEvent] = []
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=static_token("t"),
        ssl_credentials=echo_server.ssl_credentials,
        ready_timeout=10,
        on_event=events.append,
    ):
        pass
    assert kinds(events) == [RefreshStarted, RefreshSucceeded]


def test_what_is_no_callback_is_refused() -> None:
    """At the call."""
    with pytest.raises(ConfigurationError, match="on_event"):
        connect("host", EchoStub, on_event=5)  # type: ignore[call-overload]  # the mistake


def test_every_event_is_a_frozen_value_without_a_token() -> None:
    """What they can hold is all there is to show."""
    for kind in (CallReplayed, RefreshFailed, RefreshStarted, RefreshSucceeded, StaleServed, TokenRejected):
        fields = {field.name for field in dataclasses.fields(kind)}
        assert fields.isdisjoint({"token", "value", "metadata"})
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]  # every dataclass has it
