"""Which calls are sent again after a refusal: none whose method has begun to answer, none that may not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import (
    AuthorizedChannel,
    ConfigurationError,
    connect,
    identity,
    insecure_authorized_channel,
    secure_authorized_channel,
)
from aio_authgrpc._channels.interceptors import OuterInterceptors
from aio_authgrpc.credentials import without_replay
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock, Gate, ScriptedTokens
from aio_authgrpc.tokens import TokenCache
from tests.support.raw_http2 import RawHttp2Server

Metadata = tuple[tuple[str, str], ...]


class AnsweringServer(EchoServer):
    """Sends response headers before it refuses, and waits at a gate between the two."""

    headers: Metadata | None = (("x-initial", "1"),)

    def __init__(self) -> None:
        super().__init__(tls=False)
        self.gate = Gate()
        self.gate.release()

    async def _receive(self, method: str, context: Any) -> Any:
        refusal = await super()._receive(method, context)
        if self.headers is not None:
            await context.send_initial_metadata(self.headers)
        await self.gate.pass_through()
        return refusal


@pytest.fixture
async def answering() -> AsyncIterator[AnsweringServer]:
    """Give a server that refuses one call, after its headers."""
    async with AnsweringServer() as server:
        server.refuse(times=1)
        yield server


class Stub(EchoStub):
    """A stub that knows its channel."""

    def __init__(self, channel: AuthorizedChannel) -> None:
        super().__init__(channel)
        self.channel = channel


@asynccontextmanager
async def old_token(
    target: str, fake_clock: FakeClock, options: Any = (), interceptors: Any = (), **arguments: Any
) -> AsyncIterator[Stub]:
    """Give a stub whose token is old enough to be taken back."""
    inner = grpc.aio.insecure_channel(target, options, interceptors=interceptors)
    async with TokenCache(ScriptedTokens(), clock=fake_clock) as cache:
        async with AuthorizedChannel(inner, cache, **arguments) as channel:
            await cache.get()
            fake_clock.advance(10)
            yield Stub(channel)


async def test_a_call_refused_after_its_response_headers_is_not_sent_again(
    replayable: Any, answering: AnsweringServer, fake_clock: FakeClock
) -> None:
    """They commit the RPC (gRFC A6): the method has begun to work. The token is replaced all the same."""
    async with old_token(answering.target, fake_clock) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await replayable.finish(replayable.begin(stub))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert await replayable.finish(replayable.begin(stub)) == replayable.responses
    assert [call.values("authorization") for call in answering.calls] == [
        ("Bearer token-1",),
        ("Bearer token-2",),
    ]


class PassOn(grpc.aio.UnaryUnaryClientInterceptor):
    """Hands on the call."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, request)


class AwaitIt(grpc.aio.UnaryUnaryClientInterceptor):
    """Lets the RPC's error pass, as what logs or measures does."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details, request)
        await call
        return call


class PassOnStream(grpc.aio.UnaryStreamClientInterceptor):
    """Hands on the call."""

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, request)


@pytest.mark.parametrize(
    ("interceptor", "method"),
    [(PassOn(), "UnaryUnary"), (AwaitIt(), "UnaryUnary"), (PassOnStream(), "UnaryStream")],
)
async def test_response_headers_commit_a_call_behind_an_interceptor_too(
    answering: AnsweringServer, fake_clock: FakeClock, interceptor: Any, method: str
) -> None:
    """Whether it hands on the call or its error."""
    async with old_token(answering.target, fake_clock, interceptors=[interceptor]) as stub:
        call = getattr(stub, method)(b"x")
        with pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal"):
            await (call.read() if method == "UnaryStream" else call)
    assert len(answering.calls) == 1


@pytest.mark.parametrize("headers", [(), (("x-initial", "1"),)], ids=["empty", "full"])
async def test_a_stream_whose_response_headers_were_shown_is_not_sent_again(
    answering: AnsweringServer, fake_clock: FakeClock, headers: Metadata
) -> None:
    """Or a caller would see the headers of one attempt and the messages of another."""
    answering.headers = headers
    answering.gate = Gate()
    async with old_token(answering.target, fake_clock) as stub:
        call: Any = stub.UnaryStream(b"x")
        assert tuple(await call.initial_metadata()) == headers
        answering.gate.release()
        with pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal"):
            await call.read()
    assert len(answering.calls) == 1


async def test_response_headers_without_metadata_look_like_none(
    answering: AnsweringServer, fake_clock: FakeClock
) -> None:
    """To grpc.aio's callers: such a call is sent again, which the documentation says."""
    answering.headers = ()
    async with old_token(answering.target, fake_clock) as stub:
        assert await stub.UnaryUnary(b"x") == b"x"
    assert len(answering.calls) == 2


