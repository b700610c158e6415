"""`LazyChannel`: made anywhere, opened at the first RPC of each event loop, closed with the loop."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
import weakref
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import (
    ConfigurationError,
    LazyChannel,
    SslCredentials,
    Token,
    service_account,
    static_token,
    token_source,
)
from aio_authgrpc._calls.multi_callables import AuthorizedMethod
from aio_authgrpc.errors import (
    ChannelNotOpenedError,
    TokenDeadlineExceededError,
    TokenRefusedError,
    WrongEventLoopError,
)
from aio_authgrpc.testing import Authority, EchoServer, EchoStub, FakeClock, ScriptedTokens

TOKEN = static_token("abc")


@pytest.fixture
async def lazy(echo_server: EchoServer) -> AsyncIterator[LazyChannel]:
    """Give a lazy channel to the echo server, closed at the end."""
    channel = LazyChannel(
        echo_server.target, credentials=ScriptedTokens(), ssl_credentials=echo_server.ssl_credentials
    )
    yield channel
    await channel.close()


async def test_the_first_rpc_opens_it(lazy: LazyChannel, echo_server: EchoServer, arity: Any) -> None:
    """In all arities, and the second finds it open."""
    stub = EchoStub(lazy)
    assert await arity.finish(arity.begin(stub)) == arity.responses
    assert await arity.finish(arity.begin(stub)) == arity.responses
    assert [call.values("authorization") for call in echo_server.calls] == [("Bearer token-1",)] * 2


async def test_many_first_rpcs_open_it_once(lazy: LazyChannel, echo_server: EchoServer) -> None:
    """They share the opening, and the token."""
    stub = EchoStub(lazy)
    answers = await asyncio.gather(*(stub.UnaryUnary(b"%d" % n) for n in range(50)))
    assert answers == [b"%d" % n for n in range(50)]
    assert {call.values("authorization") for call in echo_server.calls} == {("Bearer token-1",)}


async def test_written_requests_wait_for_the_opening(lazy: LazyChannel) -> None:
    """The write API works before the channel is open."""
    call = EchoStub(lazy).StreamStream()
    await call.write(b"a")
    assert await call.read() == b"a"
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_positional_arguments_arrive(lazy: LazyChannel, echo_server: EchoServer) -> None:
    """Grpc.aio takes all arguments of a stream of requests by position."""
    stub: Any = EchoStub(lazy)
    for _ in range(2):
        assert await stub.StreamUnary(iter([b"x"]), 30, (("x-mine", "1"),)) == b"x"
        assert await stub.StreamUnary(request_iterator=iter([b"x"]), metadata=(("x-mine", "1"),)) == b"x"
    assert [call.values("x-mine") for call in echo_server.calls] == [("1",)] * 4


def multi_callables() -> int:
    """Count those that were made by a channel with a token and are still there."""
    gc.collect()
    return sum(isinstance(thing, AuthorizedMethod) for thing in gc.get_objects())


async def test_stubs_that_are_gone_leave_nothing_behind(lazy: LazyChannel) -> None:
    """A service may make a stub for each of its requests."""
    await EchoStub(lazy).UnaryUnary(b"x")
    before = multi_callables()
    for _ in range(50):
        await EchoStub(lazy).UnaryUnary(b"x")
    assert multi_callables() <= before


async def test_closed_it_opens_again(lazy: LazyChannel, echo_server: EchoServer) -> None:
    """`close()` closes what is open on this loop."""
    stub = EchoStub(lazy)
    await stub.UnaryUnary(b"x")
    await lazy.close()
    await stub.UnaryUnary(b"x")
    assert len(echo_server.calls) == 2


async def test_closed_it_keeps_no_token(echo_server: EchoServer) -> None:
    """The token that its event loops share goes with the last of them that is closed."""
    tokens: weakref.WeakSet[Token] = weakref.WeakSet()

    async def fetch() -> Token:
        tokens.add(token := Token("token", expires_at=time.time() + 3600))
        return token

    lazy = LazyChannel(
        echo_server.target, credentials=token_source(fetch), ssl_credentials=echo_server.ssl_credentials
    )
    stub = EchoStub(lazy)
    await stub.UnaryUnary(b"x")
    assert len(tokens) == 1
    await lazy.close()
    gc.collect()
    assert len(tokens) == 0


async def test_it_is_closed_while_it_opens(echo_server: EchoServer) -> None:
    """The waiting RPC ends; nothing is left open."""
    entered, released = asyncio.Event(), asyncio.Event()

    async def certificate() -> tuple[bytes, bytes]:
        entered.set()
        await released.wait()
        raise AssertionError

    lazy = LazyChannel(
        echo_server.target,
        credentials=TOKEN,
        ssl_credentials=SslCredentials(client_certificate=certificate),
    )
    call = EchoStub(lazy).UnaryUnary(b"x")
    await entered.wait()
    await lazy.close()
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await call


async def test_a_call_that_is_still_beginning_does_not_open_what_is_closed(echo_server: EchoServer) -> None:
    """It has not taken its first step when the channel is closed."""
    opened = 0

    async def certificate() -> tuple[bytes, bytes]:
        nonlocal opened
        opened += 1
        raise AssertionError

    lazy = LazyChannel(
        echo_server.target,
        credentials=TOKEN,
        ssl_credentials=SslCredentials(client_certificate=certificate),
    )
    call = EchoStub(lazy).UnaryUnary(b"x")
    await lazy.close()
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await call
    assert opened <= 1


async def test_the_opening_counts_against_the_timeout(echo_server: EchoServer) -> None:
    """The RPC ends when its time is over; the opening goes on for the next."""

    async def certificate() -> tuple[bytes, bytes]:
        await asyncio.Event().wait()
        raise AssertionError

    lazy = LazyChannel(
        echo_server.target,
        credentials=TOKEN,
        ssl_credentials=SslCredentials(client_certificate=certificate),
    )
    with pytest.raises(TokenDeadlineExceededError, match="was opened"):
        await EchoStub(lazy).UnaryUnary(b"x", timeout=0.01)
    await lazy.close()


async def test_a_failed_opening_says_why_and_is_tried_again(echo_server: EchoServer, tmp_path: Any) -> None:
    """Each waiting RPC gets an error of its own, with the reason."""
    path = tmp_path / "key.json"
    lazy = LazyChannel(
        echo_server.target,
        credentials=service_account(path, scopes=["https://www.googleapis.com/auth/cloud-platform"]),
        ssl_credentials=echo_server.ssl_credentials,
    )
    stub = EchoStub(lazy)
    calls = [stub.UnaryUnary(b"x") for _ in range(2)]
    errors = [await _error(call) for call in calls]
    assert [type(error) for error in errors] == [ChannelNotOpenedError] * 2
    assert errors[0] is not errors[1]
    assert str(path) in str(errors[0])
    assert isinstance(errors[0].__cause__, ConfigurationError)
    async with Authority() as authority:
        path.write_text(json.dumps(await authority.service_account_info()))
        assert await stub.UnaryUnary(b"x") == b"x"
        await lazy.close()


async def _error(call: Any) -> BaseException:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


SERVER = """
import asyncio, threading
from aio_authgrpc import LazyChannel
from aio_authgrpc.testing import EchoStub
from aio_authgrpc.tokens import Token

