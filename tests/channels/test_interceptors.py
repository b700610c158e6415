"""Interceptors above the token: those passed, and those that libraries append to the channel's lists."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import (
    AuthorizedChannel,
    AuthRpcError,
    ConfigurationError,
    connect,
    identity,
    static_token,
)
from aio_authgrpc._channels.rotating import RotatingChannel
from aio_authgrpc.errors import ChannelClosedError
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock, ScriptedTokens
from aio_authgrpc.tokens import TokenCache

TOKEN = static_token("abc")


class Spy(
    grpc.aio.UnaryUnaryClientInterceptor,
    grpc.aio.UnaryStreamClientInterceptor,
    grpc.aio.StreamUnaryClientInterceptor,
    grpc.aio.StreamStreamClientInterceptor,
):
    """Keeps what it sees of each call, and adds metadata of its own."""

    def __init__(self, name: str = "spy") -> None:
        self.name = name
        self.seen: list[str] = []
        self.calls: list[Any] = []

    async def _intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        self.seen.append(repr(details))
        metadata = grpc.aio.Metadata(*details.metadata, ("x-trace", self.name))
        call = await continuation(details._replace(metadata=metadata), request)
        self.calls.append(call)
        return call

    intercept_unary_unary = _intercept
    intercept_unary_stream = _intercept
    intercept_stream_unary = _intercept
    intercept_stream_stream = _intercept


def lists_of(channel: Any) -> list[list[Any]]:
    """The four lists that libraries look for on a channel."""
    return [getattr(channel, f"_{method.__name__}_interceptors") for method in _METHODS]


_METHODS = (
    grpc.aio.Channel.unary_unary,
    grpc.aio.Channel.unary_stream,
    grpc.aio.Channel.stream_unary,
    grpc.aio.Channel.stream_stream,
)


@pytest.mark.parametrize("made_before", [True, False], ids=["stub-made-before", "stub-made-after"])
async def test_appended_it_runs_and_its_metadata_arrives(
    echo_server: EchoServer, arity: Any, made_before: bool
) -> None:
    """As on a channel of grpc.aio, whether the stub was made before or after."""
    spy = Spy()
    connection = connect(
        echo_server.target, EchoStub, credentials=TOKEN, ssl_credentials=echo_server.ssl_credentials
    )
    async with connection as stub:
        for interceptors in lists_of(connection.channel):
            interceptors.append(spy)
        used = stub if made_before else EchoStub(connection.channel)
        assert await arity.finish(arity.begin(used)) == arity.responses
    assert len(spy.seen) == 1
    assert echo_server.calls[0].values("x-trace") == ("spy",)
    assert echo_server.calls[0].values("authorization") == ("Bearer abc",)


async def test_assigned_lists_replace_what_was_there(echo_server: EchoServer, arity: Any) -> None:
    """Bigtable's swappable channel assigns them."""
    first, second = Spy("first"), Spy("second")
    connection = connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=echo_server.ssl_credentials,
        outer_interceptors=[first],
    )
    async with connection as stub:
        channel: Any = connection.channel
        channel._unary_unary_interceptors = [second]
        channel._unary_stream_interceptors = [second]
        channel._stream_unary_interceptors = [second]
        channel._stream_stream_interceptors = [second]
        assert await arity.finish(arity.begin(stub)) == arity.responses
    assert first.seen == []
    assert echo_server.calls[0].values("x-trace") == ("second",)


async def test_no_secret_is_in_sight_of_it(echo_server: EchoServer, arity: Any) -> None:
    """Neither the channel's token, an API key, nor the token of an identity with a header of its own."""
    spy = Spy()
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        api_key="key-secret",
        ssl_credentials=echo_server.ssl_credentials,
        outer_interceptors=[spy],
    ) as stub:
        with identity(static_token("other-secret"), header="x-other"):
            await arity.finish(arity.begin(stub, metadata=(("x-mine", "visible"),)))
    (seen,) = spy.seen
    assert "visible" in seen
    for secret in ("abc", "key-secret", "other-secret"):
        assert secret not in seen
    (call,) = echo_server.calls
    assert call.values("authorization") == ("Bearer abc",)
    assert call.values("x-api-key") == ("key-secret",)
    assert call.values("x-other") == ("Bearer other-secret",)
    assert call.values("x-trace") == ("spy",)


async def test_several_run_in_their_order(echo_server: EchoServer) -> None:
    """The first is the outermost."""
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=echo_server.ssl_credentials,
        outer_interceptors=[Spy("first"), Spy("second")],
    ) as stub:
        await stub.UnaryUnary(b"x")
    assert echo_server.calls[0].values("x-trace") == ("first", "second")