OK = ((":status", "200"), ("content-type", "application/grpc"))
REFUSED = (("grpc-status", "16"), ("grpc-message", "no"))
DATE = (("date", "Fri, 27 Nov 2026 10:00:00 GMT"),)
UNAUTHORIZED = ((":status", "401"), ("content-type", "text/html"), *DATE)
ANSWERED = [(*OK, *DATE), bytes(5), (("grpc-status", "0"),)]  # with an empty message


@pytest.mark.parametrize(
    "answer", [[(*OK, *DATE, *REFUSED)], [UNAUTHORIZED]], ids=["a-status-alone", "http-401"]
)
async def test_a_call_that_a_proxy_refused_is_sent_again(
    replayable: Any, fake_clock: FakeClock, answer: Any
) -> None:
    """Envoy sends a status alone, Cloud Run's front end an HTTP error: no response headers of a method."""
    async with RawHttp2Server(answer, ANSWERED) as server, old_token(server.target, fake_clock) as stub:
        assert await replayable.finish(replayable.begin(stub)) == [b""]
        assert server.requests == 2


async def test_a_call_that_a_proxy_refused_with_a_page_is_sent_again(fake_clock: FakeClock) -> None:
    """To gRPC, a stream that gets both at once is UNKNOWN."""
    refused = [UNAUTHORIZED, b"<html>"]
    async with RawHttp2Server(refused, ANSWERED) as server, old_token(server.target, fake_clock) as stub:
        assert await stub.UnaryUnary(b"x") == b""
        assert server.requests == 2


async def test_a_call_whose_headers_and_refusal_come_at_once_is_not_sent_again(fake_clock: FakeClock) -> None:
    """A unary call has both in order, however they came."""
    refused = [(*OK, *DATE), REFUSED]
    async with RawHttp2Server(refused) as server, old_token(server.target, fake_clock) as stub:
        assert await stub.UnaryUnary(b"x").code() is grpc.StatusCode.UNAUTHENTICATED
        assert server.requests == 1


# Not to be sent again, as the caller says


async def test_a_channel_without_replay_sends_no_call_again(
    replayable: Any, answering: AnsweringServer, fake_clock: FakeClock
) -> None:
    """Its token is replaced for the calls that follow."""
    answering.headers = None
    async with old_token(answering.target, fake_clock, replay=False) as stub:
        with pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal"):
            await replayable.finish(replayable.begin(stub))
        assert await replayable.finish(replayable.begin(stub)) == replayable.responses
    assert [call.values("authorization") for call in answering.calls] == [
        ("Bearer token-1",),
        ("Bearer token-2",),
    ]


def by_connect(server: EchoServer, source: Any, replay: bool) -> Any:
    return connect(server.target, credentials=source, plaintext=True, replay=replay)


def by_secure(server: EchoServer, source: Any, replay: bool) -> Any:
    return secure_authorized_channel(source, None, server.target, server.ssl_credentials, replay=replay)


def by_insecure(server: EchoServer, source: Any, replay: bool) -> Any:
    return insecure_authorized_channel(source, server.target, replay=replay)


@pytest.mark.parametrize("replay", [True, False])
@pytest.mark.parametrize(("opening", "tls"), [(by_connect, False), (by_secure, True), (by_insecure, False)])
async def test_each_way_to_open_a_channel_has_the_option(
    opening: Callable[..., AbstractAsyncContextManager[AuthorizedChannel]], tls: bool, replay: bool
) -> None:
    """Only a token that has lived for ten seconds shows it in calls."""
    async with EchoServer(tls=tls) as server, opening(server, ScriptedTokens(), replay) as channel:
        assert channel._authorizer.replay is replay


def test_replay_is_true_or_false() -> None:
    """`replay=0` may have been meant as a number of attempts."""
    with pytest.raises(ConfigurationError) as caught:
        connect("host", EchoStub, replay=0)  # type: ignore[arg-type]  # the mistake
    assert caught.value.field == "replay"