fetches = []

class Source:
    async def fetch(self, request):
        fetches.append(request.audience)
        return Token("abc", expires_at=request.time + 3600)

channel = LazyChannel(TARGET, credentials=Source(), plaintext=True)
stub = EchoStub(channel)

async def main():
    return await stub.UnaryUnary(b"x")
"""


def run_in_process(target: str, program: str) -> str:
    """Run a program with a stub at module level, every warning an error; return what it printed."""
    code = SERVER.replace("TARGET", repr(target)) + program
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.strip()


@pytest.fixture
async def plaintext_server() -> AsyncIterator[EchoServer]:
    """Give a server in the clear: other processes need no certificate for it."""
    async with EchoServer(tls=False) as server:
        yield server


async def test_a_stub_at_module_level_serves_three_event_loops(plaintext_server: EchoServer) -> None:
    """`asyncio.run` three times: three connections, one token request, no warning."""
    program = "print([asyncio.run(main()) for _ in range(3)], len(fetches))"
    printed = await asyncio.to_thread(run_in_process, plaintext_server.target, program)
    assert printed == "[b'x', b'x', b'x'] 1"


async def test_a_stub_at_module_level_serves_two_threads(plaintext_server: EchoServer) -> None:
    """Two threads with a loop each, at once: one token request."""
    program = """
