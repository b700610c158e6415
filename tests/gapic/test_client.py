"""gapic.client(), with a client that is built like google-cloud's; tests/contact has the real ones."""

from __future__ import annotations

from typing import Any

import google.auth.compute_engine
import google.oauth2.service_account
import grpc.aio
import pytest
from google.api_core.client_options import ClientOptions

from aio_authgrpc import ConfigurationError, SslCredentials, api_key, static_token
from aio_authgrpc.gapic import client
from aio_authgrpc.gapic.cloud_client import _arguments, _credentials
from aio_authgrpc.testing import Authority, EchoServer, EchoStub, ScriptedTokens

TOKEN = static_token("abc")


class Transport:
    """Like a generated transport for asyncio."""

    AUTH_SCOPES = ("https://www.googleapis.com/auth/echo",)
    DEFAULT_HOST = "echo.googleapis.com"

    def __init__(self, *, channel: grpc.aio.Channel, host: str, client_info: object = None) -> None:
        self.grpc_channel = channel
        self.client_info = client_info
        self._host = host

    @property
    def host(self) -> str:
        return self._host


class EchoAsyncClient:
    """Like a generated client for asyncio: it works out its endpoint, unless its transport has one."""

    @classmethod
    def get_transport_class(cls, label: str) -> type[Transport]:
        return {"grpc_asyncio": Transport}[label]

    def __init__(
        self,
        *,
        transport: Any = "grpc_asyncio",
        client_options: ClientOptions | None = None,
        client_info: object = None,
    ) -> None:
        assert client_options is not None
        assert (client_options.scopes, client_options.api_key) == (None, None)
        universe = client_options.universe_domain or "googleapis.com"
        self.api_endpoint = transport.host or client_options.api_endpoint or f"echo.{universe}"
        self.transport = transport
        self.client_info = client_info

    async def echo(self, text: bytes) -> bytes:
        return await EchoStub(self.transport.grpc_channel).UnaryUnary(text)


class EchoClient(EchoAsyncClient):
    """Like a generated synchronous client."""

    def __init__(self, *, transport: Any = None, client_options: Any = None) -> None:
        raise AssertionError


async def test_the_client_is_ready_and_its_calls_carry_the_token(echo_server: EchoServer) -> None:
    """At the endpoint of its options."""
    async with client(
        EchoAsyncClient,
        credentials=TOKEN,
        client_options={"api_endpoint": echo_server.target, "quota_project_id": "payer"},
        ssl_credentials=echo_server.ssl_credentials,
    ) as echo:
        assert await echo.echo(b"x") == b"x"
        assert echo.api_endpoint == echo_server.target
    (call,) = echo_server.calls
    assert call.values("authorization") == ("Bearer abc",)
    assert call.values("x-goog-user-project") == ("payer",)


async def test_options_override_the_clients_own(echo_server: EchoServer) -> None:
    """It lifts the limits of message sizes, and a caller may set one."""
    async with client(
        EchoAsyncClient,
        credentials=TOKEN,
        client_options={"api_endpoint": echo_server.target},
        ssl_credentials=echo_server.ssl_credentials,
        options=[("grpc.max_send_message_length", 1)],
    ) as echo:
        with pytest.raises(grpc.aio.AioRpcError, match=r"larger than max \(2 vs. 1\)"):
            await echo.echo(b"xx")


async def test_the_endpoint_is_what_the_client_works_out() -> None:
    """For its universe, for example; its host is the audience of the tokens."""
    async with client(
        EchoAsyncClient, credentials=TOKEN, client_options=ClientOptions(universe_domain="a.example")
    ) as echo:
        assert echo.api_endpoint == "echo.a.example"
    assert _arguments(Transport, ClientOptions(), {})["audience"] == "https://echo.googleapis.com"


async def test_what_the_client_says_of_itself_reaches_client_and_transport() -> None:
    """As `client_info`; nothing is passed on without it."""
    info: Any = object()
    async with client(EchoAsyncClient, credentials=TOKEN, client_info=info) as echo:
        assert (echo.client_info, echo.transport.client_info) == (info, info)


