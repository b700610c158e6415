"""Events as values, and the events that calls and connections cause."""

from __future__ import annotations

import asyncio
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
    """Give the events of the cache from now on."""
    events: list[TokenEvent] = []
    cache.subscribe(events.append)
    return events


def kinds(events: list[TokenEvent]) -> list[type]:
    return [type(event) for event in events]


async def test_a_replay_is_emitted_with_the_challenge(
    channel: AuthorizedChannel,
    told: list[Any],
    echo_server: EchoServer,
    fake_clock: FakeClock,
    replayable: Any,
) -> None:
    """The token is taken back, the call is sent again, and a new token is fetched."""
    stub = EchoStub(channel)
    await replayable.finish(replayable.begin(stub))
    fake_clock.advance(60)
    told.clear()
    echo_server.refuse(trailing=(("www-authenticate", 'Bearer error="invalid_token"'),))
    await replayable.finish(replayable.begin(stub))
    assert kinds(told) == [TokenRejected, CallReplayed, RefreshStarted, RefreshSucceeded]
    assert told[0].taken_back
    assert told[0].challenge == 'Bearer error="invalid_token"'


async def test_a_refusal_for_want_of_scope_is_not_replayed(
    channel: AuthorizedChannel, told: list[Any], echo_server: EchoServer, fake_clock: FakeClock, arity: Any
) -> None:
    """RFC 6750, section 3.1: a new token would have the same scope."""
    stub = EchoStub(channel)
    await arity.finish(arity.begin(stub))
    fake_clock.advance(60)
    told.clear()
    echo_server.refuse(trailing=(("www-authenticate", 'Bearer error="insufficient_scope"'),))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await arity.finish(arity.begin(stub))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await asyncio.sleep(0)  # a call whose requests are a stream is asked by a callback
    assert kinds(told) == [TokenRejected]
    assert not told[0].taken_back
    assert len(echo_server.calls) == 2


async def test_connect_takes_a_callback(echo_server: EchoServer) -> None:
    """It gets every event from the refresh that `ready_timeout` starts to the end of the connection."""
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
    assert {event.target for event in events} == {echo_server.target}


def test_an_on_event_that_is_not_callable_is_refused() -> None:
    """The call of `connect` raises."""
    with pytest.raises(ConfigurationError, match="on_event"):
        connect("host", EchoStub, on_event=5)  # type: ignore[call-overload]  # the mistake


# Events as values

EVENTS = [
    RefreshStarted(at=1.0),
    RefreshSucceeded(at=1.0, generation=2, expires_at=3.0, attempts=1, duration=0.5),
    RefreshFailed(at=1.0, error=TokenUnavailableError("down"), attempts=1, duration=0.5, next_attempt_at=2.0),
    StaleServed(at=1.0, expires_at=None),
    TokenRejected(at=1.0, taken_back=True, challenge=""),
    CallReplayed(at=1.0),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_has_no_field_for_a_secret(event: TokenEvent) -> None:
    """Its `repr` shows all of its fields, and an event may be logged."""
    assert vars(event).keys().isdisjoint({"token", "value", "metadata"})
    assert repr(event).startswith(f"{type(event).__name__}(at=1.0")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_immutable(event: TokenEvent) -> None:
    """All listeners get the same object."""
    with pytest.raises(AttributeError, match="cannot be changed"):
        event.at = 2.0  # type: ignore[misc]  # the mistake


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_equals_one_with_the_same_fields(event: TokenEvent) -> None:
    """Tests compare what they heard with what they expect."""
    fields: Any = vars(event)
    again = type(event)(**fields)
    assert event == again
    assert hash(event) == hash(again)
    assert event != type(event)(**(fields | {"at": 2.0}))


def test_events_of_different_types_differ() -> None:
    """Also where they have the same fields."""
    assert RefreshStarted(at=1.0) != CallReplayed(at=1.0)


def test_an_event_is_matched_by_its_type_and_fields() -> None:
    """As a listener does that counts failures."""
    matched = []
    for event in EVENTS:
        match event:
            case RefreshFailed(error=error, attempts=1):
                matched.append(error.details())
            case TokenRejected(taken_back=True):
                matched.append("rejected")
            case _:
                pass
    assert matched == ["down", "rejected"]


def test_every_event_is_in_the_table_above() -> None:
    """A new event is tested as well."""
    assert set(kinds(EVENTS)) == set(TokenEvent.__subclasses__())
