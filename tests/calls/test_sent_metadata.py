"""The metadata that gRPC is given: one for all calls, or a call's own that interceptors may change."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel
from aio_authgrpc._calls.sent_metadata import OwnMetadata, SharedMetadata, watched_by
from aio_authgrpc.testing import EchoServer, EchoStub
from aio_authgrpc.tokens import TokenCache

PAIRS = (("authorization", "Bearer secret"), ("x-one", "1"), ("x-one", "2"))


def own() -> OwnMetadata:
    return OwnMetadata(*PAIRS)


def shared() -> SharedMetadata:
    return SharedMetadata(PAIRS)


def test_what_all_share_is_read_as_it_was_given() -> None:
    """In order, with as many pairs; gRPC's check takes it for its own."""
    metadata = shared()
    assert (tuple(metadata), len(metadata), bool(metadata)) == (PAIRS, 3, True)
    assert isinstance(metadata, grpc.aio.Metadata)


def test_what_all_share_cannot_be_changed() -> None:
    """Else a call could send what another one added."""
    metadata: Any = shared()
    with pytest.raises(TypeError):
        metadata["x-one"] = "4"
    with pytest.raises(AttributeError):
        metadata.add("x-two", "3")
    with pytest.raises(AttributeError):
        metadata.more = "5"


def test_a_calls_own_is_added_to_grpcs() -> None:
    """GRPC's asks for its very class on both sides."""
    more = grpc.aio.Metadata(("x-two", "3"))
    assert tuple(own() + more) == (*PAIRS, ("x-two", "3"))


@pytest.mark.parametrize("metadata", [own(), shared()])
def test_it_shows_no_token(metadata: OwnMetadata | SharedMetadata) -> None:
    """In a traceback with values, say."""
    assert repr(metadata) == f"<{type(metadata).__name__} with authorization, x-one, x-one>"
    assert getattr(metadata, "__sentry_repr__", metadata.__repr__)() == repr(metadata)


class Adding(grpc.aio.UnaryUnaryClientInterceptor):
    """An interceptor below the token that changes the metadata in place, as Sentry's does."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        client_call_details.metadata.add("x-trace", request.decode())
        return await continuation(client_call_details, request)


async def test_a_pair_that_is_changed_after_its_check_is_sent_as_it_was(
    echo_server: EchoServer, cache: TokenCache, stub: EchoStub
) -> None:
    """Else a second token could go where the channel allows one."""
    await cache.get()
    pair = ["x-own", "1"]
    given: Any = [pair]
    call = stub.UnaryUnary(b"x", metadata=given)
    pair[:] = "authorization", "Bearer other"
    await call
    assert echo_server.calls[0].values("authorization") == ("Bearer token-1",)
    assert echo_server.calls[0].values("x-own") == ("1",)


async def traces_of(inner: grpc.aio.Channel, cache: TokenCache, echo_server: EchoServer) -> list[list[str]]:
    """Return what was added to each of two calls over a channel."""
    async with AuthorizedChannel(inner, cache) as channel:
        stub = EchoStub(channel)
        await stub.UnaryUnary(b"0")
        if not inner_interceptors(inner):
            inner_interceptors(inner).append(Adding())  # as libraries do
        for trace in (b"1", b"2"):
            await stub.UnaryUnary(trace)
    return [[str(value) for key, value in call.metadata if key == "x-trace"] for call in echo_server.calls]


def inner_interceptors(inner: Any) -> list[Any]:
    interceptors: list[Any] = inner._unary_unary_interceptors
    return interceptors


async def test_what_an_interceptor_adds_to_one_call_stays_with_it(
    echo_server: EchoServer, cache: TokenCache
) -> None:
    """Each call has metadata of its own then, though the token is one."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials, interceptors=[Adding()])
    assert await traces_of(inner, cache, echo_server) == [["0"], ["1"], ["2"]]


async def test_an_interceptor_that_comes_later_changes_one_call_too(
    echo_server: EchoServer, cache: TokenCache
) -> None:
    """Until then the calls shared their metadata."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    assert await traces_of(inner, cache, echo_server) == [[], ["1"], ["2"]]


class Wrapped:
    """A multi-callable of another maker, which has all that gRPC's has, and adds to the metadata."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped
        self.seen: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def __call__(self, request: bytes, *, metadata: Any, **arguments: Any) -> Any:
        """Start the RPC."""
        metadata.add("x-trace", request.decode())
        self.seen.append(metadata)
        return self._wrapped(request, metadata=metadata, **arguments)


