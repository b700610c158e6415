"""Nothing is in the clear unless it was asked for by name: each guard is watched at the socket."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google.auth.credentials
import grpc
import grpc.aio
import grpc.experimental
import pytest

from aio_authgrpc import (
    AuthorizedChannel,
    ConfigurationError,
    anonymous,
    connect,
    identity,
    insecure_authorized_channel,
    secure_authorized_channel,
    static_token,
)
from aio_authgrpc.testing import EchoServer, EchoStub
from aio_authgrpc.tokens import TokenCache

TOKEN = static_token("abc")
TLS = grpc.ssl_channel_credentials()


def insecure() -> grpc.ChannelCredentials:
    return grpc.experimental.insecure_channel_credentials()


def composite() -> grpc.ChannelCredentials:
    return grpc.composite_channel_credentials(TLS, grpc.access_token_call_credentials("OTHER"))


def compute_engine() -> grpc.ChannelCredentials:
    return grpc.compute_engine_channel_credentials(grpc.access_token_call_credentials("OTHER"))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda to: secure_authorized_channel(TOKEN, None, to, insecure()), id="insecure"),
        pytest.param(
            lambda to: connect(to, EchoStub, credentials=TOKEN, ssl_credentials=insecure()), id="connect"
        ),
        pytest.param(lambda to: secure_authorized_channel(TOKEN, None, to, composite()), id="composite"),
        pytest.param(
            lambda to: secure_authorized_channel(TOKEN, None, to, compute_engine()), id="compute-engine"
        ),
        pytest.param(
            lambda to: secure_authorized_channel(TOKEN, None, to, grpc.xds_channel_credentials(insecure())),
            id="xds-fallback",
        ),
        pytest.param(
            lambda to: connect(to, EchoStub, credentials=TOKEN, plaintext=True, ssl_credentials=TLS),
            id="plaintext-and-tls",
        ),
        pytest.param(lambda to: connect(to, EchoStub, credentials=TOKEN, plaintext=1), id="truthy"),  # type: ignore[call-overload]  # the mistake
        pytest.param(lambda to: connect(f"http://{to}", EchoStub, credentials=TOKEN), id="scheme"),
        pytest.param(lambda to: insecure_authorized_channel(TOKEN, f"http://{to}"), id="insecure-scheme"),
    ],
)
async def test_a_guard_refuses_before_a_byte_is_sent(make: Callable[[str], Any], listener: Any) -> None:
    """At the call; nothing was opened."""
    with pytest.raises(ConfigurationError):
        await make(listener.target)
    assert (listener.connections, bytes(listener.received)) == (0, b"")


@pytest.mark.parametrize("keyword", ["plaintext", "header", "api_key", "no_such"])
async def test_a_keyword_that_a_factory_does_not_have_is_an_error(keyword: str, listener: Any) -> None:
    """As in any signature: one that says `secure` takes no `plaintext=True`."""
    arguments: Any = {keyword: True}
    with pytest.raises(TypeError, match=rf"^secure_authorized_channel\(\) .*{keyword}"):
        secure_authorized_channel(TOKEN, None, listener.target, **arguments)
    with pytest.raises(TypeError, match=rf"^insecure_authorized_channel\(\) .*{keyword}"):
        insecure_authorized_channel(TOKEN, listener.target, **arguments)


async def test_without_a_word_about_tls_the_first_byte_is_a_handshakes(listener: Any) -> None:
    """The default; the token is in nothing that arrives."""
    async with connect(listener.target, EchoStub, credentials=TOKEN) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.UnaryUnary(b"x", timeout=10)
    first = await listener.first()
    assert first[:1] == b"\x16"  # a TLS handshake record
    assert b"abc" not in listener.received
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_local_credentials_of_another_kind_send_no_byte(listener: Any) -> None:
    """Those for Unix sockets, to a TCP port: gRPC refuses."""
    local = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
    async with secure_authorized_channel(TOKEN, None, listener.target, local) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await EchoStub(channel).UnaryUnary(b"x", timeout=10)
    assert (listener.connections, bytes(listener.received)) == (0, b"")


async def test_a_warning_that_is_an_error_sends_no_byte() -> None:
    """`python -W error` refuses what `plaintext=True` to another machine would send."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="in the clear"):
            connect("192.0.2.1:80", EchoStub, credentials=TOKEN, plaintext=True)


