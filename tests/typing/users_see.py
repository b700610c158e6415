"""What a type checker tells users: asserted here, checked by `tox -e typing`, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

import google.auth.credentials
import google.auth.transport.requests
import google.oauth2.credentials
import grpc
import grpc.aio
import redis.asyncio

import aio_authgrpc
import aio_authgrpc.gapic
from aio_authgrpc.bookstore import (
    BookstoreStub,
    Empty,
    InMemoryBookstore,
    ListShelvesResponse,
    Shelf,
    add_BookstoreServicer_to_server,
)
from aio_authgrpc.redis import SharedTokenStore
from aio_authgrpc.testing import Authority, EchoStub, GuardedServer, RecordedCall


async def one_stub_is_yielded_as_itself() -> None:
    async with aio_authgrpc.connect("host", BookstoreStub) as bookstore:
        shelves = await bookstore.ListShelves(Empty(), timeout=1.0, metadata=(("x-a", "b"),))
        assert_type(shelves, ListShelvesResponse)
        assert_type(shelves.shelves[0], Shelf)


async def without_a_stub_the_channel_is_yielded() -> None:
    async with aio_authgrpc.connect("host", credentials=aio_authgrpc.default(), header=None) as channel:
        assert_type(channel, aio_authgrpc.AuthorizedChannel)
        call = channel.unary_unary("/a.B/C", str.encode, Shelf.FromString)
        assert_type(call, grpc.aio.UnaryUnaryMultiCallable[str, Shelf])


async def a_function_makes_the_stub() -> None:
    async with aio_authgrpc.connect("host", lambda channel: EchoStub(channel)) as stub:  # noqa: PLW0108 - as a client is made
        assert_type(stub, EchoStub)


class CloudClient:
    """Like a generated client of google-cloud."""


async def a_google_cloud_client_is_yielded_as_itself() -> None:
    async with aio_authgrpc.gapic.client(
        CloudClient, credentials=aio_authgrpc.default(), client_options={"api_endpoint": "host"}
    ) as client:
        assert_type(client, CloudClient)
    async with aio_authgrpc.gapic.credentials(aio_authgrpc.default()) as shared:
        assert_type(shared, aio_authgrpc.gapic.CachedCredentials)
        given: google.auth.credentials.Credentials = shared
        del given
    async with aio_authgrpc.tokens.shared_cache(audience="https://host") as cache:
        assert_type(cache, aio_authgrpc.tokens.TokenCache)


async def several_stubs_are_yielded_as_a_tuple() -> None:
    async with aio_authgrpc.connect("host", EchoStub, EchoStub) as two:
        assert_type(two, tuple[EchoStub, EchoStub])
    async with aio_authgrpc.connect("host", EchoStub, EchoStub, EchoStub) as three:
        assert_type(three, tuple[EchoStub, EchoStub, EchoStub])
    async with aio_authgrpc.connect("host", EchoStub, EchoStub, EchoStub, EchoStub) as four:
        assert_type(four, tuple[EchoStub, EchoStub, EchoStub, EchoStub])
    async with aio_authgrpc.connect("host", EchoStub, EchoStub, EchoStub, EchoStub, EchoStub) as five:
        assert_type(five, tuple[EchoStub, EchoStub, EchoStub, EchoStub, EchoStub])


async def bookstore_and_echo(channel_credentials: grpc.ChannelCredentials) -> None:
    async with aio_authgrpc.connect(
        "host",
        BookstoreStub,
        EchoStub,
        credentials=aio_authgrpc.service_account("key.json", scopes=["scope"]),
        ssl_credentials=channel_credentials,
        ready_timeout=5.0,
        max_connections=2,
        service_config={"methodConfig": [{"name": [{}], "timeout": "5s"}]},
    ) as (bookstore, echo):
        assert_type(await bookstore.ListShelves(Empty()), ListShelvesResponse)
        assert_type(await echo.UnaryUnary(b""), bytes)


async def the_connection_has_its_channel(connection: aio_authgrpc.Connection[EchoStub]) -> None:
    async with connection as stub:
        assert_type(stub, EchoStub)
        assert_type(connection.channel, aio_authgrpc.AuthorizedChannel)
        assert_type(connection.auth.status(), aio_authgrpc.tokens.TokenStatus)
        assert_type(connection.auth.status().state, aio_authgrpc.tokens.TokenState)


async def the_seeds_factory_is_awaited_or_entered(credentials: google.oauth2.credentials.Credentials) -> None:
    opening = aio_authgrpc.secure_authorized_channel(credentials, None, "host")
    assert_type(opening, aio_authgrpc.OpeningChannel)
    channel = await opening
    assert_type(channel, aio_authgrpc.AuthorizedChannel)
    async with aio_authgrpc.secure_authorized_channel(
        credentials, aio_authgrpc.AiohttpRequest(), "host", options=[("grpc.keepalive_time_ms", 1)]
    ) as entered:
        assert_type(entered, aio_authgrpc.AuthorizedChannel)
    async with aio_authgrpc.insecure_authorized_channel(credentials, "localhost:1") as insecure:
        assert_type(insecure, aio_authgrpc.AuthorizedChannel)


async def certificates_come_from_where_they_are() -> None:
    credentials = await aio_authgrpc.SslCredentials()
    assert_type(credentials, aio_authgrpc.SslCredentials)
    assert_type(await credentials.load(), aio_authgrpc.SslCredentials)
    assert_type(credentials.is_mtls, bool)
    assert_type(credentials.ssl_credentials, grpc.ChannelCredentials)

    async def from_a_vault() -> tuple[bytes, bytes]:
        return b"chain", b"key"

    aio_authgrpc.SslCredentials(root_certificates=b"pem", client_certificate=from_a_vault)
    files = aio_authgrpc.client_certificate_files("cert.pem", Path("key.pem"), passphrase="secret")
    assert_type(files(), tuple[bytes, bytes])
    async with aio_authgrpc.connect(
        "host",
        EchoStub,
        ssl_credentials=aio_authgrpc.SslCredentials(
            root_certificates=Path("ca.pem"), client_certificate=files, refresh_interval=None, timeout=5.0
        ),
    ) as stub:
        assert_type(stub, EchoStub)


async def googles_own_request_is_taken(credentials: google.oauth2.credentials.Credentials) -> None:
    request = google.auth.transport.requests.Request()
    channel = await aio_authgrpc.secure_authorized_channel(
        credentials, request, "host", ssl_credentials=aio_authgrpc.SslCredentials()
    )
    assert_type(await channel.connection_failure(), grpc.aio.AioRpcError | None)
    async with aio_authgrpc.AuthMetadataPlugin(credentials, request, "host") as plugin:
        assert_type(plugin, aio_authgrpc.AuthMetadataPlugin)
        assert_type(plugin.last_error, aio_authgrpc.AuthGrpcError | None)
        grpc.metadata_call_credentials(plugin)
    assert_type(aio_authgrpc.AuthMetadataPlugin(credentials, own_loop=True).close(), None)


def an_authorized_channel_is_a_channel(channel: aio_authgrpc.AuthorizedChannel) -> grpc.aio.Channel:
    return channel


async def an_object_with_fetch_is_a_source() -> None:
    class Mine:
        async def fetch(self, request: aio_authgrpc.TokenRequest) -> aio_authgrpc.Token:
            response = await request.http.send("https://host/token")
            assert_type(response.status, int)
            return aio_authgrpc.Token("abc", expires_at=request.time + 60)

    source: aio_authgrpc.TokenSource = Mine()
    async with aio_authgrpc.connect("host", EchoStub, credentials=source) as stub:
        assert_type(stub, EchoStub)


async def functions_and_texts_are_sources() -> AsyncIterator[aio_authgrpc.TokenSource]:
    async def text() -> str:
        return "abc"

    async def token() -> aio_authgrpc.Token:
        return aio_authgrpc.Token("abc")

    yield aio_authgrpc.token_source(text)
    yield aio_authgrpc.token_source(token)
    yield aio_authgrpc.static_token("abc")
    yield aio_authgrpc.anonymous()
    yield aio_authgrpc.api_key("abc")
    yield aio_authgrpc.service_account({"type": "service_account"})
    yield aio_authgrpc.service_account_jwt("key.json", lifetime=600)
    yield aio_authgrpc.default(["scope"])


def errors_carry_what_they_say(error: aio_authgrpc.AuthRpcError) -> None:
    assert_type(error.code(), grpc.StatusCode)
    assert_type(error.hint, str)
    assert_type(error.retryable, bool)


async def identities_are_sources(credentials: google.oauth2.credentials.Credentials) -> None:
    found = aio_authgrpc.default(["scope"], timeout=2.0)
    assert_type(found.explain(), aio_authgrpc.credentials.DefaultCredentialsExplanation)
    assert_type(found.explain().tried, tuple[tuple[str, str], ...])
    key = aio_authgrpc.service_account(Path("key.json"), scopes=["scope"])
    assert_type(aio_authgrpc.id_token(credentials=key), aio_authgrpc.credentials.IdTokenSource)
    assert_type(
        aio_authgrpc.id_token("https://host", credentials=credentials), aio_authgrpc.credentials.IdTokenSource
    )
    async with aio_authgrpc.connect(
        "host",
        EchoStub,
        credentials={"proxy-authorization": aio_authgrpc.id_token("client"), "authorization": credentials},
    ) as stub:
        with aio_authgrpc.identity(credentials, header="authorization") as entered:
            assert_type(entered, aio_authgrpc.credentials.Identity)
            assert_type(await stub.UnaryUnary(b""), bytes)


async def a_block_without_replay_changes_no_type(bookstore: BookstoreStub) -> None:
    with aio_authgrpc.credentials.without_replay():
        assert_type(await bookstore.ListShelves(Empty(), timeout=1.0), ListShelvesResponse)


async def events_are_typed(connection: aio_authgrpc.Connection[EchoStub]) -> None:
    def listen(event: aio_authgrpc.events.TokenEvent) -> None:
        if isinstance(event, aio_authgrpc.events.RefreshFailed):
            assert_type(event.error, aio_authgrpc.AuthRpcError)

    async with aio_authgrpc.connect("host", EchoStub, on_event=listen), connection.auth.events() as events:
        async for event in events:
            assert_type(event, aio_authgrpc.events.TokenEvent)


def events_are_values_with_typed_fields(event: aio_authgrpc.events.TokenEvent) -> None:
    assert_type(aio_authgrpc.events.StaleServed(at=1.0, expires_at=None), aio_authgrpc.events.StaleServed)
    match event:
        case aio_authgrpc.events.StaleServed(expires_at=expires_at):
            assert_type(expires_at, float | None)
        case aio_authgrpc.events.RefreshFailed(error=error):
            assert_type(error, aio_authgrpc.AuthRpcError)
        case _:
            assert_type(event.at, float)


async def a_guarded_server_connects_a_stub_of_its_service(authority: Authority) -> None:
    server = GuardedServer(authority, add_BookstoreServicer_to_server, InMemoryBookstore(), audience="books")
    async with server, server.connect(BookstoreStub, metadata=(("x-a", "b"),)) as bookstore:
        assert_type(bookstore, BookstoreStub)
        assert_type(server.recorded, list[RecordedCall])
    async with server.connect() as channel:
        assert_type(channel, aio_authgrpc.AuthorizedChannel)


async def a_store_takes_the_clients_of_redis() -> None:
    store = SharedTokenStore(redis.asyncio.Redis(), keys=[b""])
    SharedTokenStore(redis.asyncio.RedisCluster(), keys=[b""])
    shared = store.share(aio_authgrpc.id_token(), identity="orders")
    assert_type(shared, aio_authgrpc.TokenSource)
    async with aio_authgrpc.connect("host", BookstoreStub, credentials=shared) as bookstore:
        assert_type(bookstore, BookstoreStub)