async def test_a_multi_callable_of_another_maker_is_given_a_calls_own(
    echo_server: EchoServer, cache: TokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracers wrap gRPC's own, and answer for it."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    make = inner.unary_unary
    monkeypatch.setattr(inner, "unary_unary", lambda *given, **named: Wrapped(make(*given, **named)))
    async with AuthorizedChannel(inner, cache) as channel:
        stub = EchoStub(channel)
        for trace in (b"1", b"2"):
            await stub.UnaryUnary(trace)
    traces = [[value for key, value in call.metadata if key == "x-trace"] for call in echo_server.calls]
    assert traces == [["1"], ["2"]]


async def traced(echo_server: EchoServer, cache: TokenCache) -> list[list[str]]:
    """Return what a tracer added to each of two calls."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    async with AuthorizedChannel(inner, cache) as channel:
        stub = EchoStub(channel)
        for trace in (b"1", b"2"):
            await stub.UnaryUnary(trace)
    return [[str(value) for key, value in call.metadata if key == "x-trace"] for call in echo_server.calls]


async def test_a_tracer_in_grpcs_class_is_given_a_calls_own(
    echo_server: EchoServer, cache: TokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may add to what says that it is gRPC's metadata."""
    method = type(
        grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials).unary_unary("/S/M")
    )
    call: Any = method.__call__

    def trace(self: Any, request: bytes, *, metadata: Any = None, **arguments: Any) -> Any:
        metadata.add("x-trace", request.decode())
        return call(self, request, metadata=metadata, **arguments)

    monkeypatch.setattr(method, "__call__", trace)
    assert await traced(echo_server, cache) == [["1"], ["2"]]


async def test_a_tracer_where_grpc_makes_its_metadata_is_given_a_calls_own(
    echo_server: EchoServer, cache: TokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, one function further in."""
    method = type(
        grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials).unary_unary("/S/M")
    )
    base: Any = method.__mro__[1]
    make, calls = base._init_metadata, iter("12")

    def trace(*given: Any) -> Any:
        made = make(*given)
        made.add("x-trace", next(calls))
        return made

    monkeypatch.setattr(base, "_init_metadata", staticmethod(trace))
    assert await traced(echo_server, cache) == [["1"], ["2"]]


async def test_interceptors_that_are_assigned_change_one_call(
    echo_server: EchoServer, cache: TokenCache
) -> None:
    """To gRPC's own method, after calls were made."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    async with AuthorizedChannel(inner, cache) as channel:
        stub: Any = EchoStub(channel)
        await stub.UnaryUnary(b"0")
        stub.UnaryUnary.inner._interceptors = [Adding()]
        for trace in (b"1", b"2"):
            await stub.UnaryUnary(trace)
    traces = [[value for key, value in call.metadata if key == "x-trace"] for call in echo_server.calls]
    assert traces == [[], ["1"], ["2"]]


async def test_grpc_takes_what_all_share_as_it_is(
    echo_server: EchoServer, cache: TokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lowest grpcio and the newest: else each call would make metadata of its own."""
    taken: list[Any] = []
    async with grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials) as inner:
        for arity in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            made: Any = getattr(inner, arity)("/S/M")
            assert watched_by(made) is made
        take = made._init_metadata

        def note(*given: Any) -> Any:
            taken.append(take(*given))
            return taken[-1]

        async with AuthorizedChannel(inner, cache) as channel:
            stub = EchoStub(channel)
            monkeypatch.setattr(type(made).__mro__[1], "_init_metadata", staticmethod(note))
            await asyncio.gather(stub.UnaryUnary(b"x"), stub.UnaryUnary(b"x"))
            assert [one async for one in stub.UnaryStream(b"1")]
    assert [type(metadata) for metadata in taken] == [SharedMetadata] * 3
    assert len({id(metadata) for metadata in taken}) == 1


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
async def test_a_callers_own_metadata_goes_first(
    echo_server: EchoServer, cache: TokenCache, compression: grpc.Compression | None
) -> None:
    """With compression gRPC makes its own metadata of it."""
    async with grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials) as inner:
        async with AuthorizedChannel(inner, cache) as channel:
            await EchoStub(channel).UnaryUnary(b"x", metadata=(("x-own", "1"),), compression=compression)
    keys = [key for key, _ in echo_server.calls[0].metadata if key in ("x-own", "authorization")]
    assert keys == ["x-own", "authorization"]