answers = []
threads = [threading.Thread(target=lambda: answers.append(asyncio.run(main()))) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(answers, len(fetches))
"""
    printed = await asyncio.to_thread(run_in_process, plaintext_server.target, program)
    assert printed == "[b'x', b'x'] 1"


async def test_a_stub_at_module_level_serves_forked_workers(plaintext_server: EchoServer) -> None:
    """Made before the fork, as with a preloading server, and used in both processes after it."""
    program = """
import os, sys
reading, writing = os.pipe()
child = os.fork()
answer = asyncio.run(main())
if child == 0:
    os.write(writing, repr((answer, len(fetches))).encode())
    os._exit(0)
os.waitpid(child, 0)
print((answer, len(fetches)), os.read(reading, 100).decode())
"""
    printed = await asyncio.to_thread(run_in_process, plaintext_server.target, program)
    assert printed == "(b'x', 1) (b'x', 1)"


async def test_a_loop_that_stands_still_does_not_keep_the_token_from_others(
    plaintext_server: EchoServer,
) -> None:
    """It has begun to fetch, and does not go on."""
    program = """
started = []

class Slow:
    async def fetch(self, request):
        fetches.append(request.audience)
        if len(fetches) == 1:
            started.append(True)
            await asyncio.Event().wait()
        return Token("abc", expires_at=request.time + 3600)

channel = LazyChannel(TARGET, credentials=Slow(), plaintext=True)
stub = EchoStub(channel)
standing = asyncio.new_event_loop()
call = standing.create_task(main())

async def until_started():
    while not started:
        await asyncio.sleep(0)

standing.run_until_complete(until_started())
print(asyncio.run(main()), len(fetches))
call.cancel()
standing.run_until_complete(asyncio.gather(call, return_exceptions=True))
standing.run_until_complete(standing.shutdown_asyncgens())
standing.close()
""".replace("TARGET", repr(plaintext_server.target))
    printed = await asyncio.to_thread(run_in_process, plaintext_server.target, program)
    assert printed == "b'x' 2"


async def test_a_revoked_token_is_replaced_on_a_new_loop(
    plaintext_server: EchoServer, fake_clock: FakeClock
) -> None:
    """Its age counts from when another loop fetched it."""
    lazy = LazyChannel(
        plaintext_server.target, credentials=ScriptedTokens(), plaintext=True, clock=fake_clock
    )
    stub = EchoStub(lazy)
    await stub.UnaryUnary(b"x")
    fake_clock.advance(60)
    plaintext_server.refuse()

    async def job() -> bytes:
        return await stub.UnaryUnary(b"x")

    assert await asyncio.to_thread(asyncio.run, job()) == b"x"
    await lazy.close()
    assert [call.values("authorization") for call in plaintext_server.calls] == [
        ("Bearer token-1",),
        ("Bearer token-1",),
        ("Bearer token-2",),
    ]


async def test_a_forgotten_one_is_closed_by_its_loop(plaintext_server: EchoServer) -> None:
    """Nobody closes it, and nothing warns of that: asyncio.run closes what belongs to its loop."""
    program = """
import gc
asyncio.run(main())
del channel, stub
gc.collect()
print("done")
"""
    assert await asyncio.to_thread(run_in_process, plaintext_server.target, program) == "done"


def test_without_an_event_loop_it_is_made_and_not_called() -> None:
    """The error names asyncio."""
    stub = EchoStub(LazyChannel("localhost:1", credentials=TOKEN))
    with pytest.raises(WrongEventLoopError, match="asyncio"):
        stub.UnaryUnary(b"x")


@pytest.mark.parametrize(("field", "value"), [("request", object()), ("ready_timeout", 1.0)])
def test_what_belongs_to_one_loop_is_refused(field: str, value: Any) -> None:
    """A lazy channel serves several."""
    arguments: Any = {field: value}
    with pytest.raises(ConfigurationError, match=field):
        LazyChannel("localhost:1", credentials=TOKEN, **arguments)


async def test_a_view_of_it_carries_another_identity(lazy: LazyChannel, echo_server: EchoServer) -> None:
    """Before it is open, and after."""
    mine = EchoStub(lazy.with_identity(static_token("mine")))
    await mine.UnaryUnary(b"x")
    await mine.UnaryUnary(b"x")
    await EchoStub(lazy).UnaryUnary(b"x")
    assert [call.values("authorization") for call in echo_server.calls] == [
        ("Bearer mine",),
        ("Bearer mine",),
        ("Bearer token-1",),
    ]


async def test_check_returns_where_all_is_there(lazy: LazyChannel) -> None:
    """For a readiness probe."""
    await lazy.check(30)
    assert lazy.get_state() is grpc.ChannelConnectivity.READY


async def test_check_raises_what_is_missing(echo_server: EchoServer) -> None:
    """A readiness probe gets the reason."""
    tokens = ScriptedTokens()
    tokens.fail(RuntimeError("down"), times=None)
    lazy = LazyChannel(echo_server.target, credentials=tokens, ssl_credentials=echo_server.ssl_credentials)
    with pytest.raises(TokenRefusedError):
        await lazy.check(30)
    await lazy.close()


async def test_its_state_is_idle_until_it_is_open(lazy: LazyChannel) -> None:
    """Asking with `try_to_connect` opens it."""
    assert lazy.get_state() is grpc.ChannelConnectivity.IDLE
    assert lazy.get_state(try_to_connect=True) is grpc.ChannelConnectivity.IDLE
    await lazy.channel_ready()
    assert lazy.get_state() is grpc.ChannelConnectivity.READY


async def test_appended_interceptors_run_on_every_loop(lazy: LazyChannel, echo_server: EchoServer) -> None:
    """What a library appends before the channel is open belongs to the channels of all loops."""
    seen: list[Any] = []

    class Spy(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(details.metadata)
            return await continuation(details, request)

    channel: Any = lazy
    channel._unary_unary_interceptors.append(Spy())
    stub = EchoStub(lazy)
    await stub.UnaryUnary(b"x")
    await stub.UnaryUnary(b"x")
    assert len(seen) == 2
    assert "authorization" not in repr(seen)
