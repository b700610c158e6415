"""AuthMetadataPlugin: call credentials that wait on the loop, for channels that are made elsewhere."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import queue
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import google.auth.transport.requests
import grpc
import grpc.aio
import jwt
import pytest
from google.oauth2 import service_account as google_service_account

from aio_authgrpc import (
    AiohttpRequest,
    AuthMetadataPlugin,
    ConfigurationError,
    Token,
    TokenRequest,
    anonymous,
    api_key,
    id_token,
    service_account,
    static_token,
)
from aio_authgrpc.errors import (
    ChannelClosedError,
    TokenRefusedError,
    TokenUnavailableError,
    WrongEventLoopError,
)
from aio_authgrpc.testing import Authority, EchoServer, EchoStub, ScriptedTokens

from .plugin_calls import (
    RpcFailedError,
    bearers,
    call,
    call_in_sync,
    composite,
    failure_of,
    in_forked_child,
    metadata_of,
)


@pytest.fixture
async def plugin(tokens: Any) -> AsyncIterator[AuthMetadataPlugin]:
    async with AuthMetadataPlugin(tokens) as plugin:
        yield plugin


async def test_every_arity_of_a_composite_channel_carries_the_token(
    arity: Any, echo_server: EchoServer, plugin: AuthMetadataPlugin, tokens: Any
) -> None:
    """Of a channel of grpc.aio that was made elsewhere."""
    credentials = composite(echo_server, plugin)
    async with grpc.aio.secure_channel(echo_server.target, credentials) as channel:
        for _ in range(2):
            assert await arity.finish(arity.begin(EchoStub(channel))) == arity.responses
    assert (bearers(echo_server), tokens.fetches) == (["Bearer token-1"] * 2, 1)


async def test_one_call_may_carry_it_alone(
    arity: Any, echo_server: EchoServer, plugin: AuthMetadataPlugin
) -> None:
    """As `credentials=` of a plain channel."""
    async with grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials) as channel:
        await arity.finish(arity.begin(EchoStub(channel)))
        credentials = grpc.metadata_call_credentials(plugin)
        await arity.finish(arity.begin(EchoStub(channel), credentials=credentials))
    assert [call.values("authorization") for call in echo_server.calls] == [(), ("Bearer token-1",)]


async def test_a_synchronous_channel_in_a_thread_carries_it(
    echo_server: EchoServer, plugin: AuthMetadataPlugin
) -> None:
    """The loop serves it, in the thread of its own."""
    assert await asyncio.to_thread(call_in_sync, echo_server, plugin) == b"x"
    assert bearers(echo_server) == ["Bearer token-1"]


async def test_many_calls_make_one_token_request_and_the_loop_goes_on(
    echo_server: EchoServer, plugin: AuthMetadataPlugin, tokens: Any
) -> None:
    """They wait on the loop; gRPC's threads end meanwhile."""
    gate = tokens.hold()
    async with grpc.aio.secure_channel(echo_server.target, composite(echo_server, plugin)) as channel:
        calls = [EchoStub(channel).UnaryUnary(b"x", timeout=10) for _ in range(50)]
        await gate.wait_for(1)
        while len(plugin._loop._tokens._waiting) < 50:  # noqa: ASYNC110 - gRPC's threads tell nobody
            await asyncio.sleep(0)
        gate.release()
        assert await asyncio.gather(*calls) == [b"x"] * 50
    assert tokens.fetches == 1


async def test_a_google_credential_over_googles_own_request(
    echo_server: EchoServer, authority: Authority
) -> None:
    """google-auth's arguments as they are: its Request is left unused, for it would block."""
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    info = await authority.service_account_info()
    credentials = google_service_account.Credentials.from_service_account_info(info, scopes=scopes)
    request = google.auth.transport.requests.Request()
    async with AuthMetadataPlugin(credentials, request) as plugin:
        await call(echo_server, plugin)
    request.session.close()
    assert (authority.token_requests, len(bearers(echo_server))) == (1, 1)
    assert "aiohttp" in authority.requests[-1].headers["user-agent"]


class Audiences:
    """A source whose token is the audience that it was asked for."""

    async def fetch(self, request: TokenRequest) -> Token:
        return Token(request.audience)


