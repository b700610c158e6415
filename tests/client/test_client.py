"""connect(): typed stubs from one line, everything that its arguments promise, and orderly ends."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import (
    ConfigurationError,
    api_key,
    connect,
    secure_authorized_channel,
    service_account,
    service_account_jwt,
    static_token,
)
from aio_authgrpc.bookstore import Book, BookstoreStub, CreateBookRequest, Empty, GetBookRequest
from aio_authgrpc.errors import (
    ChannelClosedError,
    ConnectionNotReadyError,
    TokenDeadlineExceededError,
    TokenRefusedError,
    WrongEventLoopError,
)
from aio_authgrpc.testing import Authority, BookstoreServer, EchoServer, EchoStub, FakeClock
from aio_authgrpc.tokens import TokenState

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
TOKEN = static_token("abc")


@pytest.fixture
async def info(authority: Authority) -> dict[str, str]:
    return await authority.service_account_info()


# The main job


async def test_a_service_account_lists_the_shelves(
    authority: Authority, bookstore_server: BookstoreServer, info: dict[str, str], tmp_path: Path
) -> None:
    """A key file, a real exchange, a real token, a server that refuses everyone else."""
    file = tmp_path / "key.json"
    file.write_text(json.dumps(info))
    async with connect(
        bookstore_server.target,
        BookstoreStub,
        credentials=service_account(file, scopes=SCOPES),
        ssl_credentials=bookstore_server.ssl_credentials,
    ) as bookstore:
        shelves = await bookstore.ListShelves(Empty())
        request = CreateBookRequest(shelf=shelves.shelves[0].id, book=Book(author="A", title="T"))
        made = await bookstore.CreateBook(request)
        assert await bookstore.GetBook(GetBookRequest(shelf=shelves.shelves[0].id, book=made.id)) == made
    assert [shelf.theme for shelf in shelves.shelves] == ["Fiction", "Fantasy"]
    assert (authority.token_requests, bookstore_server.calls, bookstore_server.refused) == (1, 3, 0)


async def test_an_endpoints_jwt_and_an_api_key_open_the_bookstore(
    authority: Authority, info: dict[str, str]
) -> None:
    """Seed 001: signed by the account's own key, no token request."""
    async with (
        BookstoreServer(authority, accept=[info["client_email"]], api_keys={"key"}) as server,
        connect(
            server.target,
            BookstoreStub,
            credentials=service_account_jwt(info),
            api_key="key",
            ssl_credentials=server.ssl_credentials,
        ) as bookstore,
    ):
        assert (await bookstore.ListShelves(Empty(), timeout=10)).shelves
    assert authority.token_requests == 0


async def test_a_token_for_someone_else_is_refused(
    authority: Authority, bookstore_server: BookstoreServer
) -> None:
    """PERMISSION_DENIED for another audience; nothing is sent again."""
    token = authority.issue_id_token(audience="https://elsewhere")
    async with connect(
        bookstore_server.target,
        BookstoreStub,
        credentials=static_token(token),
        ssl_credentials=bookstore_server.ssl_credentials,
    ) as bookstore:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bookstore.ListShelves(Empty())
    assert (caught.value.code(), bookstore_server.refused) == (grpc.StatusCode.PERMISSION_DENIED, 1)


