"""Faults between the client and the gRPC server: the caller sees gRPC's own errors, and no token is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel
from aio_authgrpc.errors import TokenDeadlineExceededError, TokenRefusedError, TokenUnavailableError
from aio_authgrpc.testing import Authority, ChaosProxy, EchoServer, EchoStub
from aio_authgrpc.tokens import TokenCache, TokenState

from .bounds import CALL_TIMEOUT, OPTIONS, SkippingClock

# For calls that hang.
SHORT = 0.2


async def failed(outcome: Awaitable[object]) -> grpc.aio.AioRpcError:
    """Return the error of a call, which did not fail for lack of a token."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await outcome
    assert not isinstance(
        caught.value, TokenUnavailableError | TokenRefusedError | TokenDeadlineExceededError
    )
    return caught.value


async def call(echo: EchoStub) -> bytes:
    return await echo.UnaryUnary(b"x", timeout=CALL_TIMEOUT, wait_for_ready=True)


async def cut(proxy: ChaosProxy, channel: grpc.aio.Channel) -> None:
    """Cut the connection, and wait until gRPC has noticed: until then it would send calls into it."""
    proxy.cut()
    while channel.get_state() is grpc.ChannelConnectivity.READY:
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)


# No connection


async def test_a_server_that_is_down_is_unavailable(arity: Any, network: ChaosProxy, echo: EchoStub) -> None:
    """At once, as with a plain channel, with gRPC's own words."""
    await network.go_down()
    error = await failed(arity.finish(arity.begin(echo, timeout=CALL_TIMEOUT)))
    assert (error.code(), "refused" in str(error.details())) == (grpc.StatusCode.UNAVAILABLE, True)


async def test_a_server_that_comes_back_answers_who_waited_for_it(
    arity: Any, network: ChaosProxy, echo: EchoStub
) -> None:
    """wait_for_ready means the same as on a plain channel, also while the token is fetched."""
    await network.go_down()
    call = asyncio.create_task(arity.finish(arity.begin(echo, timeout=CALL_TIMEOUT, wait_for_ready=True)))
    await asyncio.sleep(0)
    await network.come_up()
    assert await call == arity.responses


async def test_a_server_that_is_down_costs_no_second_token(
    arity: Any, authority: Authority, network: ChaosProxy, echo: EchoStub, tokens: TokenCache
) -> None:
    """The token stays: it is not at fault."""
    await network.go_down()
    for _ in range(3):
        await failed(arity.finish(arity.begin(echo, timeout=CALL_TIMEOUT)))
    assert (authority.token_requests, tokens.status().state) == (1, TokenState.FRESH)


async def test_a_server_that_accepts_and_never_answers_costs_the_call_its_timeout(
    network: ChaosProxy, echo: EchoStub, tokens: TokenCache
) -> None:
    """Half-open: DEADLINE_EXCEEDED at the deadline, while a call with more time still waits."""
    await tokens.get()
    network.hold()
    longer = echo.UnaryUnary(b"x", timeout=CALL_TIMEOUT, wait_for_ready=True)
    error = await failed(echo.UnaryUnary(b"x", timeout=SHORT, wait_for_ready=True))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not longer.done()
    longer.cancel()


async def test_a_handshake_a_byte_at_a_time_costs_the_call_its_timeout(
    network: ChaosProxy, echo: EchoStub, tokens: TokenCache
) -> None:
    """Slow-loris: the call does not wait for the end of it."""
    await tokens.get()
    network.trickle(times=None)
    error = await failed(echo.UnaryUnary(b"x", timeout=SHORT, wait_for_ready=True))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("after", [0, 1000], ids=["at-once", "mid-handshake"])
async def test_a_handshake_that_is_reset_is_tried_again(
    network: ChaosProxy, echo: EchoStub, after: int
) -> None:
    """By gRPC, for the calls that wait for the connection."""
    network.reset_connections(after=after, times=2)
    assert await call(echo) == b"x"
    assert network.connections == 3


# A connection that breaks


async def test_a_call_that_is_cut_is_not_sent_again(
    replayable: Any, network: ChaosProxy, echo_server: EchoServer, echo: EchoStub
) -> None:
    """The server may have processed the call: UNAVAILABLE, and the caller decides."""
    gate = echo_server.hold()
    call = asyncio.create_task(failed(replayable.finish(replayable.begin(echo, timeout=CALL_TIMEOUT))))
    await gate.arrived.wait()
    network.cut()
    assert (await call).code() is grpc.StatusCode.UNAVAILABLE
    assert len(echo_server.calls) == 1


async def test_after_a_cut_the_same_token_goes_over_a_new_connection(
    arity: Any,
    authority: Authority,
    network: ChaosProxy,
    echo_server: EchoServer,
    channel: AuthorizedChannel,
    echo: EchoStub,
) -> None:
    """One token request, two connections."""
    await call(echo)
    await cut(network, channel)
    assert await arity.finish(arity.begin(echo, timeout=CALL_TIMEOUT, wait_for_ready=True)) == arity.responses
    first, second = echo_server.calls
    assert first.values("authorization") == second.values("authorization")
    assert (authority.token_requests, first.peer != second.peer) == (1, True)