@pytest.mark.parametrize(
    ("host", "authority", "expected"),
    [
        (None, None, "Bearer https://localhost:{port}"),
        (None, "localhost:443", "Bearer https://localhost"),
        ("pubsub.googleapis.com", None, "Bearer https://pubsub.googleapis.com"),
    ],
    ids=["the-rpcs", "port-443", "default-host"],
)
async def test_a_token_is_for_the_host_of_the_rpc_unless_one_is_given(
    echo_server: EchoServer, host: str | None, authority: str | None, expected: str
) -> None:
    """`default_host`, as in google-auth."""
    options = [] if authority is None else [("grpc.default_authority", authority)]
    async with AuthMetadataPlugin(Audiences(), None, host) as plugin:
        await call(echo_server, plugin, options=options)
    assert bearers(echo_server) == [expected.format(port=echo_server.port)]


async def test_each_host_has_a_token_of_its_own(echo_server: EchoServer) -> None:
    """One plugin, two servers: neither gets the other's."""
    async with EchoServer() as other, AuthMetadataPlugin(Audiences()) as plugin:
        for server in (echo_server, other, echo_server):
            await call(server, plugin)
        assert bearers(other) == [f"Bearer https://{other.target}"]
        assert bearers(echo_server) == [f"Bearer https://{echo_server.target}"] * 2


@pytest.mark.parametrize(
    ("source", "key", "expected"),
    [(api_key("key"), "x-api-key", ("key",)), (anonymous(), "authorization", ())],
    ids=["api-key", "anonymous"],
)
async def test_other_sources_keep_their_headers(
    echo_server: EchoServer, source: Any, key: str, expected: tuple[str, ...]
) -> None:
    """An API key goes to its own; nothing is sent for nobody."""
    async with AuthMetadataPlugin(source) as plugin:
        await call(echo_server, plugin)
    assert echo_server.calls[0].values(key) == expected


# Failures


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OSError("no route"), TokenUnavailableError, "UNAVAILABLE: .*no route.* [a retry may help]"),
        (KeyError("a bug"), TokenRefusedError, "UNAUTHENTICATED: .*a bug.* [a retry will not help]"),
    ],
    ids=["retryable", "permanent"],
)
async def test_a_failure_says_what_it_is_in_the_text_that_grpc_lets_through(
    echo_server: EchoServer, plugin: AuthMetadataPlugin, tokens: Any, error: Exception, kind: Any, text: str
) -> None:
    """It becomes UNAVAILABLE; the error itself, with its cause, stays with the plugin."""
    tokens.fail(error, times=None)
    with pytest.raises(grpc.aio.AioRpcError, match=text.replace("[", r"\[")) as caught:
        await call(echo_server, plugin)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert isinstance(plugin.last_error, kind)
    assert plugin.last_error.__cause__ is error
    assert echo_server.calls == []


async def test_a_token_whose_own_metadata_holds_the_header_fails_the_call(echo_server: EchoServer) -> None:
    """The server would get two tokens."""
    token = Token("t", metadata=(("authorization", "Bearer two"),))
    async with AuthMetadataPlugin(static_token(token)) as plugin:
        with pytest.raises(grpc.aio.AioRpcError, match="UNAUTHENTICATED: The token's own metadata"):
            await call(echo_server, plugin)
        assert isinstance(plugin.last_error, TokenRefusedError)
    assert echo_server.calls == []


async def test_a_closed_plugin_says_so(echo_server: EchoServer, plugin: AuthMetadataPlugin) -> None:
    """And closing twice does nothing."""
    await plugin.aclose()
    await plugin.aclose()
    with pytest.raises(grpc.aio.AioRpcError, match="The plugin was closed"):
        await call(echo_server, plugin)
    assert isinstance(plugin.last_error, ChannelClosedError)


async def test_closing_ends_the_calls_that_wait(
    echo_server: EchoServer, plugin: AuthMetadataPlugin, tokens: Any
) -> None:
    """With an error, not at their deadlines."""
    gate = tokens.hold()
    calling = asyncio.ensure_future(call(echo_server, plugin))
    await gate.wait_for(1)
    await plugin.aclose()
    with pytest.raises(grpc.aio.AioRpcError, match="closed while an RPC waited"):
        await calling


def test_after_its_loop_was_closed_a_call_fails_at_once() -> None:
    """From a synchronous channel, which outlives the loop."""
    plugins: list[AuthMetadataPlugin] = []

    async def make() -> None:
        plugins.append(AuthMetadataPlugin(static_token("abc")))

    asyncio.run(make())
    with pytest.raises(RpcFailedError, match="event loop of the plugin was closed"):
        metadata_of(plugins[0])
    assert isinstance(plugins[0].last_error, WrongEventLoopError)


