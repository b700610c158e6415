"""The channel and its factories: signatures, checks, plaintext, certificates, and who closes what."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import grpc.experimental
import pytest
from google.auth.exceptions import MutualTLSChannelError

import aio_authgrpc
from aio_authgrpc import (
    AiohttpRequest,
    AuthorizedChannel,
    ConfigurationError,
    LazyChannel,
    api_key,
    connect,
    insecure_authorized_channel,
    secure_authorized_channel,
    static_token,
)
from aio_authgrpc.errors import TokenRefusedError, WrongEventLoopError
from aio_authgrpc.testing import Authority, EchoServer, EchoStub
from aio_authgrpc.tokens import TokenCache

TOKEN = static_token("abc")


async def test_awaited_it_is_the_callers_to_close(echo_server: EchoServer) -> None:
    """`await secure_authorized_channel(...)`, the seed's call with one word more."""
    channel = await secure_authorized_channel(TOKEN, None, echo_server.target, echo_server.ssl_credentials)
    assert await EchoStub(channel).UnaryUnary(b"x") == b"x"
    await channel.close()
    assert echo_server.calls[0].values("authorization") == ("Bearer abc",)


async def test_entered_it_closes_itself(echo_server: EchoServer) -> None:
    """`async with secure_authorized_channel(...) as channel`."""
    opening = secure_authorized_channel(TOKEN, None, echo_server.target, echo_server.ssl_credentials)
    async with opening as channel:
        assert await EchoStub(channel).UnaryUnary(b"x") == b"x"
        with pytest.raises(ConfigurationError, match="open already"):
            await opening.__aenter__()
    with pytest.raises(aio_authgrpc.errors.ChannelClosedError):
        EchoStub(channel).UnaryUnary(b"x")