# A channel that another made


@pytest.mark.parametrize(
    "target", ["192.0.2.1:80", "dns:///db.example.com:80", "ipv4:127.0.0.1:1,192.0.2.1:1"]
)
async def test_a_plaintext_channel_to_another_machine_warns_when_it_gets_tokens(target: str) -> None:
    """`AuthorizedChannel` over `grpc.aio.insecure_channel`, at the line that makes it."""
    async with TokenCache(TOKEN) as cache:
        with pytest.warns(UserWarning, match="in the clear") as caught:
            async with AuthorizedChannel(grpc.aio.insecure_channel(target), cache):
                pass
    assert [warning.filename for warning in caught] == [__file__]


async def test_another_identity_warns_on_a_plaintext_channel_without_a_secret() -> None:
    """At its first use: until then nothing that the channel sends is a secret."""
    async with TokenCache(anonymous()) as cache, grpc.aio.insecure_channel("db.invalid:1") as inner:
        async with AuthorizedChannel(inner, cache) as channel:
            with pytest.warns(UserWarning, match="in the clear"), identity(TOKEN):
                EchoStub(channel).UnaryUnary(b"x", timeout=5).cancel()


async def test_a_channel_that_keeps_tokens_from_readers_does_not_warn(tmp_path: Path) -> None:
    """TLS, local credentials, this machine, a Unix socket; and one that is closed."""
    closed = grpc.aio.insecure_channel("192.0.2.1:1")
    await closed.close()
    channels = [
        grpc.aio.secure_channel("192.0.2.1:443", TLS),
        grpc.aio.secure_channel("192.0.2.1:443", grpc.local_channel_credentials()),
        *map(grpc.aio.insecure_channel, ["localhost:1", "[::1]:1", "ipv4:127.0.0.1:1", f"unix:{tmp_path}/s"]),
        closed,
    ]
    async with TokenCache(TOKEN) as cache:
        for inner in channels:
            async with AuthorizedChannel(inner, cache):
                pass


# Proxies


@pytest.mark.parametrize(
    "option",
    [
        ("grpc.http_proxy", "http://192.0.2.1:3128"),
        ("grpc.enable_http_proxy", 1),
        ("grpc.address_http_proxy", "192.0.2.1:3128"),
    ],
    ids=lambda option: option[0],
)
def test_a_proxy_does_not_carry_tokens_off_this_machine_in_the_clear(option: tuple[str, object]) -> None:
    """Local credentials do not encrypt: they are refused. Plaintext to this machine warns."""
    local = grpc.local_channel_credentials()
    with pytest.raises(ConfigurationError, match="off this machine") as caught:
        connect("localhost:1", EchoStub, credentials=TOKEN, ssl_credentials=local, options=[option])
    assert caught.value.field == "options"
    with pytest.warns(UserWarning, match="in the clear"):
        connect("localhost:1", EchoStub, credentials=TOKEN, plaintext=True, options=[option])