def test_a_loop_that_ends_while_a_call_waits_ends_the_call() -> None:
    """asyncio.run() cancels what is left."""
    outcomes: list[BaseException] = []

    async def main() -> None:
        source = ScriptedTokens()
        gate = source.hold()
        plugin = AuthMetadataPlugin(source)
        plugins.append(plugin)
        thread = threading.Thread(target=lambda: outcomes.append(failure_of(plugin)))
        threads.append(thread)
        thread.start()
        await gate.arrived.wait()

    threads, plugins = list[threading.Thread](), list[AuthMetadataPlugin]()
    asyncio.run(main())
    threads[0].join(10)
    plugins[0]._loop._tokens.bound.close()  # its loop is gone: there is nothing left to close
    assert "closed while an RPC waited" in str(outcomes[0])


@pytest.fixture
def waiting() -> Iterator[tuple[asyncio.AbstractEventLoop, AuthMetadataPlugin, queue.Queue[BaseException]]]:
    """Give a loop that has stopped, its plugin, and what becomes of the RPC that waits there."""
    source, outcomes = ScriptedTokens(), queue.Queue[BaseException]()
    gate = source.hold()
    loop = asyncio.new_event_loop()

    async def make() -> AuthMetadataPlugin:
        return AuthMetadataPlugin(source, loop_timeout=0.2)

    plugin = loop.run_until_complete(make())
    calling = threading.Thread(target=lambda: outcomes.put(failure_of(plugin)))
    calling.start()
    loop.run_until_complete(gate.arrived.wait())
    yield loop, plugin, outcomes
    calling.join(10)
    if not loop.is_closed():
        loop.run_until_complete(plugin.aclose())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_a_loop_that_stops_while_a_call_waits_ends_the_call(waiting: Any) -> None:
    """Where nobody cancels what is left, and the RPC has no deadline."""
    _, plugin, outcomes = waiting
    assert "event loop stopped while" in str(outcomes.get(timeout=12))
    assert isinstance(plugin.last_error, TokenUnavailableError)


def test_a_loop_that_is_closed_while_a_call_waits_ends_the_call(waiting: Any) -> None:
    """Sooner; its task is lost."""
    loop, plugin, outcomes = waiting
    loop.close()
    assert "event loop was closed while" in str(outcomes.get(timeout=12))
    plugin._loop._tokens.bound.close()  # there is nothing left to close


def test_a_loop_that_is_closed_before_it_takes_a_call_ends_the_call() -> None:
    """It drops what it was handed over, and the plugin does not wait for `loop_timeout`."""
    handed_over = threading.Event()

    class Telling(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *arguments: Any, **options: Any) -> asyncio.Handle:
            handle = super().call_soon_threadsafe(*arguments, **options)
            handed_over.set()
            return handle

    async def make() -> AuthMetadataPlugin:
        return AuthMetadataPlugin(static_token("abc"), loop_timeout=1000)

    loop, outcomes = Telling(), queue.Queue[BaseException]()
    plugin = loop.run_until_complete(make())
    calling = threading.Thread(target=lambda: outcomes.put(failure_of(plugin)))
    calling.start()
    assert handed_over.wait(10)
    loop.close()
    assert "event loop of the plugin was closed" in str(outcomes.get(timeout=12))
    calling.join(10)


async def test_a_plugin_is_closed_on_its_own_loop(plugin: AuthMetadataPlugin) -> None:
    """Elsewhere nothing of it could be."""
    with pytest.raises(WrongEventLoopError, match="another event loop"):
        await asyncio.to_thread(asyncio.run, plugin.aclose())


async def test_a_plugin_that_was_closed_is_not_entered() -> None:
    """Its RPCs would all fail."""
    plugin = AuthMetadataPlugin(static_token("abc"))
    await plugin.aclose()
    with pytest.raises(ChannelClosedError, match="The plugin was closed"):
        async with plugin:
            pytest.fail("it was entered")


def test_without_any_loop_it_says_what_to_do() -> None:
    """Made in a module, and never entered."""
    plugin = AuthMetadataPlugin(static_token("abc"))
    with pytest.raises(RpcFailedError, match="enter it with 'async with'"):
        metadata_of(plugin)