async def test_a_stream_that_is_cut_keeps_what_it_has_delivered(
    network: ChaosProxy, echo_server: EchoServer, echo: EchoStub
) -> None:
    """The earlier messages, then UNAVAILABLE; none twice."""
    stream = echo.StreamStream(timeout=CALL_TIMEOUT)
    await stream.write(b"one")
    assert await stream.read() == b"one"
    network.cut()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert (caught.value.code(), len(echo_server.calls)) == (grpc.StatusCode.UNAVAILABLE, 1)


async def test_a_network_that_freezes_costs_a_call_its_timeout_and_no_more(
    arity: Any, network: ChaosProxy, echo: EchoStub, tokens: TokenCache
) -> None:
    """When it thaws the next call is answered, with the same token."""
    await call(echo)
    with network.freeze():
        error = await failed(arity.finish(arity.begin(echo, timeout=SHORT)))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await arity.finish(arity.begin(echo, timeout=CALL_TIMEOUT)) == arity.responses
    assert tokens.status().generation == 1


async def test_latency_does_no_harm(network: ChaosProxy, echo: EchoStub) -> None:
    """Every piece of an answer 10 ms late."""
    network.delay(0.01)
    assert await call(echo) == b"x"


async def test_a_cut_while_a_call_waits_for_its_token_is_not_seen(
    arity: Any,
    authority: Authority,
    network: ChaosProxy,
    channel: AuthorizedChannel,
    echo: EchoStub,
    clock: SkippingClock,
) -> None:
    """Nothing of it had been sent: it starts once it has both token and connection."""
    await call(echo)
    clock.advance(3600)
    with authority.hold() as gate:
        begun = arity.begin(echo, timeout=CALL_TIMEOUT, wait_for_ready=True)
        waiting = asyncio.create_task(arity.finish(begun))
        await gate.arrived.wait()
        await cut(network, channel)
    assert await waiting == arity.responses


async def test_closing_while_the_network_is_frozen_ends_the_calls(
    network: ChaosProxy, channel: AuthorizedChannel, echo: EchoStub
) -> None:
    """It does not wait for the peer's end of TLS."""
    await call(echo)
    network.freeze()
    hanging = asyncio.ensure_future(echo.UnaryUnary(b"x", timeout=CALL_TIMEOUT))
    await asyncio.sleep(0)
    async with asyncio.timeout(CALL_TIMEOUT / 2):
        await channel.close()
        await asyncio.wait({hanging})
    assert hanging.cancelled()


# The certificate


@pytest.fixture
async def plain_server() -> AsyncIterator[EchoServer]:
    async with EchoServer(tls=False) as server:
        yield server


@pytest.fixture
async def tls(plain_server: EchoServer) -> AsyncIterator[ChaosProxy]:
    """Give a proxy that ends TLS before the server, so that its certificate can be changed."""
    async with ChaosProxy(plain_server.target, tls=True) as proxy:
        yield proxy


@pytest.fixture
async def tls_channel(tls: ChaosProxy, tokens: TokenCache) -> AsyncIterator[AuthorizedChannel]:
    inner = grpc.aio.secure_channel(tls.target, tls.ssl_credentials, OPTIONS)
    async with AuthorizedChannel(inner, tokens) as channel:
        yield channel


@pytest.fixture
async def tls_echo(tls_channel: AuthorizedChannel) -> EchoStub:
    return EchoStub(tls_channel)


@pytest.mark.parametrize(("names", "trusted"), [((), False), (("elsewhere.example",), True)])
async def test_a_server_that_is_not_to_be_trusted_gets_no_token(
    arity: Any, plain_server: EchoServer, tls: ChaosProxy, tls_echo: EchoStub, names: Any, trusted: bool
) -> None:
    """From an unknown authority, or for another name: UNAVAILABLE, and no call arrives."""
    await tls.change_certificate(*names, trusted=trusted)
    error = await failed(arity.finish(arity.begin(tls_echo, timeout=CALL_TIMEOUT)))
    assert (error.code(), plain_server.calls) == (grpc.StatusCode.UNAVAILABLE, [])


async def test_a_certificate_that_is_renewed_is_not_seen(
    arity: Any, tls: ChaosProxy, tls_channel: AuthorizedChannel, tls_echo: EchoStub, tokens: TokenCache
) -> None:
    """The open connection stays; the next one, after a cut, uses the new certificate and the same token."""
    await call(tls_echo)
    await tls.change_certificate()
    await call(tls_echo)
    await cut(tls, tls_channel)
    call_ = arity.begin(tls_echo, timeout=CALL_TIMEOUT, wait_for_ready=True)
    assert await arity.finish(call_) == arity.responses
    assert (tls.connections, tokens.status().generation) == (2, 1)


async def test_after_a_wrong_certificate_the_right_one_is_taken(tls: ChaosProxy, tls_echo: EchoStub) -> None:
    """By the same channel."""
    await tls.change_certificate(trusted=False)
    with pytest.raises(grpc.aio.AioRpcError):
        await tls_echo.UnaryUnary(b"x", timeout=CALL_TIMEOUT)
    await tls.change_certificate()
    assert await call(tls_echo) == b"x"
