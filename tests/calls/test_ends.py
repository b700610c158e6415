"""Calls always end, and are known to have ended: whatever users' code raises, wherever the end is from."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel, Token
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock, ScriptedTokens
from aio_authgrpc.tokens import TokenCache, TokenRequest

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
AN_HOUR = 3600.0


class PassingOn(grpc.aio.UnaryStreamClientInterceptor):
    """An interceptor that changes nothing."""

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details, request)


@asynccontextmanager
async def old_token(
    server: EchoServer, clock: FakeClock, source: Any, **arguments: Any
) -> AsyncIterator[AuthorizedChannel]:
    """Give a channel whose token is old enough to be taken back."""
    interceptors = arguments.pop("interceptors", ())
    inner = grpc.aio.secure_channel(server.target, server.ssl_credentials, interceptors=interceptors)
    async with TokenCache(source, clock=clock) as cache:
        async with AuthorizedChannel(inner, cache, **arguments) as channel:
            await cache.get()
            clock.advance(10)
            yield channel


async def test_a_refusal_that_stands_is_read_below_an_interceptor(
    echo_server: EchoServer, fake_clock: FakeClock
) -> None:
    """An intercepted call of gRPC's raises once, and says EOF then: an empty answer in place of a refusal."""
    echo_server.refuse(times=None)
    same = ScriptedTokens("same")
    async with old_token(echo_server, fake_clock, same, interceptors=[PassingOn()]) as channel:
        call: Any = EchoStub(channel).UnaryStream(b"x")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
    assert refused.value.code() is UNAUTHENTICATED


async def test_a_refusal_that_stands_does_not_use_up_a_grace(
    echo_server: EchoServer, fake_clock: FakeClock
) -> None:
    """The call waits for another token while the channel closes, and the source has the same one again."""
    source = ScriptedTokens("same")
    async with old_token(echo_server, fake_clock, source) as channel:
        echo_server.refuse(times=1)
        gate = source.hold()
        call = asyncio.ensure_future(EchoStub(channel).UnaryUnary(b"x"))
        await gate.arrived.wait()
        closing = asyncio.create_task(channel.close(AN_HOUR))
        await asyncio.sleep(0)
        gate.release()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        await closing


class Failed(BaseException):
    """What is no `Exception`, as a failing test's."""


class BrokenTelemetry:
    """Telemetry of a channel, and of its calls, that raises at one place."""

    metadata = ()

    def __init__(self, place: str) -> None:
        self._place = place

    def _at(self, place: str) -> None:
        if place == self._place:
            raise Failed

    def begin_call(self, method: str) -> BrokenTelemetry:
        self._at(f"begin_call {method}")
        return self

    def waited_for_token(self, seconds: float) -> None:
        self._at("waited_for_token")

    def begin_attempt(self) -> Callable[[object], None]:
        self._at("begin_attempt")
        return lambda _: self._at("end_attempt")

    def end(self, code: object, details: str) -> None:
        self._at("end")


@pytest.mark.parametrize("place", ["waited_for_token", "begin_attempt", "end_attempt", "end"])
async def test_telemetry_that_raises_what_is_no_exception_ends_no_call(
    arity: Any, echo_server: EchoServer, tokens: ScriptedTokens, place: str
) -> None:
    """Nor does it keep a call from its end."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    async with TokenCache(tokens) as cache:
        channel = AuthorizedChannel(inner, cache, telemetry=BrokenTelemetry(place))
        assert await arity.finish(arity.begin(EchoStub(channel))) == arity.responses
        await channel.close(AN_HOUR)


class Holding:
    """A source that says what it holds, and fails at it when told to."""

    broken = False

    def current_token(self, request: TokenRequest) -> Token | None:
        if self.broken:
            raise Failed
        return None

    async def fetch(self, request: TokenRequest) -> Token:
        return Token(f"token-{request.time}")


async def test_a_source_that_raises_what_is_no_exception_ends_no_replay(
    replayable: Any, echo_server: EchoServer, fake_clock: FakeClock
) -> None:
    """What it holds is not known then, and it is asked for another token."""
    source = Holding()
    async with old_token(echo_server, fake_clock, source) as channel:
        echo_server.refuse(times=1)
        source.broken = True
        call = replayable.begin(EchoStub(channel))
        assert await replayable.finish(call) == replayable.responses
        await channel.close(AN_HOUR)


class RefusingAtOnce(grpc.aio.UnaryUnaryClientInterceptor):
    """An interceptor that refuses the first call without a wait."""

    def __init__(self) -> None:
        self.calls = 0

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self.calls += 1
        if self.calls == 2:
            raise grpc.aio.AioRpcError(UNAUTHENTICATED, grpc.aio.Metadata(), grpc.aio.Metadata(), "no")
        return await continuation(client_call_details, request)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks from Python 3.12 on")
async def test_a_call_refused_in_the_very_step_of_its_start_is_sent_again(
    echo_server: EchoServer, fake_clock: FakeClock
) -> None:
    """With eager tasks an interceptor runs inside of the call that starts it."""
    refusing = RefusingAtOnce()
    async with old_token(echo_server, fake_clock, ScriptedTokens(), interceptors=[refusing]) as channel:
        stub = EchoStub(channel)
        await stub.UnaryUnary(b"x")
        loop: Any = asyncio.get_running_loop()
        eager: Any = getattr(asyncio, "eager_task_factory", None)
        loop.set_task_factory(eager)
        try:
            assert await stub.UnaryUnary(b"x") == b"x"
        finally:
            loop.set_task_factory(None)
    assert refusing.calls == 3


async def test_a_time_that_is_no_number_is_over_and_stops_no_other(
    stub: EchoStub, tokens: ScriptedTokens
) -> None:
    """NaN is neither before nor after any other deadline."""
    gate = tokens.hold()
    calls = [stub.UnaryUnary(b"x", timeout=timeout) for timeout in (math.nan, 0.01)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [outcome.code() for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)] == [
        grpc.StatusCode.DEADLINE_EXCEEDED
    ] * 2
    gate.release()


async def test_an_interrupt_in_a_done_callback_does_not_use_up_a_grace(
    stub: EchoStub, channel: AuthorizedChannel, cache: TokenCache
) -> None:
    """The call has ended, whatever comes after."""
    await cache.get()
    call: Any = stub.UnaryUnary(b"x")

    def interrupt(_: object) -> None:
        raise SystemExit

    call.add_done_callback(interrupt)
    awaiting = call.__await__()
    awaited = awaiting.send(None)
    await asyncio.wait({awaited})
    with pytest.raises(SystemExit):
        awaiting.send(None)
    await channel.close(AN_HOUR)