@pytest.mark.timeout(60)  # a thousand real calls, in debug mode and perhaps under coverage
async def test_a_thousand_cold_calls_make_one_token_request_and_one_thread(
    authority: Authority, bookstore_server: BookstoreServer, info: dict[str, str], threads_before: int
) -> None:
    """The first is cancelled, the others succeed on the same request."""
    gate = authority.hold()
    async with connect(
        bookstore_server.target,
        BookstoreStub,
        credentials=service_account(info, scopes=SCOPES),
        ssl_credentials=bookstore_server.ssl_credentials,
        ready_timeout=None,
    ) as bookstore:
        before = set(threading.enumerate())
        first, *others = [bookstore.ListShelves(Empty()) for _ in range(1_000)]
        await gate.arrived.wait()
        new = [thread.name for thread in set(threading.enumerate()) - before]
        first.cancel()
        gate.release()
        outcomes = await asyncio.gather(*others, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["ListShelvesResponse"] * 999
    assert (authority.token_requests, len(new) <= 1) == (1, True), new


async def test_a_slow_token_endpoint_costs_a_call_its_timeout_and_no_more(
    authority: Authority, bookstore_server: BookstoreServer, info: dict[str, str]
) -> None:
    """DEADLINE_EXCEEDED that names the token; one refresh under way, whose token the next call uses."""
    gate = authority.hold()
    async with connect(
        bookstore_server.target,
        BookstoreStub,
        credentials=service_account(info, scopes=SCOPES),
        ssl_credentials=bookstore_server.ssl_credentials,
    ) as bookstore:
        with pytest.raises(TokenDeadlineExceededError, match="waited for an access token"):
            await bookstore.ListShelves(Empty(), timeout=0.2)
        await gate.arrived.wait()
        gate.release()
        assert (await bookstore.ListShelves(Empty())).shelves
    assert authority.token_requests == 1


async def test_an_account_that_was_revoked_is_unauthenticated(
    authority: Authority, bookstore_server: BookstoreServer, info: dict[str, str]
) -> None:
    """Not UNAVAILABLE, with a hint; nothing reaches the server."""
    authority.revoke(info["client_email"])
    async with connect(
        bookstore_server.target,
        BookstoreStub,
        credentials=service_account(info, scopes=SCOPES),
        ssl_credentials=bookstore_server.ssl_credentials,
    ) as bookstore:
        with pytest.raises(TokenRefusedError, match="invalid_grant") as caught:
            await bookstore.ListShelves(Empty())
    assert (caught.value.retryable, bool(caught.value.hint), bookstore_server.calls) == (False, True, 0)


# The stubs


@pytest.mark.parametrize("number", [2, 3, 4, 5])
async def test_several_stubs_share_a_channel(echo_server: EchoServer, number: int) -> None:
    """They come as a tuple."""
    stubs: Any = [EchoStub, BookstoreStub, EchoStub, BookstoreStub, EchoStub][:number]
    connection: Any = connect(
        echo_server.target, *stubs, credentials=TOKEN, ssl_credentials=echo_server.ssl_credentials
    )
    async with connection as made:
        assert [type(stub) for stub in made] == stubs
        await made[0].UnaryUnary(b"x")


class Servicer:
    """What the generated base class of a service looks like."""


class CloudClient:
    """What the constructor of a google-cloud client looks like."""

    def __init__(self, *, credentials: object = None, transport: object = "grpc_asyncio") -> None:
        raise AssertionError

    @classmethod
    def get_transport_class(cls, label: str | None = None) -> type:
        raise AssertionError


async def opened(channel: grpc.aio.Channel) -> BookstoreStub:
    raise AssertionError


@pytest.mark.parametrize(
    "stub",
    [Empty, str, Servicer, None, "BookstoreStub", BookstoreStub.__init__, opened, CloudClient],
    ids=lambda stub: getattr(stub, "__name__", repr(stub)),
)
def test_what_takes_no_channel_is_refused_at_the_call(stub: Any) -> None:
    """A message, a servicer, an instance, a name, a coroutine function: the error says so."""
    with pytest.raises(ConfigurationError, match="is not a stub") as caught:
        connect("host", stub, credentials=TOKEN)
    assert caught.value.field == "stubs"


def test_a_google_cloud_client_class_in_place_of_a_stub_is_sent_to_gapic() -> None:
    """Its constructor takes no channel."""
    stub: Any = CloudClient
    with pytest.raises(ConfigurationError, match=r"aio_authgrpc\.gapic\.client\(\)"):
        connect("host", stub, credentials=TOKEN)


class LazyStub:
    """A stub that asks its channel for a method when it is called."""

    made = 0

    def __init__(self, channel: grpc.aio.Channel) -> None:
        assert isinstance(channel, grpc.aio.Channel)
        type(self).made += 1
        self._channel = channel

    async def call(self) -> bytes:
        return await EchoStub(self._channel).UnaryUnary(b"x")


async def test_a_stub_that_asks_for_its_methods_later_is_made_once_from_the_channel(
    echo_server: EchoServer,
) -> None:
    """When the connection is opened, not before: it may keep what it was given."""
    LazyStub.made = 0
    connection = connect(
        echo_server.target, LazyStub, credentials=TOKEN, ssl_credentials=echo_server.ssl_credentials
    )
    assert LazyStub.made == 0
    async with connection as stub:
        assert await stub.call() == b"x"
    assert LazyStub.made == 1


async def test_an_error_of_the_function_that_makes_a_stub_is_raised_as_it_is(echo_server: EchoServer) -> None:
    """On opening; the channel is closed again."""
    given: list[grpc.aio.Channel] = []

    def fail(channel: grpc.aio.Channel) -> EchoStub:
        given.append(channel)
        raise LookupError("of the user's own")

    connection = connect(
        echo_server.target, fail, credentials=TOKEN, ssl_credentials=echo_server.ssl_credentials
    )
    with pytest.raises(LookupError, match="of the user's own"):
        await connection.__aenter__()
    with pytest.raises(ChannelClosedError):
        await EchoStub(given[0]).UnaryUnary(b"x")


async def test_without_a_stub_the_channel_is_yielded(echo_server: EchoServer) -> None:
    """For stubs that are made later."""
    connection = connect(echo_server.target, credentials=TOKEN, ssl_credentials=echo_server.ssl_credentials)
    async with connection as channel:
        assert channel is connection.channel
        assert await EchoStub(channel).UnaryUnary(b"x") == b"x"


@pytest.mark.parametrize(
    "credentials", [api_key("key"), {"x-first": TOKEN, "x-second": TOKEN}], ids=["api-key", "several"]
)
def test_a_header_that_a_source_overrides_is_refused_at_the_call(credentials: Any) -> None:
    """It would be dropped: the source says where its token goes."""
    with pytest.raises(ConfigurationError, match="'x-goog-api-key'") as caught:
        connect("host", EchoStub, credentials=credentials, header="x-goog-api-key")
    assert caught.value.field == "header"


async def test_a_header_that_is_the_sources_own_is_taken(echo_server: EchoServer) -> None:
    """In any case of letters."""
    received = await connected(echo_server, credentials=api_key("key"), header="X-Api-Key")
    assert received["x-api-key"] == ("key",)


# What its arguments do


async def connected(server: EchoServer, **arguments: Any) -> dict[str, tuple[Any, ...]]:
    """Make one call and return what the server got."""
    if "plaintext" not in arguments:
        arguments.setdefault("ssl_credentials", server.ssl_credentials)
    arguments.setdefault("credentials", TOKEN)
    async with connect(server.target, EchoStub, **arguments) as stub:
        await stub.UnaryUnary(b"x")
    (call,) = server.calls
    return {key: call.values(key) for key, _ in call.metadata}


@pytest.mark.parametrize("header", ["x-serverless-authorization", "Proxy-Authorization"])
async def test_the_token_goes_to_the_header_asked_for(echo_server: EchoServer, header: str) -> None:
    """Cloud Run and IAP leave authorization to the application."""
    received = await connected(echo_server, header=header)
    assert received[header.lower()] == ("Bearer abc",)
    assert "authorization" not in received


async def test_an_api_key_alone_goes_to_its_own_header(echo_server: EchoServer) -> None:
    """Without a bearer."""
    received = await connected(echo_server, credentials=api_key("key"))
    assert received["x-api-key"] == ("key",)
    assert "authorization" not in received


@pytest.mark.parametrize("metadata", [{"X-Team": "blue"}, [("x-team", "blue")]])
async def test_fixed_metadata_goes_along(echo_server: EchoServer, metadata: Any) -> None:
    """With the API key and the quota project, once each."""
    received = await connected(
        echo_server, metadata=metadata, api_key="key", quota_project_id="payer", credentials=TOKEN
    )
    assert (received["x-team"], received["x-api-key"], received["x-goog-user-project"]) == (
        ("blue",),
        ("key",),
        ("payer",),
    )


async def test_the_channels_quota_project_stands_above_the_credentials(
    echo_server: EchoServer, authority: Authority, info: dict[str, str]
) -> None:
    """One header, not two."""
    credentials = service_account(info, scopes=SCOPES, quota_project_id="theirs")
    received = await connected(echo_server, credentials=credentials, quota_project_id="ours")
    assert received["x-goog-user-project"] == ("ours",)


async def test_plaintext_to_this_machine_is_possible() -> None:
    """Seed 001's insecure client."""
    async with EchoServer(tls=False) as server:
        assert (await connected(server, plaintext=True))["authorization"] == ("Bearer abc",)


async def test_an_authority_is_sent(echo_server: EchoServer) -> None:
    """Where it is not the target's: the certificate has localhost, the server is dialled by address."""
    async with connect(
        f"127.0.0.1:{echo_server.port}",
        EchoStub,
        credentials=TOKEN,
        authority="localhost",
        ssl_credentials=echo_server.ssl_credentials,
        options=[("grpc.default_authority", "not-in-the-certificate.example")],  # of no effect beside it
    ) as stub:
        assert await stub.UnaryUnary(b"x") == b"x"


async def test_an_audience_reaches_the_source(echo_server: EchoServer, info: dict[str, str]) -> None:
    """Else it is the target's host."""
    import jwt

    for audience in (None, "https://service"):
        echo_server.calls.clear()
        received = await connected(echo_server, credentials=service_account_jwt(info), audience=audience)
        token = str(received["authorization"][0]).removeprefix("Bearer ")
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["aud"] == (audience or f"https://{echo_server.target}")


# ready_timeout


async def test_ready_means_that_the_token_is_there_and_the_server_connected(
    echo_server: EchoServer, tokens: Any
) -> None:
    """Before the stubs are yielded."""
    connection = connect(
        echo_server.target,
        EchoStub,
        credentials=tokens,
        ssl_credentials=echo_server.ssl_credentials,
        ready_timeout=10,
    )
    async with connection:
        assert connection.auth.status().generation == 1
        assert connection.channel.get_state() is grpc.ChannelConnectivity.READY


async def test_without_ready_timeout_nothing_is_asked_on_entry(echo_server: EchoServer, tokens: Any) -> None:
    """Cheap to open, for services that may never call."""
    connection = connect(
        echo_server.target, EchoStub, credentials=tokens, ssl_credentials=echo_server.ssl_credentials
    )
    async with connection:
        assert connection.auth.status().state is TokenState.EXPIRED
        assert connection.channel.get_state() is grpc.ChannelConnectivity.IDLE
    assert tokens.fetches == 0


async def test_check_fetches_the_token_and_connects(echo_server: EchoServer, tokens: Any) -> None:
    """A readiness probe becomes ready without a call before it."""
    connection = connect(
        echo_server.target, EchoStub, credentials=tokens, ssl_credentials=echo_server.ssl_credentials
    )
    async with connection:
        await connection.check(30)
        assert connection.auth.status().state is TokenState.FRESH
        assert connection.channel.get_state() is grpc.ChannelConnectivity.READY
    assert tokens.fetches == 1


async def test_check_raises_what_is_missing(echo_server: EchoServer, tokens: Any) -> None:
    """The connection stays open, and is ready later."""
    gate = tokens.hold()
    connection = connect(
        echo_server.target, EchoStub, credentials=tokens, ssl_credentials=echo_server.ssl_credentials
    )
    async with connection:
        with pytest.raises(TokenDeadlineExceededError, match=r"within 0\.01 s"):
            await connection.check(0.01)
        gate.release()
        await connection.check(30)


async def _opened_by(opening: Any) -> None:
    async with opening:
        pytest.fail("it was opened")


@pytest.mark.parametrize(
    "opening",
    [
        connect("localhost:1", EchoStub, credentials=TOKEN),
        secure_authorized_channel(TOKEN, None, "localhost:1"),
    ],
    ids=["connect", "secure_authorized_channel"],
)
def test_without_asyncio_the_error_names_it(opening: Any) -> None:
    """Under trio, say, no event loop of asyncio runs."""
    with pytest.raises(WrongEventLoopError, match=r"asyncio.*trio"):
        _opened_by(opening).send(None)


async def test_check_of_a_closed_connection_is_refused() -> None:
    """It belongs into the block."""
    with pytest.raises(ConfigurationError, match="not open"):
        await connect("localhost:1", EchoStub, credentials=TOKEN).check(1)


async def test_grace_lets_calls_finish_when_the_block_is_left(echo_server: EchoServer) -> None:
    """Without it they are cancelled."""
    gate = echo_server.hold()
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=TOKEN,
        ssl_credentials=echo_server.ssl_credentials,
        grace=30,
    ) as stub:
        call = stub.UnaryUnary(b"x")
        answer = asyncio.ensure_future(call)
        await gate.wait_for(1)
        asyncio.get_running_loop().call_soon(gate.release)
    assert await answer == b"x"