def test_a_proxy_that_is_turned_off_does_not_warn() -> None:
    """The switch comes first in gRPC."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.http_proxy", "http://192.0.2.1:3128")]
    local = grpc.local_channel_credentials()
    connect("localhost:1", EchoStub, credentials=TOKEN, ssl_credentials=local, options=options)
    connect("localhost:1", EchoStub, credentials=TOKEN, plaintext=True, options=options)


# What is allowed


async def test_local_credentials_carry_the_token_on_this_machine() -> None:
    """That the connection is a local one gRPC sees to itself."""
    async with EchoServer(tls=False) as server:
        local = grpc.local_channel_credentials(grpc.LocalConnectionType.LOCAL_TCP)
        async with secure_authorized_channel(TOKEN, None, server.target, local) as channel:
            await EchoStub(channel).UnaryUnary(b"x", timeout=10)
    assert server.calls[0].values("authorization") == ("Bearer abc",)


class UnixServer(EchoServer):
    """An EchoServer that listens on a Unix socket too."""

    def __init__(self, path: Path) -> None:
        super().__init__(tls=False)
        self._path = path

    def _register(self, server: grpc.aio.Server) -> None:
        super()._register(server)
        server.add_insecure_port(f"unix:{self._path}")


@pytest.mark.parametrize("scheme", ["unix:", "unix://"])
async def test_a_unix_socket_is_reached_in_the_clear_without_a_warning(tmp_path: Path, scheme: str) -> None:
    """With `plaintext=True`; nothing leaves the machine."""
    async with UnixServer(tmp_path / "socket") as server:
        target = f"{scheme}{tmp_path / 'socket'}"
        async with connect(target, EchoStub, credentials=TOKEN, plaintext=True) as stub:
            await stub.UnaryUnary(b"x", timeout=10)
    assert server.calls[0].values("authorization") == ("Bearer abc",)


async def test_a_unix_socket_takes_local_credentials(tmp_path: Path) -> None:
    """Without `plaintext=True`."""
    async with UnixServer(tmp_path / "socket") as server:
        local = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
        target = f"unix:{tmp_path / 'socket'}"
        async with secure_authorized_channel(TOKEN, None, target, local) as channel:
            await EchoStub(channel).UnaryUnary(b"x", timeout=10)
    assert server.calls[0].values("authorization") == ("Bearer abc",)


# Emulators


@pytest.mark.parametrize("credentials", [anonymous, google.auth.credentials.AnonymousCredentials])
async def test_an_emulator_gets_no_token_and_nothing_is_looked_up(
    monkeypatch: pytest.MonkeyPatch, credentials: Callable[[], Any]
) -> None:
    """`connect(os.environ["PUBSUB_EMULATOR_HOST"], ...)`: default credentials would fail on this file."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file.json")
    async with EchoServer(tls=False) as server:
        async with connect(server.target, EchoStub, credentials=credentials(), plaintext=True) as stub:
            await stub.UnaryUnary(b"x", timeout=10)
    assert server.calls[0].values("authorization") == ()


@pytest.mark.parametrize("credentials", [anonymous, google.auth.credentials.AnonymousCredentials])
def test_an_emulator_on_another_host_does_not_warn(credentials: Callable[[], Any]) -> None:
    """There is no token that anybody could read; warnings are errors in these tests."""
    connection = connect("emulator:8085", EchoStub, credentials=credentials(), plaintext=True)
    assert repr(connection) == "<Connection to emulator:8085, closed>"
    assert repr(anonymous()) == "anonymous()"


@pytest.mark.parametrize(
    "arguments",
    [
        {"api_key": "key"},
        {"metadata": {"X-Api-Key": "key"}},
        {"metadata": {"x-goog-api-key": "key"}},
        {"metadata": [("authorization", "Basic abc")], "header": "x-serverless-authorization"},
    ],
)
def test_a_secret_beside_no_token_does_warn(arguments: dict[str, Any]) -> None:
    """An API key, or a header that authorizes, wherever it was written."""
    with pytest.warns(UserWarning, match="in the clear"):
        connect("emulator:8085", EchoStub, credentials=anonymous(), plaintext=True, **arguments)


async def test_an_identity_on_a_plaintext_channel_to_another_machine_warns_once() -> None:
    """The channel was opened without a warning, for it has no secret of its own. No server answers."""
    async with connect("192.0.2.1:80", EchoStub, credentials=anonymous(), plaintext=True) as stub:
        with identity(anonymous()):
            stub.UnaryUnary(b"x").cancel()
        with identity(TOKEN), pytest.warns(UserWarning, match=r"192\.0\.2\.1:80 .* in the clear") as warned:
            [stub.UnaryUnary(b"x").cancel() for _ in range(2)]
    assert [warning.filename for warning in warned] == [__file__]


async def test_an_identitys_warning_that_is_an_error_begins_no_call() -> None:
    """Not the first, and not the second."""
    async with connect("192.0.2.1:80", EchoStub, credentials=anonymous(), plaintext=True) as stub:
        for _ in range(2):
            with identity(TOKEN), pytest.raises(UserWarning, match="in the clear"):
                stub.UnaryUnary(b"x")
        assert stub is not None


async def test_an_identity_on_a_plaintext_channel_of_this_machine_does_not_warn() -> None:
    """Nothing leaves it."""
    async with EchoServer(tls=False) as server:
        async with connect(server.target, EchoStub, credentials=anonymous(), plaintext=True) as stub:
            with identity(TOKEN):
                await stub.UnaryUnary(b"x", timeout=10)
    assert server.calls[0].values("authorization") == ("Bearer abc",)
