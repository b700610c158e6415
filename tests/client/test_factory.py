"""`channel_factory()`: synchronous, lazy, and called by clients with keyword arguments of their own."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest
from google.auth.credentials import AnonymousCredentials
from google.oauth2 import service_account as google_service_account

from aio_authgrpc import ConfigurationError, channel_factory, static_token
from aio_authgrpc.testing import Authority, EchoServer, EchoStub

TOKEN = static_token("abc")
LENGTH = "grpc.max_send_message_length"


async def test_it_makes_a_channel_of_a_target(echo_server: EchoServer) -> None:
    """A `Callable[[str], grpc.aio.Channel]`."""
    factory = channel_factory(TOKEN, ssl_credentials=echo_server.ssl_credentials)
    channel = factory(echo_server.target)
    assert isinstance(channel, grpc.aio.Channel)
    assert await EchoStub(channel).UnaryUnary(b"x") == b"x"
    await channel.close()
    assert echo_server.calls[0].values("authorization") == ("Bearer abc",)


async def test_its_own_arguments_override_the_clients(echo_server: EchoServer) -> None:
    """The client's default credentials do not replace those that the factory was made with."""
    factory = channel_factory(TOKEN, ssl_credentials=echo_server.ssl_credentials, quota_project_id="mine")
    channel = factory(
        echo_server.target,
        credentials=AnonymousCredentials(),
        credentials_file=None,
        scopes=["one"],
        default_scopes=["two"],
        default_host="other.example",
        ssl_credentials=None,
        quota_project_id="theirs",
        options=[("grpc.max_send_message_length", -1)],
    )
    await EchoStub(channel).UnaryUnary(b"x")
    await channel.close()
    (call,) = echo_server.calls
    assert call.values("authorization") == ("Bearer abc",)
    assert call.values("x-goog-user-project") == ("mine",)


@pytest.mark.parametrize("of_factory", [{LENGTH: 1}, iter([(LENGTH, 1)])])
async def test_options_are_a_mapping_or_pairs(echo_server: EchoServer, of_factory: Any) -> None:
    """The factory's come after the client's, for each channel that it makes."""
    tls = echo_server.ssl_credentials
    factory = channel_factory(TOKEN, ssl_credentials=tls, options=of_factory)
    clients: Any = {LENGTH: -1}
    for channel in (factory(echo_server.target, options=clients), factory(echo_server.target)):
        with pytest.raises(grpc.aio.AioRpcError, match=r"larger than max \(2 vs. 1\)"):
            await EchoStub(channel).UnaryUnary(b"xx")
        await channel.close()


async def test_its_service_config_replaces_the_clients(echo_server: EchoServer) -> None:
    """A google-cloud client may bring one among its options."""
    config = {"methodConfig": [{"name": [{}], "maxRequestMessageBytes": 1}]}
    factory = channel_factory(TOKEN, ssl_credentials=echo_server.ssl_credentials, service_config=config)
    channel = factory(echo_server.target, options=[("grpc.service_config", "{}")])
    with pytest.raises(grpc.aio.AioRpcError, match=r"larger than max \(2 vs. 1\)"):
        await EchoStub(channel).UnaryUnary(b"xx")
    await channel.close()


async def test_without_credentials_it_takes_the_clients_with_its_scopes(echo_server: EchoServer) -> None:
    """A service account of google-auth's gets the scopes that the client names."""
    async with Authority() as authority:
        info = await authority.service_account_info()
        credentials: Any = google_service_account.Credentials.from_service_account_info(info)
        factory = channel_factory(ssl_credentials=echo_server.ssl_credentials)
        channel = factory(
            echo_server.target,
            credentials=credentials,
            default_scopes=["https://www.googleapis.com/auth/cloud-platform"],
            quota_project_id="theirs",
        )
        await EchoStub(channel).UnaryUnary(b"x")
        await channel.close()
        assert authority.token_requests == 1
    (call,) = echo_server.calls
    assert call.values("x-goog-user-project") == ("theirs",)


def test_a_wrong_argument_is_refused_where_it_was_written() -> None:
    """Not at the first target."""
    with pytest.raises(ConfigurationError, match="max_connections"):
        channel_factory(TOKEN, max_connections=0)


def test_a_credentials_file_is_refused() -> None:
    """The function for its type reads it."""
    with pytest.raises(ConfigurationError, match="credentials_file"):
        channel_factory(TOKEN)("localhost:1", credentials_file="key.json")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://agent.example.com", "agent.example.com:443"),
        ("https://agent.example.com:8443/a2a", "agent.example.com:8443"),
    ],
)
def test_an_https_url_is_a_target(url: str, address: str) -> None:
    """An agent's card has one; gRPC's path is that of the method."""
    assert repr(channel_factory(TOKEN)(url)) == f"<LazyChannel to {address}>"


@pytest.mark.parametrize("url", ["http://agent.example.com", "https://user:secret@agent.example.com"])
def test_another_url_is_refused(url: str) -> None:
    """In the clear, or with a password, which the error does not show."""
    with pytest.raises(ConfigurationError) as caught:
        channel_factory(TOKEN)(url)
    assert "secret" not in str(caught.value)