async def test_a_call_in_a_block_without_replay_is_not_sent_again(
    replayable: Any, answering: AnsweringServer, fake_clock: FakeClock
) -> None:
    """Calls outside of the block are, with the token that replaced the refused one."""
    answering.headers = None
    async with old_token(answering.target, fake_clock) as stub:
        with without_replay():
            call = replayable.begin(stub, timeout=10)
        with pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal"):
            await replayable.finish(call)
        assert await replayable.finish(replayable.begin(stub)) == replayable.responses
        fake_clock.advance(10)
        answering.refuse(times=1)
        assert await replayable.finish(replayable.begin(stub)) == replayable.responses
    assert [call.values("authorization") for call in answering.calls] == [
        ("Bearer token-1",),
        ("Bearer token-2",),
        ("Bearer token-2",),
        ("Bearer token-3",),
    ]


@pytest.mark.parametrize("outside", ["identity", "without_replay"])
async def test_a_call_of_another_identity_without_replay_is_not_sent_again(
    answering: AnsweringServer, fake_clock: FakeClock, outside: str
) -> None:
    """Whose token it carries does not matter, nor which block is the inner one."""
    answering.headers = None
    answering.behave()
    own = identity(ScriptedTokens("own"))
    async with old_token(answering.target, fake_clock) as stub:
        with own:
            await stub.UnaryUnary(b"x")
        answering.refuse(times=1)
        fake_clock.advance(10)
        first, second = (own, without_replay()) if outside == "identity" else (without_replay(), own)
        with first, second, pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal"):
            await stub.UnaryUnary(b"x")
    assert [call.values("authorization") for call in answering.calls] == [("Bearer own",)] * 2


async def test_a_call_of_a_channels_view_without_replay_is_not_sent_again(
    answering: AnsweringServer, fake_clock: FakeClock
) -> None:
    """The view adds an identity to those of the block."""
    answering.headers = None
    async with old_token(answering.target, fake_clock) as stub:
        view = EchoStub(stub.channel.with_identity(ScriptedTokens()))
        answering.behave()
        await view.UnaryUnary(b"x")
        answering.refuse(times=1)
        fake_clock.advance(10)
        with without_replay(), pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal"):
            await view.UnaryUnary(b"x")
    assert len(answering.calls) == 2


async def test_a_call_without_replay_passes_the_outer_interceptors(
    answering: AnsweringServer, fake_clock: FakeClock
) -> None:
    """And is not sent again below them."""
    answering.headers = None
    seen: list[str] = []

    class Seeing(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(details.method)
            return await continuation(details, request)

    outer = OuterInterceptors([Seeing()])
    async with old_token(answering.target, fake_clock, outer_interceptors=outer) as stub:
        with without_replay(), pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal"):
            await stub.UnaryUnary(b"x")
    assert (len(seen), len(answering.calls)) == (1, 1)


async def test_blocks_without_replay_may_be_nested(answering: AnsweringServer, fake_clock: FakeClock) -> None:
    """The outer one holds until its own end."""
    answering.headers = None
    async with old_token(answering.target, fake_clock) as stub:
        with without_replay():
            with without_replay():
                pass
            with pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal"):
                await stub.UnaryUnary(b"x")
    assert len(answering.calls) == 1


async def test_calls_in_a_block_without_replay_carry_the_channels_token(
    arity: Any, stub: EchoStub, echo_server: EchoServer, tokens: Any
) -> None:
    """Cold and warm, of all arities, from the channel's own cache."""
    with without_replay() as entered:
        for _ in range(2):
            assert await arity.finish(arity.begin(stub)) == arity.responses
    assert repr(entered) == "without_replay()"
    assert [call.values("authorization") for call in echo_server.calls] == [("Bearer token-1",)] * 2
    assert tokens.fetches == 1


@pytest.mark.parametrize(("replay", "attempts"), [(True, 10), (False, 5)])
async def test_a_retry_policy_on_unauthenticated_multiplies(
    fake_clock: FakeClock, replay: bool, attempts: int
) -> None:
    """The policy makes five of each of the two attempts, as the documentation says."""
    policy = {
        "maxAttempts": 5,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAUTHENTICATED"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    async with EchoServer(tls=False) as server:
        server.refuse(times=None)
        options = [("grpc.service_config", config)]
        async with old_token(server.target, fake_clock, options, replay=replay) as stub:
            with pytest.raises(grpc.aio.AioRpcError, match="ordered a refusal"):
                await stub.UnaryUnary(b"x")
        assert len(server.calls) == attempts
