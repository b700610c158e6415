"""A token endpoint that is down for a token's whole stale window, here and under google-auth's plugin."""

from __future__ import annotations

import asyncio
import datetime

import google.auth.transport.grpc
import google.auth.transport.requests
import grpc
import grpc.aio
import pytest
from google.oauth2 import service_account

from aio_authgrpc.events import RefreshFailed, RefreshStarted, TokenEvent
from aio_authgrpc.testing import Authority, ChaosProxy, EchoServer, EchoStub
from aio_authgrpc.tokens import TokenCache, TokenState

from .bounds import CALL_TIMEOUT, SCOPES, SkippingClock


async def until_idle(events: list[TokenEvent]) -> None:
    """Wait until the running refresh has ended."""
    while isinstance(events[-1], RefreshStarted):  # noqa: ASYNC110 - a callback fills it
        await asyncio.sleep(0)


@pytest.fixture
async def outage(
    endpoint: ChaosProxy, echo: EchoStub, tokens: TokenCache, clock: SkippingClock
) -> tuple[list[bytes], list[TokenEvent]]:
    """Call every five seconds while the endpoint is down and the token is valid; give answers and events."""
    answers = [await echo.UnaryUnary(b"x", timeout=CALL_TIMEOUT)]
    await endpoint.go_down()
    clock.advance(3600 - 225)
    events: list[TokenEvent] = []
    tokens.subscribe(events.append)
    while tokens.status().state is not TokenState.EXPIRED:
        answers.append(await echo.UnaryUnary(b"x", timeout=CALL_TIMEOUT))
        if events:
            await until_idle(events)
        clock.advance(5)
    return answers, events


async def test_no_call_fails(outage: tuple[list[bytes], list[TokenEvent]], tokens: TokenCache) -> None:
    """A call every five seconds for three minutes, all on the one token."""
    answers, _ = outage
    assert (len(answers) > 30, set(answers), tokens.status().generation) == (True, {b"x"}, 1)


async def test_the_attempts_are_spaced_by_the_back_off(outage: tuple[list[bytes], list[TokenEvent]]) -> None:
    """No refresh begins before the announced time; some calls came earlier."""
    answers, events = outage
    ends = [event for event in events if isinstance(event, RefreshFailed)]
    starts = [event for event in events if isinstance(event, RefreshStarted)]
    assert 2 < len(starts) < len(answers) / 2
    for end, start in zip(ends, starts[1:], strict=False):
        assert start.at >= end.next_attempt_at - 0.001


async def test_google_auths_plugin_fails_calls(
    authority: Authority, endpoint: ChaosProxy, echo_server: EchoServer
) -> None:
    """The contrast: its token is valid for 200 s more, and it requests another before every call."""
    authority.token_lifetime = 200
    info = {**await authority.service_account_info(), "token_uri": f"{endpoint.url}/token"}
    make = service_account.Credentials.from_service_account_info
    credentials = await asyncio.to_thread(make, info, scopes=SCOPES)
    request = google.auth.transport.requests.Request()
    await asyncio.to_thread(credentials.refresh, request)
    plugin = google.auth.transport.grpc.AuthMetadataPlugin(credentials, request)
    channel_credentials = grpc.composite_channel_credentials(
        echo_server.ssl_credentials, grpc.metadata_call_credentials(plugin)
    )
    await endpoint.go_down()
    async with grpc.aio.secure_channel(echo_server.target, channel_credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="Getting metadata from plugin failed"):
            await EchoStub(channel).UnaryUnary(b"x", timeout=30)
    request.session.close()
    assert credentials.expiry.replace(tzinfo=datetime.UTC) > datetime.datetime.now(datetime.UTC)