async def test_clients_with_one_source_share_its_token(echo_server: EchoServer) -> None:
    """They are on channels of one event loop."""
    tokens = ScriptedTokens()
    arguments: Any = {
        "credentials": tokens,
        "client_options": {"api_endpoint": echo_server.target},
        "ssl_credentials": echo_server.ssl_credentials,
    }
    async with client(EchoAsyncClient, **arguments) as one, client(EchoAsyncClient, **arguments) as other:
        await one.echo(b"x")
        await other.echo(b"x")
    assert tokens.fetches == 1


@pytest.mark.parametrize("given", [EchoClient, object, None, "EchoAsyncClient", Transport], ids=str)
def test_what_is_not_a_generated_async_client_is_refused_at_once(given: Any) -> None:
    """With the function that is for it."""
    with pytest.raises(ConfigurationError, match=r"gapic\.credentials\(\)") as caught:
        client(given, credentials=TOKEN)
    assert caught.value.field == "client_class"


def test_the_options_of_a_caller_are_copied() -> None:
    """They may be for several clients."""
    options = ClientOptions(scopes=["a-scope"], api_key="a-key")
    client(EchoAsyncClient, client_options=options)
    assert (options.scopes, options.api_key) == (["a-scope"], "a-key")


@pytest.mark.filterwarnings("ignore:.*credentials_file.*:DeprecationWarning")
def test_a_credentials_file_in_the_options_is_refused_at_once() -> None:
    """The client would read it on the loop, and take any type of it."""
    with pytest.raises(ConfigurationError, match="credentials_file") as caught:
        client(EchoAsyncClient, client_options={"credentials_file": "key.json"})
    assert caught.value.field == "client_options"


def test_a_certificate_of_the_options_is_used_unless_there_is_a_better_one() -> None:
    """`ssl_credentials` is the more exact argument, and a plaintext channel has none."""

    def certificate() -> tuple[bytes, bytes]:
        raise AssertionError

    options = ClientOptions(client_cert_source=certificate)
    given = SslCredentials()
    assert isinstance(_arguments(Transport, options, {})["ssl_credentials"], SslCredentials)
    assert _arguments(Transport, options, {"ssl_credentials": given})["ssl_credentials"] is given
    assert "ssl_credentials" not in _arguments(Transport, options, {"plaintext": True})


def test_an_api_key_of_the_options_is_the_identity() -> None:
    """In the header that Google's APIs read; it excludes credentials."""
    options = ClientOptions(api_key="the-key")
    assert _credentials(None, ("a-scope",), options).header == "x-goog-api-key"
    with pytest.raises(ConfigurationError, match="excludes credentials="):
        _credentials(TOKEN, ("a-scope",), options)


def test_a_source_of_this_package_keeps_its_scopes() -> None:
    """It was made with them."""
    source = api_key("the-key")
    assert _credentials(source, ("a-scope",), ClientOptions(scopes=["b"])) is source


def test_a_credential_of_google_auth_that_needs_scopes_gets_them() -> None:
    """A copy of it: the caller's object stays as it was."""
    given = google.auth.compute_engine.Credentials()
    scoped = _credentials(given, ("a-scope",), ClientOptions())
    assert (scoped.scopes, given.scopes) == (("a-scope",), None)


async def test_a_service_account_of_google_auth_signs_as_in_the_clients_own_channel(
    authority: Authority,
) -> None:
    """Unless it acts for a user, which takes the token endpoint, or the user named scopes."""
    make = google.oauth2.service_account.Credentials.from_service_account_info
    given = make(await authority.service_account_info())
    assert _credentials(given, ("a-scope",), ClientOptions()) is given
    subject = given.with_subject("someone@example.com")
    assert list(_credentials(subject, ("a-scope",), ClientOptions()).scopes) == ["a-scope"]
    assert list(_credentials(given, ("a-scope",), ClientOptions(scopes=["b"])).scopes) == ["b"]