async def test_entered_it_takes_the_loop_that_runs(echo_server: EchoServer) -> None:
    """Made before the loop ran, as at the top of a module."""
    plugin = await asyncio.to_thread(AuthMetadataPlugin, static_token("abc"))
    async with plugin:
        await call(echo_server, plugin)
    assert bearers(echo_server) == ["Bearer abc"]


async def test_another_loop_is_one_clear_error(plugin: AuthMetadataPlugin) -> None:
    """Entered there."""

    async def enter() -> None:
        async with plugin:
            pytest.fail("it was entered")

    with pytest.raises(WrongEventLoopError, match="another event loop"):
        await asyncio.to_thread(asyncio.run, enter())


async def test_a_synchronous_call_on_the_loops_own_thread_ends(echo_server: EchoServer) -> None:
    """It blocks the loop that should serve it; the plugin gives up and says why, before the deadline."""
    async with AuthMetadataPlugin(static_token("abc"), loop_timeout=0.2) as plugin:
        with pytest.raises(grpc.RpcError, match=r"did not answer within 0\.2 s.*synchronous RPC"):
            call_in_sync(echo_server, plugin)
        await asyncio.sleep(0)  # the loop finds that nobody waits any more
        assert isinstance(plugin.last_error, TokenUnavailableError)


async def test_an_rpc_that_was_given_up_fetches_no_token(echo_server: EchoServer) -> None:
    """The loop comes to it when gRPC has its answer."""
    source = ScriptedTokens()
    async with AuthMetadataPlugin(source, loop_timeout=0.05) as plugin:
        with pytest.raises(grpc.RpcError, match="did not answer"):
            call_in_sync(echo_server, plugin)
        for _ in range(20):
            await asyncio.sleep(0)
        assert source.fetches == 0


async def test_a_file_that_cannot_be_used_is_an_error_on_entry(tmp_path: Path) -> None:
    """Before any RPC."""
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"type": "service_account"}))
    plugin = AuthMetadataPlugin(service_account(file))
    with pytest.raises(ConfigurationError):
        async with plugin:
            pytest.fail("it was entered")
    with pytest.raises(ChannelClosedError):  # nothing is left open: nobody would leave the block
        await plugin.__aenter__()


class SlowToLoad(ScriptedTokens):
    """A source that never has its files."""

    def __init__(self) -> None:
        super().__init__()
        self.loading = asyncio.Event()

    async def load(self, request: TokenRequest) -> None:
        """Wait for ever."""
        self.loading.set()
        await asyncio.Event().wait()


async def test_an_entry_that_is_cancelled_closes_the_plugin() -> None:
    """While the source reads its files."""
    source = SlowToLoad()
    plugin = AuthMetadataPlugin(source)
    entering = asyncio.ensure_future(plugin.__aenter__())
    await source.loading.wait()
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    with pytest.raises(ChannelClosedError):
        await plugin.__aenter__()


@pytest.mark.parametrize("host", [None, "pubsub.googleapis.com"])
@pytest.mark.parametrize("make", [service_account, lambda info: id_token(credentials=service_account(info))])
async def test_a_source_that_needs_an_audience_can_be_entered(
    echo_server: EchoServer, authority: Authority, make: Any, host: str | None
) -> None:
    """The RPC names it, or `default_host` does."""
    source = make(await authority.service_account_info())
    async with AuthMetadataPlugin(source, None, host) as plugin:
        await call(echo_server, plugin)
    (value,) = bearers(echo_server)
    claims = jwt.decode(str(value).removeprefix("Bearer "), options={"verify_signature": False})
    assert claims["aud"].removesuffix("/") == f"https://{host or echo_server.target}"


async def test_a_plugin_forgets_the_tokens_of_hosts_that_are_not_called() -> None:
    """It keeps those of 128 hosts, which were called last."""
    tokens: weakref.WeakSet[Token] = weakref.WeakSet()

    class Kept(Audiences):
        async def fetch(self, request: TokenRequest) -> Token:
            tokens.add(token := await super().fetch(request))
            return token

    async with AuthMetadataPlugin(Kept()) as plugin:
        for number in [*range(128), 0, *range(128, 200)]:
            await asyncio.to_thread(metadata_of, plugin, f"https://host-{number}/package.Service")
        gc.collect()
        assert len(tokens) == 128
        assert "https://host-0" in {token.value for token in tokens}