async def test_the_channels_keyword_arguments_reach_grpc(echo_server: EchoServer) -> None:
    """Options, compression and interceptors; an interceptor sees the token's metadata."""
    seen: list[Any] = []

    class Interceptor(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(details.metadata["authorization"])
            return await continuation(details, request)

    async with secure_authorized_channel(
        TOKEN,
        None,
        echo_server.target,
        echo_server.ssl_credentials,
        options=[("grpc.primary_user_agent", "mine/1.0")],
        compression=grpc.Compression.Gzip,
        interceptors=[Interceptor()],
    ) as channel:
        assert await EchoStub(channel).UnaryUnary(b"x") == b"x"
    (user_agent,) = echo_server.calls[0].values("user-agent")
    assert "mine/1.0" in str(user_agent)
    assert seen == ["Bearer abc"]


async def test_an_interceptor_that_changes_metadata_changes_its_own_call_only(
    echo_server: EchoServer,
) -> None:
    """What is ready for the next call is not what an interceptor was given."""

    class Interceptor(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            details.metadata.add("x-added", "1")
            return await continuation(details, request)

    async with secure_authorized_channel(
        TOKEN, None, echo_server.target, echo_server.ssl_credentials, interceptors=[Interceptor()]
    ) as channel:
        stub = EchoStub(channel)
        for _ in range(3):
            await stub.UnaryUnary(b"x")
    assert [call.values("x-added") for call in echo_server.calls] == [("1",)] * 3


async def test_a_refused_call_behind_an_interceptor_is_sent_again(
    arity: Any, echo_server: EchoServer, cache: TokenCache, fake_clock: Any
) -> None:
    """Intercepted calls fire their callbacks later; the replay is the same, and so is the rejection."""

    class Interceptor(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return await continuation(details, request)

    class Streaming(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
            return await continuation(details, request)

    inner = grpc.aio.secure_channel(
        echo_server.target, echo_server.ssl_credentials, interceptors=[Interceptor(), Streaming()]
    )
    async with AuthorizedChannel(inner, cache) as channel:
        await cache.get()
        fake_clock.advance(10)
        echo_server.refuse(times=1)
        stub = EchoStub(channel)
        if arity.request_is_stream:
            with pytest.raises(grpc.aio.AioRpcError):
                await arity.finish(arity.begin(stub))
        assert await arity.finish(arity.begin(stub)) == arity.responses
    assert echo_server.calls[1].values("authorization") == ("Bearer token-2",)


async def test_a_request_that_was_handed_in_stays_open(echo_server: EchoServer, authority: Authority) -> None:
    """Who made it closes it."""
    async with AiohttpRequest() as request:
        async with secure_authorized_channel(
            TOKEN, request, echo_server.target, echo_server.ssl_credentials
        ) as channel:
            await EchoStub(channel).UnaryUnary(b"x")
        assert (await request.send(authority.jwks_url)).status == 200


async def test_a_cache_that_was_handed_in_stays_open(echo_server: EchoServer, cache: TokenCache) -> None:
    """Two channels share it, and closing one leaves the other working."""
    channels = [
        AuthorizedChannel(grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials), cache)
        for _ in range(2)
    ]
    await channels[0].close()
    assert await EchoStub(channels[1]).UnaryUnary(b"x") == b"x"
    await channels[1].close()
    assert cache.status().generation == 1


async def test_closing_twice_does_nothing(channel: AuthorizedChannel) -> None:
    """Idempotent, as grpc.aio's."""
    await channel.close()
    await channel.close()
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_the_channels_state_can_be_watched(channel: AuthorizedChannel) -> None:
    """get_state, wait_for_state_change and channel_ready are the inner channel's; no token is fetched."""
    assert channel.get_state() is grpc.ChannelConnectivity.IDLE
    watching = asyncio.ensure_future(channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE))
    await channel.channel_ready()
    await watching
    assert channel.get_state() is grpc.ChannelConnectivity.READY
    assert channel.auth.status().generation == 0


async def test_a_forgotten_channel_speaks_up(echo_server: EchoServer, cache: TokenCache) -> None:
    """With a ResourceWarning, when it is collected."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    forgotten = [AuthorizedChannel(inner, cache)]
    gc.collect()
    with pytest.warns(ResourceWarning, match="never closed"):
        forgotten.clear()
    await inner.close()


async def test_another_loop_is_one_clear_error(arity: Any, stub: EchoStub) -> None:
    """A stub handed to another thread's loop."""
    errors: list[BaseException] = []

    async def use() -> None:
        try:
            arity.begin(stub)
        except WrongEventLoopError as error:
            errors.append(error)

    await asyncio.to_thread(lambda: asyncio.run(use()))
    assert "another event loop" in str(errors[0])


async def test_no_loop_is_one_clear_error(stub: EchoStub) -> None:
    """A stub called in a thread without a loop."""
    with pytest.raises(WrongEventLoopError):
        await asyncio.to_thread(stub.UnaryUnary, b"x")


# Plaintext


async def test_insecure_channel_credentials_are_refused_before_anything_is_opened() -> None:
    """The token would cross the network in the clear; the listener sees no connection."""
    connections: list[object] = []
    server = await asyncio.start_server(lambda *pair: connections.append(pair), "127.0.0.1", 0)
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(ConfigurationError, match="in the clear") as caught:
        secure_authorized_channel(TOKEN, None, target, grpc.experimental.insecure_channel_credentials())
    server.close()
    await server.wait_closed()
    assert (caught.value.field, connections) == ("ssl_credentials", [])


async def test_tls_to_a_plaintext_server_sends_no_token() -> None:
    """The default is TLS: what arrives is a handshake and nothing else."""
    received = asyncio.Queue[bytes]()

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.put_nowait(await reader.read(65536))
        writer.close()

    server = await asyncio.start_server(read, "127.0.0.1", 0)
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with secure_authorized_channel(TOKEN, None, target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await EchoStub(channel).UnaryUnary(b"x", timeout=10)
    server.close()
    first = await received.get()
    assert first[:1] == b"\x16"  # a TLS handshake record
    assert b"abc" not in first
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_insecure_channel_to_this_machine_is_quiet() -> None:
    """The name is the opt-in; loopback needs no warning."""
    async with EchoServer(tls=False) as server, insecure_authorized_channel(TOKEN, server.target) as channel:
        await EchoStub(channel).UnaryUnary(b"x")
        assert server.calls[0].values("authorization") == ("Bearer abc",)


@pytest.mark.parametrize("target", ["example.com", "10.0.0.1:80", "dns:///example.com"])
def test_an_insecure_channel_to_elsewhere_warns(target: str) -> None:
    """Whoever reads the network can use the token. The warning is shown where the channel was asked for."""
    with pytest.warns(UserWarning, match="in the clear") as caught:
        insecure_authorized_channel(TOKEN, target)
    assert caught[0].filename == __file__


# Client certificates


async def test_a_client_certificate_comes_from_a_callback() -> None:
    """A plain function in a thread, or a coroutine function: the server that demands one lets the call in."""
    async with EchoServer(mutual_tls=True) as server:
        pair = server.issue_client_certificate()
        threads: list[str] = []

        def plain() -> tuple[bytes, bytes]:
            threads.append(threading.current_thread().name)
            return pair

        async def coroutine() -> tuple[bytes, bytes]:
            return pair

        for callback in (plain, coroutine):
            opening = secure_authorized_channel(TOKEN, None, server.target, client_cert_callback=callback)
            async with opening:
                pass
        assert threads != ["MainThread"]


def fail() -> tuple[bytes, bytes]:
    raise OSError("no such card")


@pytest.mark.parametrize(
    "callback",
    [fail, lambda: None, lambda: ("text", "text"), lambda: (b"no pem", b"no pem"), lambda: (b"-----BEGIN",)],
)
async def test_a_client_certificate_that_cannot_be_had_is_one_error(callback: Any) -> None:
    """google-auth's MutualTLSChannelError, on opening, with the cause."""
    with pytest.raises(MutualTLSChannelError):
        await secure_authorized_channel(TOKEN, None, "host", client_cert_callback=callback)


# Mistakes


@pytest.mark.parametrize(
    ("make", "field"),
    [
        pytest.param(
            lambda ssl: secure_authorized_channel(TOKEN, None, "host", ssl, fail),
            "ssl_credentials",
            id="both",
        ),
        pytest.param(
            lambda ssl: secure_authorized_channel(TOKEN, None, "https://host"), "target", id="a-scheme"
        ),
        pytest.param(
            lambda ssl: secure_authorized_channel(TOKEN, None, "host", "pem"), "ssl_credentials", id="text"
        ),
        pytest.param(
            lambda ssl: secure_authorized_channel(TOKEN, None, "host", None, "path"),
            "client_cert_callback",
            id="no-function",
        ),
        pytest.param(lambda ssl: secure_authorized_channel("abc", None, "host"), "credentials", id="a-token"),
        pytest.param(
            lambda ssl: secure_authorized_channel(TOKEN, object(), "host"), "request", id="no-request"
        ),
        pytest.param(
            lambda ssl: insecure_authorized_channel(TOKEN, "http://host"), "target", id="insecure-scheme"
        ),
    ],
)
def test_a_mistake_is_an_error_at_the_call(make: Callable[[Any], object], field: str) -> None:
    """Before anything is opened; `field` names the argument."""
    with pytest.raises(ConfigurationError) as caught:
        make(grpc.ssl_channel_credentials())
    assert caught.value.field == field


def test_an_unknown_keyword_is_a_type_error() -> None:
    """Not swallowed by **kwargs."""
    with pytest.raises(TypeError, match="retries"):
        secure_authorized_channel(TOKEN, None, "host", retries=3)  # type: ignore[call-arg]  # the mistake


# A second identity, or none


def test_composite_credentials_are_refused() -> None:
    """They carry a token of their own."""
    composite = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(), grpc.access_token_call_credentials("OTHER")
    )
    with pytest.raises(ConfigurationError, match="composite"):
        secure_authorized_channel(TOKEN, None, "host", composite)


def test_xds_credentials_that_fall_back_to_plaintext_are_refused() -> None:
    """Without xDS they are insecure credentials."""
    fallback = grpc.experimental.insecure_channel_credentials()
    with pytest.raises(ConfigurationError, match="in the clear"):
        secure_authorized_channel(TOKEN, None, "host", grpc.xds_channel_credentials(fallback))


async def test_fixed_metadata_may_not_stand_in_for_the_token(
    echo_server: EchoServer, cache: TokenCache
) -> None:
    """The channel would send another identity than its cache's."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    with pytest.raises(ConfigurationError, match="the token itself goes to"):
        AuthorizedChannel(inner, cache, metadata=(("authorization", "Bearer OTHER"),))
    await inner.close()


WITH_THE_HEADER = aio_authgrpc.Token("t", metadata=(("authorization", "Bearer two"),))


async def test_a_token_whose_own_metadata_holds_the_header_fails_each_call_in_the_same_way(
    arity: Any, echo_server: EchoServer
) -> None:
    """The server would get two; each call can be made, and fails when it is awaited."""
    async with secure_authorized_channel(
        static_token(WITH_THE_HEADER), None, echo_server.target, echo_server.ssl_credentials
    ) as channel:
        for _ in range(2):  # the second has the token at hand
            call = arity.begin(EchoStub(channel))
            with pytest.raises(TokenRefusedError, match="The token's own metadata"):
                await arity.finish(call)
    assert echo_server.calls == []


@pytest.mark.parametrize("header", ["authorization", "x-user"])
async def test_such_a_token_of_another_identity_fails_the_call_as_well(
    stub: EchoStub, echo_server: EchoServer, header: str
) -> None:
    """In place of the channel's own identity, and beside it."""
    token = aio_authgrpc.Token("t", metadata=((header, "Bearer two"),))
    with aio_authgrpc.identity(static_token(token), header=header):
        for _ in range(2):
            call = stub.UnaryUnary(b"x")
            with pytest.raises(TokenRefusedError, match="The token's own metadata"):
                await call
    assert echo_server.calls == []


async def test_a_callers_api_key_beside_the_channels_is_an_error(echo_server: EchoServer) -> None:
    """As with the token."""
    async with aio_authgrpc.connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        api_key="A",
        ssl_credentials=echo_server.ssl_credentials,
    ) as stub:
        with pytest.raises(ConfigurationError, match="x-api-key"):
            stub.UnaryUnary(b"x", metadata=(("x-api-key", "B"),))


def test_a_channel_that_was_not_awaited_says_so() -> None:
    """A stub asks it for its methods first."""
    opening: Any = secure_authorized_channel(TOKEN, None, "host")
    with pytest.raises(AttributeError, match=r"write 'channel = await secure_authorized_channel\(\.\.\.\)'"):
        EchoStub(opening)


def test_arguments_in_another_order_are_an_error_that_tells_the_order() -> None:
    """Such as that in which google-auth's documentation prints them."""
    with pytest.raises(ConfigurationError, match="The order is credentials, request, target") as caught:
        secure_authorized_channel(TOKEN, "host:443", None)  # type: ignore[arg-type]  # the mistake
    assert caught.value.field == "request"


# Ends that are cut short


async def test_closing_with_grace_that_is_cancelled_ends_at_once(
    channel: AuthorizedChannel, stub: EchoStub, tokens: Any
) -> None:
    """Whoever cancels the wait gets no more of it."""
    gate = tokens.hold()
    call = stub.UnaryUnary(b"x")
    await gate.arrived.wait()
    closing = asyncio.ensure_future(channel.close(grace=15))
    await asyncio.sleep(0)
    closing.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait({closing})
    with pytest.raises(aio_authgrpc.errors.ChannelClosedError):
        await call
    gate.release()


@pytest.mark.parametrize("refresh_interval", [None, 600.0])
async def test_closing_with_grace_that_is_cancelled_ends_the_calls_and_the_connection(
    echo_server: EchoServer, refresh_interval: float | None, tmp_path: Path
) -> None:
    """A stream that is under way too; grpc.aio's own channel would stay open for good."""
    (tmp_path / "ca.pem").write_bytes(echo_server.ca_pem)
    tls = aio_authgrpc.SslCredentials(
        root_certificates=tmp_path / "ca.pem", refresh_interval=refresh_interval
    )
    connection = aio_authgrpc.connect(echo_server.target, EchoStub, credentials=TOKEN, ssl_credentials=tls)
    async with connection as stub:
        call = stub.StreamStream()
        await call.write(b"x")
        await call.read()
        closing = asyncio.ensure_future(connection.channel.close(grace=15))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert call.cancelled()
        assert connection.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_closing_with_grace_lets_running_calls_of_all_arities_finish(
    arity: Any, channel: AuthorizedChannel, stub: EchoStub, echo_server: EchoServer, cache: TokenCache
) -> None:
    """Those with a token at hand, and those that waited for it."""
    outcomes = []
    with echo_server.hold(times=2) as gate:
        for _ in range(2):  # the second has its token at hand
            outcomes.append(asyncio.ensure_future(arity.finish(arity.begin(stub))))
            await gate.wait_for(len(outcomes))
        closing = asyncio.ensure_future(channel.close(grace=15))
        await asyncio.sleep(0)
    await closing
    assert await asyncio.gather(*outcomes) == [arity.responses] * 2


async def test_one_opening_entered_twice_at_once_is_one_error(echo_server: EchoServer) -> None:
    """Or the first channel would be lost."""
    opening = secure_authorized_channel(TOKEN, None, echo_server.target, echo_server.ssl_credentials)
    outcomes = await asyncio.gather(opening.__aenter__(), opening.__aenter__(), return_exceptions=True)
    kinds = sorted(type(outcome).__name__ for outcome in outcomes)
    await opening.__aexit__(None, None, None)
    assert kinds == ["AuthorizedChannel", "ConfigurationError"]


async def test_grpcs_own_defaults_are_taken(echo_server: EchoServer) -> None:
    """None for options and interceptors, as grpc.aio has it."""
    async with secure_authorized_channel(
        TOKEN,
        None,
        echo_server.target,
        echo_server.ssl_credentials,
        options=None,
        compression=None,
        interceptors=None,
    ) as channel:
        assert await EchoStub(channel).UnaryUnary(b"x") == b"x"


async def test_an_object_with_an_async_call_is_a_certificate_callback() -> None:
    """As is a bound method or a partial."""

    class Callback:
        asked = 0

        async def __call__(self) -> tuple[bytes, bytes]:
            self.asked += 1
            return server.issue_client_certificate()

    callback = Callback()
    async with EchoServer(mutual_tls=True) as server:
        async with secure_authorized_channel(TOKEN, None, server.target, client_cert_callback=callback):
            assert callback.asked == 1


class PassOn(grpc.aio.UnaryUnaryClientInterceptor):
    """Changes nothing."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, request)


async def test_a_call_behind_an_interceptor_that_is_cancelled_is_done(echo_server: EchoServer) -> None:
    """At once, as it is cancelled at once."""
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=static_token("a-token"),
        ssl_credentials=echo_server.ssl_credentials,
        interceptors=[PassOn()],
    ) as stub:
        call: Any = stub.UnaryUnary(b"x")
        await asyncio.sleep(0)
        assert call.cancel()
        assert call.cancelled()
        assert call.done()


async def test_a_channel_sends_a_key_under_the_keys_own_header(echo_server: EchoServer) -> None:
    """Also where it is made of its parts; another header is refused."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    async with TokenCache(api_key("k1")) as cache, AuthorizedChannel(inner, cache) as channel:
        await EchoStub(channel).UnaryUnary(b"x")
        with pytest.raises(ConfigurationError, match="x-api-key"):
            AuthorizedChannel(inner, cache, header="authorization")
    assert echo_server.calls[0].values("x-api-key") == ("k1",)
    assert echo_server.calls[0].values("authorization") == ()


@pytest.mark.parametrize(
    ("headers", "more", "field"),
    [
        (("proxy-authorization", "authorization"), {"metadata": {"authorization": "x"}}, "metadata"),
        (("authorization", "x-api-key"), {"api_key": "k2"}, "api_key"),
    ],
)
def test_fixed_metadata_may_not_stand_in_for_a_second_token(
    headers: tuple[str, str], more: dict[str, Any], field: str
) -> None:
    """It would be sent in its place, in silence."""
    several = {header: static_token("t") for header in headers}
    with pytest.raises(ConfigurationError, match="the token itself goes to") as caught:
        connect("host", EchoStub, credentials=several, **more)
    assert caught.value.field == field


@pytest.mark.parametrize("kind", ["authorized", "lazy", "of-an-identity"])
@pytest.mark.parametrize(
    ("arity", "expected"),
    [
        ("unary_unary", grpc.aio.UnaryUnaryMultiCallable),
        ("unary_stream", grpc.aio.UnaryStreamMultiCallable),
        ("stream_unary", grpc.aio.StreamUnaryMultiCallable),
        ("stream_stream", grpc.aio.StreamStreamMultiCallable),
    ],
)
async def test_a_method_is_of_grpc_aios_class_for_its_arity(
    kind: str, arity: str, expected: type, channel: AuthorizedChannel
) -> None:
    """google-api-core tells streams by it, and takes anything else for unary."""
    channels: dict[str, grpc.aio.Channel] = {
        "authorized": channel,
        "lazy": LazyChannel("localhost", credentials=TOKEN),
        "of-an-identity": channel.with_identity(TOKEN, header="x-another"),
    }
    assert isinstance(getattr(channels[kind], arity)("/package.Service/Method"), expected)