async def test_a_clock_tells_the_time_of_tokens(
    echo_server: EchoServer, tokens: Any, fake_clock: FakeClock
) -> None:
    """A token that has expired by the clock is replaced; two clocks share no cache."""
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=tokens,
        ssl_credentials=echo_server.ssl_credentials,
        clock=fake_clock,
    ) as stub:
        await stub.UnaryUnary(b"x")
        fake_clock.advance(3600)
        await stub.UnaryUnary(b"x")
        async with connect(
            echo_server.target, EchoStub, credentials=tokens, ssl_credentials=echo_server.ssl_credentials
        ) as other:
            await other.UnaryUnary(b"x")
    assert [call.values("authorization") for call in echo_server.calls] == [
        ("Bearer token-1",),
        ("Bearer token-2",),
        ("Bearer token-3",),
    ]


async def test_not_ready_says_that_the_token_did_not_come(echo_server: EchoServer, tokens: Any) -> None:
    """And that the server would have been there."""
    tokens.hold()
    with pytest.raises(TokenDeadlineExceededError, match=r"within 0\.5 s; .* was reached"):
        async with connect(
            echo_server.target,
            EchoStub,
            credentials=tokens,
            ssl_credentials=echo_server.ssl_credentials,
            ready_timeout=0.5,
        ):
            pytest.fail("it was not ready")