async def test_a_closed_plugin_keeps_no_token(plugin: AuthMetadataPlugin, tokens: ScriptedTokens) -> None:
    """Its user may hold it for long."""
    await asyncio.to_thread(metadata_of, plugin)
    (given,) = (cache.current() for cache in plugin._loop._tokens._caches.values())
    token = weakref.ref(given)
    del given
    await plugin.aclose()
    gc.collect()
    assert (tokens.fetches, token()) == (1, None)


async def test_closing_ends_the_waits_for_hosts_that_were_forgotten() -> None:
    """Each of them waits for its token."""
    source, outcomes = ScriptedTokens(), queue.SimpleQueue[BaseException]()
    gate = source.hold()

    def call_host(number: int) -> None:
        outcomes.put(failure_of(plugin, f"https://host-{number}/package.Service"))

    async with AuthMetadataPlugin(source) as plugin:
        threads = [threading.Thread(target=call_host, args=(number,)) for number in range(130)]
        for thread in threads:
            thread.start()
        await gate.wait_for(130)
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert ["closed while" in str(outcomes.get_nowait()) for _ in threads] == [True] * 130


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
async def test_in_a_forked_child_a_call_fails_at_once(plugin: AuthMetadataPlugin) -> None:
    """The loop is the parent's: the child would wait for `loop_timeout`."""
    text = in_forked_child(lambda: str(failure_of(plugin)))
    assert "after a fork, make a new one" in text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
async def test_in_a_forked_child_the_plugin_is_not_closed(plugin: AuthMetadataPlugin) -> None:
    """The child runs a copy of the loop, and has the parent's connections."""

    def close() -> str:
        try:
            plugin.aclose().send(None)
        except WrongEventLoopError as error:
            return str(error)
        return "closed"

    assert "before this process was forked" in in_forked_child(close)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
async def test_in_a_forked_child_a_forgotten_plugin_is_the_parents() -> None:
    """The child cannot close it, so nothing is said there."""
    forgotten = [AuthMetadataPlugin(static_token("abc"))]
    thread = threading.Thread(target=metadata_of, args=(forgotten[0],))
    thread.start()
    await asyncio.to_thread(thread.join)

    def forget() -> str:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            forgotten.clear()
            gc.collect()
        return str([str(warning.message) for warning in caught])

    assert in_forked_child(forget) == "[]"
    await forgotten[0].aclose()


async def test_a_request_that_was_handed_in_stays_open(echo_server: EchoServer, authority: Authority) -> None:
    """Who made it closes it."""
    async with AiohttpRequest() as request:
        async with AuthMetadataPlugin(static_token("abc"), request) as plugin:
            await call(echo_server, plugin)
        assert (await request.send(authority.jwks_url)).status == 200


async def test_a_forgotten_plugin_speaks_up() -> None:
    """If it was used: it may hold connections to a token endpoint."""
    forgotten = [AuthMetadataPlugin(static_token("abc"))]
    # From a thread, as by gRPC. One that has ended: a worker of an executor holds the arguments of its last
    # call until some time after the result is there.
    thread = threading.Thread(target=metadata_of, args=(forgotten[0],))
    thread.start()
    await asyncio.to_thread(thread.join)
    cache = next(iter(forgotten[0]._loop._tokens._caches.values()))
    gc.collect()
    with pytest.warns(ResourceWarning, match="never closed"):
        forgotten.clear()
    await cache.aclose()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: AuthMetadataPlugin("token"), "credentials"),
        (lambda: AuthMetadataPlugin(None, object()), "request"),
        (lambda: AuthMetadataPlugin(None, None, 1), "default_host"),
        (lambda: AuthMetadataPlugin(None, None, ""), "default_host"),
        (lambda: AuthMetadataPlugin(None, None, "https://pubsub.googleapis.com"), "default_host"),
        (lambda: AuthMetadataPlugin(None, None, " pubsub.googleapis.com"), "default_host"),
        (lambda: AuthMetadataPlugin(None, loop_timeout="1"), "loop_timeout"),
        (lambda: AuthMetadataPlugin(None, loop_timeout=0), "loop_timeout"),
        (lambda: AuthMetadataPlugin(None, loop_timeout=-1), "loop_timeout"),
        (lambda: AuthMetadataPlugin(None, loop_timeout=float("inf")), "loop_timeout"),
        (lambda: AuthMetadataPlugin(None, loop_timeout=float("nan")), "loop_timeout"),
    ],
)
def test_a_mistake_is_an_error_at_the_call(make: Callable[[], object], field: str) -> None:
    """`field` names the argument."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert caught.value.field == field