async def test_it_sees_a_call_that_gets_no_token(echo_server: EchoServer, arity: Any) -> None:
    """Below the token it would never hear of the call."""
    spy, tokens = Spy(), ScriptedTokens()
    tokens.fail(RuntimeError("no token"), times=None)
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=tokens,
        ssl_credentials=echo_server.ssl_credentials,
        outer_interceptors=[spy],
    ) as stub:
        with pytest.raises(AuthRpcError):
            await arity.finish(arity.begin(stub))
    (call,) = spy.calls
    assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
    assert echo_server.calls == []


async def test_it_sees_a_replayed_call_once(
    echo_server: EchoServer, channel: AuthorizedChannel, cache: TokenCache, fake_clock: FakeClock
) -> None:
    """A replay is no new call."""
    spy = Spy()
    lists_of(channel)[0].append(spy)
    await cache.get()
    fake_clock.advance(60)
    echo_server.refuse()
    assert await EchoStub(channel).UnaryUnary(b"x") == b"x"
    assert len(spy.seen) == 1
    assert [call.values("authorization") for call in echo_server.calls] == [
        ("Bearer token-1",),
        ("Bearer token-2",),
    ]


async def test_written_requests_pass_through_it(echo_server: EchoServer) -> None:
    """The write API of a stream of requests works as on a channel of grpc.aio."""
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=ScriptedTokens(),
        ssl_credentials=echo_server.ssl_credentials,
        outer_interceptors=[Spy()],
    ) as stub:
        call = stub.StreamStream()
        await call.write(b"a")
        assert await call.read() == b"a"
        await call.write(b"b")
        await call.done_writing()
        assert await call.read() == b"b"
        assert await call.read() is grpc.aio.EOF
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"c")


async def test_a_changed_method_is_refused(echo_server: EchoServer) -> None:
    """The channel below has the multi-callable of the stub's own method."""

    class Renames(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return await continuation(details._replace(method=b"/other.Service/Method"), request)

    async with connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=echo_server.ssl_credentials,
        outer_interceptors=[Renames()],
    ) as stub:
        with pytest.raises(ConfigurationError, match="changed the method"):
            await stub.UnaryUnary(b"x")
    assert echo_server.calls == []


async def test_closing_cancels_a_call_that_it_holds(echo_server: EchoServer) -> None:
    """The call has not reached the channel, and never does."""
    entered = asyncio.Event()

    class Holds(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            entered.set()
            await asyncio.Event().wait()

    async with connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=echo_server.ssl_credentials,
        outer_interceptors=[Holds()],
    ) as stub:
        call = stub.UnaryUnary(b"x")
        await entered.wait()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.cancelled()
    with pytest.raises(ChannelClosedError):
        stub.UnaryUnary(b"x")
    assert echo_server.calls == []


async def test_cancelling_the_caller_cancels_the_rpc(echo_server: EchoServer) -> None:
    """The cancellation passes through the interceptor's task to the call below."""
    gate = echo_server.hold()
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=echo_server.ssl_credentials,
        outer_interceptors=[Spy()],
    ) as stub:
        call = stub.UnaryUnary(b"x")
        caller = asyncio.ensure_future(call)
        await gate.wait_for(1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert call.cancelled()


async def test_it_sees_the_arguments_of_the_call(echo_server: EchoServer, arity: Any) -> None:
    """The time limit, `wait_for_ready`, and the compression, which gRPC has turned into metadata."""
    spy = Spy()
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=echo_server.ssl_credentials,
        outer_interceptors=[spy],
    ) as stub:
        call = arity.begin(stub, compression=grpc.Compression.Gzip, wait_for_ready=True, timeout=30)
        assert await arity.finish(call) == arity.responses
    (seen,) = spy.seen
    assert "timeout=30" in seen
    assert "wait_for_ready=True" in seen
    assert "gzip" in seen


async def test_a_second_authorization_is_refused(echo_server: EchoServer) -> None:
    """An interceptor may not add the key that the channel fills."""

    class Adds(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            metadata = grpc.aio.Metadata(*details.metadata, ("authorization", "Bearer mine"))
            return await continuation(details._replace(metadata=metadata), request)

    async with connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=echo_server.ssl_credentials,
        outer_interceptors=[Adds()],
    ) as stub:
        with pytest.raises(ConfigurationError, match="authorization"):
            await stub.UnaryUnary(b"x")
    assert echo_server.calls == []


@pytest.mark.parametrize("given", ["spy", [object()], 1], ids=["text", "object", "number"])
def test_what_is_no_list_of_interceptors_is_refused(given: Any) -> None:
    """At once, with the name of the argument."""
    with pytest.raises(ConfigurationError, match="outer_interceptors"):
        connect("localhost:1", credentials=TOKEN, outer_interceptors=given)