async def test_not_ready_says_that_the_server_did_not_connect(tokens: Any) -> None:
    """And that the token would have been there. Nothing listens on the port."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    with pytest.raises(ConnectionNotReadyError, match=r"not reached .* token was fetched"):
        async with connect(f"127.0.0.1:{port}", EchoStub, credentials=tokens, ready_timeout=0.1):
            pytest.fail("it was not ready")


async def test_not_ready_says_why_the_token_failed(echo_server: EchoServer, tokens: Any) -> None:
    """At once, without waiting for the rest of the time."""
    tokens.fail(KeyError("a bug"), times=None)
    with pytest.raises(TokenRefusedError, match="a bug"):
        async with connect(
            echo_server.target,
            EchoStub,
            credentials=tokens,
            ssl_credentials=echo_server.ssl_credentials,
            ready_timeout=19,
        ):
            pytest.fail("it was not ready")


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_ready_timeout_that_is_none_is_refused(seconds: float) -> None:
    """None means not to wait."""
    with pytest.raises(ConfigurationError, match="ready_timeout"):
        connect("host", EchoStub, credentials=TOKEN, ready_timeout=seconds)


# Opening and closing


def test_a_connection_whose_loop_has_ended_can_be_opened_again() -> None:
    """It was never closed, which the dropped channel says."""
    connection = connect("127.0.0.1:1", EchoStub, credentials=static_token("abc"), plaintext=True)

    async def open_and_close() -> None:
        async with connection as stub:
            assert isinstance(stub, EchoStub)

    asyncio.run(connection.__aenter__())
    with pytest.warns(ResourceWarning, match="never closed"):
        asyncio.run(open_and_close())


async def test_a_connection_can_be_opened_again(echo_server: EchoServer) -> None:
    """After it was closed; while it is open it is one error."""
    connection = connect(
        echo_server.target, EchoStub, credentials=TOKEN, ssl_credentials=echo_server.ssl_credentials
    )
    for _ in range(2):
        async with connection as stub:
            assert await stub.UnaryUnary(b"x") == b"x"
            with pytest.raises(ConfigurationError, match="open already"):
                await connection.__aenter__()
    with pytest.raises(ConfigurationError, match="not open"):
        connection.channel  # noqa: B018 - the access is what raises
    with pytest.raises(ChannelClosedError):
        stub.UnaryUnary(b"x")


async def test_two_who_open_one_connection_at_once_get_one_error(
    echo_server: EchoServer, tokens: Any
) -> None:
    """Check and set stand together."""
    connection = connect(
        echo_server.target, EchoStub, credentials=TOKEN, ssl_credentials=echo_server.ssl_credentials
    )
    outcomes = await asyncio.gather(connection.__aenter__(), connection.__aenter__(), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ConfigurationError", "EchoStub"]
    await connection.__aexit__(None, None, None)


async def test_opening_that_is_cancelled_closes_what_it_had_opened(
    echo_server: EchoServer, tokens: Any
) -> None:
    """The guards see a task or a session that is left."""
    gate = tokens.hold()
    connection = connect(
        echo_server.target,
        EchoStub,
        credentials=tokens,
        ssl_credentials=echo_server.ssl_credentials,
        ready_timeout=10,
    )
    opening = asyncio.ensure_future(connection.__aenter__())
    await gate.arrived.wait()
    opening.cancel()
    await asyncio.wait({opening})
    assert opening.cancelled()
    assert "closed" in repr(connection)


async def test_a_file_that_cannot_be_used_is_an_error_on_entry(tmp_path: Path) -> None:
    """Before any RPC, with the path, and never replaced by another identity."""
    connection = connect("host", EchoStub, credentials=service_account(tmp_path / "missing.json"))
    with pytest.raises(ConfigurationError, match=r"missing\.json"):
        await connection.__aenter__()


async def test_the_loop_never_sees_the_key_file_read(
    echo_server: EchoServer, info: dict[str, str], tmp_path: Path
) -> None:
    """blockbuster, in conftest.py, raises on a file opened on the loop by this package."""
    file = tmp_path / "key.json"
    file.write_text(json.dumps(info))
    assert (await connected(echo_server, credentials=service_account_jwt(file)))["authorization"]


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        pytest.param({"target": "https://host"}, "target", id="a-scheme"),
        pytest.param({"max_connections": 0}, "max_connections", id="no-connection"),
        pytest.param({"header": "x y"}, "header", id="a-blank-in-the-header"),
        pytest.param({"metadata": {"authorization": "Bearer x"}}, "metadata", id="our-header"),
        pytest.param({"metadata": {"x-a": "é"}}, "metadata", id="not-ascii"),
        pytest.param({"metadata": {"x-a": 5}}, "metadata", id="no-text"),
        pytest.param({"metadata": 5}, "metadata", id="no-metadata"),
        pytest.param({"metadata": [("x-a",)]}, "metadata", id="no-pair"),
        pytest.param({"metadata": [(1, "a")]}, "metadata", id="no-key"),
        pytest.param({"api_key": ""}, "api_key", id="an-empty-api-key"),
        pytest.param({"api_key": 5}, "api_key", id="no-api-key"),
        pytest.param({"quota_project_id": "x\n"}, "quota_project_id", id="a-line-end-in-the-project"),
        pytest.param({"header": 5}, "header", id="no-header"),
        pytest.param({"audience": 5}, "audience", id="no-audience"),
        pytest.param({"audience": ""}, "audience", id="empty-audience"),
        pytest.param({"authority": 5}, "authority", id="no-authority"),
        pytest.param({"authority": "user:password@host"}, "authority", id="authority-with-a-password"),
        pytest.param({"plaintext": "no"}, "plaintext", id="plaintext-as-text"),
        pytest.param({"max_connections": "2"}, "max_connections", id="connections-as-text"),
        pytest.param({"max_connections": 1.5}, "max_connections", id="half-a-connection"),
        pytest.param({"max_connections": True}, "max_connections", id="connections-as-bool"),
        pytest.param({"options": [5]}, "options", id="no-option"),
        pytest.param({"options": "grpc.x"}, "options", id="an-option-as-text"),
        pytest.param({"interceptors": [5]}, "interceptors", id="no-interceptor"),
        pytest.param({"compression": "gzip"}, "compression", id="compression-as-text"),
        pytest.param({"request": object()}, "request", id="no-request"),
        pytest.param({"ready_timeout": "x"}, "ready_timeout", id="a-time-as-text"),
        pytest.param({"ready_timeout": True}, "ready_timeout", id="a-time-as-bool"),
        pytest.param({"ready_timeout": float("inf")}, "ready_timeout", id="for-ever"),
        pytest.param({"keep_warm": 1}, "keep_warm", id="warm-as-number"),
        pytest.param(
            {"plaintext": True, "ssl_credentials": grpc.ssl_channel_credentials()}, "plaintext", id="both"
        ),
        pytest.param({"on_event": 5}, "on_event", id="no-listener"),
        pytest.param({"on_event": asyncio.sleep}, "on_event", id="a-listener-that-is-not-awaited"),
        pytest.param({"credentials": "eyJhbGciOi"}, "credentials", id="a-token"),
    ],
)
def test_a_mistake_is_an_error_at_the_call(arguments: dict[str, Any], field: str) -> None:
    """Before anything is opened; `field` names the argument."""
    given: dict[str, Any] = {"target": "host", "credentials": TOKEN} | arguments
    with pytest.raises(ConfigurationError) as caught:
        connect(given.pop("target"), EchoStub, **given)
    assert caught.value.field == field


def test_an_unknown_keyword_is_a_type_error_that_names_the_function() -> None:
    """As for any Python function."""
    with pytest.raises(TypeError, match=r"connect\(\) got an unexpected keyword argument 'retries'$"):
        connect("host", EchoStub, retries=3)  # type: ignore[call-overload]  # the mistake


def test_a_misspelt_keyword_gets_a_suggestion() -> None:
    """Python 3.13 does so, for signatures that name their keywords."""
    with pytest.raises(TypeError, match=r"argument 'credential'\. Did you mean 'credentials'"):
        connect("host", EchoStub, credential=TOKEN)  # type: ignore[call-overload]  # the mistake


def test_a_connection_is_not_pickled() -> None:
    """It holds an API key, and perhaps a private one."""
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(connect("host", EchoStub, credentials=TOKEN, api_key="key"))


@pytest.mark.parametrize("source", [service_account, service_account_jwt])
async def test_a_target_without_a_host_needs_an_audience(source: Any, info: dict[str, str]) -> None:
    """It shows on entry, before any RPC."""
    connection = connect("unix:/run/x.sock", EchoStub, credentials=source(info), plaintext=True)
    with pytest.raises(ConfigurationError, match="audience"):
        await connection.__aenter__()