async def test_it_runs_after_a_certificate_was_replaced(
    echo_server: EchoServer, cache: TokenCache, fake_clock: FakeClock
) -> None:
    """The lists belong to the outermost channel, which stays when the one below is replaced."""
    spy = Spy()
    settings = iter(["second"])
    made: list[str] = []

    def make(given: str) -> grpc.aio.Channel:
        made.append(given)
        return grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)

    async def read() -> str:
        return next(settings)

    rotating = RotatingChannel(make, "first", read, interval=600, clock=fake_clock)
    async with AuthorizedChannel(rotating, cache) as channel:
        lists_of(channel)[0].append(spy)
        stub = EchoStub(channel)
        await stub.UnaryUnary(b"x")
        await fake_clock.wait_for_sleepers()
        fake_clock.advance(600)
        await asyncio.sleep(0)
        await stub.UnaryUnary(b"x")
    assert made == ["first", "second"]
    assert len(spy.seen) == 2
    assert [call.values("x-trace") for call in echo_server.calls] == [("spy",)] * 2


class Queued(grpc.aio.UnaryUnaryClientInterceptor):
    """Hands its calls to a task of its own, as a rate limiter does."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self.worker = asyncio.create_task(self._work())

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        done = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((done, continuation, details, request))
        return await done

    async def _work(self) -> None:
        while True:
            done, continuation, details, request = await self._queue.get()
            done.set_result(await continuation(details, request))


async def test_a_call_that_another_task_goes_on_with_keeps_its_identity_and_its_channel(
    echo_server: EchoServer,
) -> None:
    """The task was started before the calls, outside of their contexts."""
    queued = Queued()
    async with (
        EchoServer() as other_server,
        connect(
            echo_server.target,
            EchoStub,
            credentials=TOKEN,
            ssl_credentials=echo_server.ssl_credentials,
            outer_interceptors=[queued],
        ) as echo,
        connect(
            other_server.target,
            EchoStub,
            credentials=static_token("other"),
            ssl_credentials=other_server.ssl_credentials,
            outer_interceptors=[queued],
        ) as other,
    ):
        for name in ("alice", "bob"):
            with identity(static_token(name)):
                await echo.UnaryUnary(b"x")
        await other.UnaryUnary(b"x")
        assert [call.values("authorization") for call in other_server.calls] == [("Bearer other",)]
    queued.worker.cancel()
    assert [call.values("authorization") for call in echo_server.calls] == [
        ("Bearer alice",),
        ("Bearer bob",),
    ]


async def test_an_identity_inside_of_an_interceptor_counts(echo_server: EchoServer) -> None:
    """In the call's own task the innermost identity is the interceptor's."""

    class As(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            with identity(static_token("inner")):
                return await continuation(details, request)

    async with connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=echo_server.ssl_credentials,
        outer_interceptors=[As()],
    ) as stub:
        await stub.UnaryUnary(b"x")
    assert echo_server.calls[0].values("authorization") == ("Bearer inner",)


async def test_what_is_appended_to_a_view_is_the_views(
    echo_server: EchoServer, channel: AuthorizedChannel, arity: Any
) -> None:
    """A client for one user appends to the channel that it is given."""
    of_channel, of_view = Spy("channel"), Spy("view")
    view = channel.with_identity(static_token("mine"))
    for interceptors in lists_of(channel):
        interceptors.append(of_channel)
    for interceptors in lists_of(view):
        interceptors.append(of_view)
    assert await arity.finish(arity.begin(EchoStub(view))) == arity.responses
    assert await arity.finish(arity.begin(EchoStub(channel))) == arity.responses
    await view.close()
    assert [call.values("x-trace") for call in echo_server.calls] == [("view", "channel"), ("channel",)]
    assert [call.values("authorization") for call in echo_server.calls] == [
        ("Bearer mine",),
        ("Bearer token-1",),
    ]


async def test_a_grace_counts_calls_that_an_interceptor_holds(echo_server: EchoServer) -> None:
    """The interceptor has the answer, and is not done with it."""
    answered, released = asyncio.Event(), asyncio.Event()

    class Slow(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            call = await continuation(details, request)
            await call
            answered.set()
            await released.wait()
            return call

    connection = connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=echo_server.ssl_credentials,
        outer_interceptors=[Slow()],
    )
    async with connection as stub:
        call = stub.UnaryUnary(b"x")
        await answered.wait()
        asyncio.get_running_loop().call_soon(released.set)
        await connection.channel.close(30)
        assert await call == b"x"
