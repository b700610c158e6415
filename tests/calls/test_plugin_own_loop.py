"""`AuthMetadataPlugin(own_loop=True)`: RPCs that get their tokens where the application runs no loop."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import (
    AiohttpRequest,
    AuthMetadataPlugin,
    ConfigurationError,
    Token,
    TokenRequest,
    service_account,
    static_token,
)
from aio_authgrpc.errors import ChannelClosedError, WrongEventLoopError
from aio_authgrpc.testing import EchoServer, EchoStub, ScriptedTokens

from .plugin_calls import bearers, call_in_sync, composite, failure_of, in_forked_child, metadata_of

pytestmark = pytest.mark.timeout(60)  # some start processes

LOOP = "aio_authgrpc loop"


class Numbers:
    """A source whose tokens are numbers, fetched on any loop."""

    def __init__(self) -> None:
        self.fetches = 0

    async def fetch(self, request: TokenRequest) -> Token:
        self.fetches += 1
        return Token(f"token-{self.fetches}", expires_at=request.time + 3600)


class Never:
    """A source that has no token, ever; `asked` is set when it is asked for one."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    async def fetch(self, request: TokenRequest) -> Token:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
def plugin(numbers: Numbers) -> Iterator[AuthMetadataPlugin]:
    plugin = AuthMetadataPlugin(numbers, own_loop=True)
    yield plugin
    plugin.close()


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == LOOP]


def test_without_any_loop_a_call_gets_its_token(plugin: AuthMetadataPlugin) -> None:
    """In a program without asyncio."""
    assert metadata_of(plugin) == (("authorization", "Bearer token-1"),)


async def test_synchronous_channels_in_threads_share_a_token(
    echo_server: EchoServer, plugin: AuthMetadataPlugin, numbers: Numbers
) -> None:
    """None of the threads has a loop."""
    calls = (asyncio.to_thread(call_in_sync, echo_server, plugin) for _ in range(3))
    assert await asyncio.gather(*calls) == [b"x"] * 3
    assert bearers(echo_server) == ["Bearer token-1"] * 3
    assert numbers.fetches == 1


async def test_every_arity_of_a_channel_of_grpc_aio_carries_the_token(
    arity: Any, echo_server: EchoServer, plugin: AuthMetadataPlugin
) -> None:
    """The loop of the channel is another than the plugin's."""
    async with grpc.aio.secure_channel(echo_server.target, composite(echo_server, plugin)) as channel:
        assert await arity.finish(arity.begin(EchoStub(channel))) == arity.responses
    assert bearers(echo_server) == ["Bearer token-1"]


def test_many_first_calls_start_one_thread(plugin: AuthMetadataPlugin, numbers: Numbers) -> None:
    """And make one token request."""
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: metadata_of(plugin), range(50)))
    assert answers == [(("authorization", "Bearer token-1"),)] * 50
    assert len(loop_threads()) == 1
    assert numbers.fetches == 1


def test_a_plugin_that_is_not_used_starts_no_thread(threads_before: int) -> None:
    """Made and closed at module level."""
    AuthMetadataPlugin(static_token("abc"), own_loop=True).close()
    assert threading.active_count() == threads_before


# Closing


def test_closed_it_leaves_no_thread(plugin: AuthMetadataPlugin) -> None:
    """`close()` returns when the loop has ended; closing twice does nothing."""
    metadata_of(plugin)
    plugin.close()
    assert loop_threads() == []
    plugin.close()


async def test_closed_asynchronously_it_leaves_no_thread(plugin: AuthMetadataPlugin) -> None:
    """On a loop that the plugin has never seen."""
    await asyncio.to_thread(metadata_of, plugin)
    await plugin.aclose()
    assert loop_threads() == []
    await plugin.aclose()


async def test_the_end_of_its_block_closes_it(plugin: AuthMetadataPlugin) -> None:
    """`async with`."""
    async with plugin:
        await asyncio.to_thread(metadata_of, plugin)
    assert loop_threads() == []
    with pytest.raises(ChannelClosedError):
        await plugin.__aenter__()


def test_closed_it_refuses_calls(plugin: AuthMetadataPlugin) -> None:
    """And starts no other loop for them."""
    metadata_of(plugin)
    plugin.close()
    assert "The plugin was closed" in str(failure_of(plugin))
    assert isinstance(plugin.last_error, ChannelClosedError)
    assert loop_threads() == []


def test_closing_ends_the_calls_that_wait() -> None:
    """With an error, not at their deadlines."""
    source, outcomes = Never(), list[BaseException]()
    plugin = AuthMetadataPlugin(source, own_loop=True)
    calling = threading.Thread(target=lambda: outcomes.append(failure_of(plugin)))
    calling.start()
    assert source.asked.wait(10)
    plugin.close()
    calling.join(10)
    assert "closed while an RPC waited" in str(outcomes[0])


async def test_closing_that_is_cancelled_goes_on(plugin: AuthMetadataPlugin) -> None:
    """The wait for the end is given up, not the end."""
    await asyncio.to_thread(metadata_of, plugin)
    (thread,) = loop_threads()
    closing = asyncio.ensure_future(plugin.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


def test_a_source_may_close_it() -> None:
    """On the plugin's own loop: it does not wait for its own end."""
    plugins: list[AuthMetadataPlugin] = []

    returned = threading.Event()

    class Closing:
        async def fetch(self, request: TokenRequest) -> Token:
            plugins[0].close()
            returned.set()
            return Token("late")

    plugins.append(AuthMetadataPlugin(Closing(), own_loop=True))
    assert "closed while an RPC waited" in str(failure_of(plugins[0]))
    plugins[0].close()
    assert returned.is_set()
    assert loop_threads() == []


def test_a_plugin_that_is_gone_leaves_no_thread(numbers: Numbers) -> None:
    """An exporter's credentials have nobody who closes them."""
    plugin = AuthMetadataPlugin(numbers, own_loop=True)
    metadata_of(plugin)
    (thread,) = loop_threads()
    known = weakref.ref(plugin)
    del plugin
    gc.collect()
    assert known() is None
    thread.join(10)
    assert not thread.is_alive()


async def test_a_channel_keeps_its_plugin(echo_server: EchoServer, numbers: Numbers) -> None:
    """The plugin's maker may drop it."""

    def make() -> grpc.Channel:
        plugin = AuthMetadataPlugin(numbers, own_loop=True)
        return grpc.secure_channel(echo_server.target, composite(echo_server, plugin))

    def call(channel: grpc.Channel) -> None:
        with channel:
            for _ in range(2):
                channel.unary_unary("/aio_authgrpc.testing.Echo/UnaryUnary")(b"x", timeout=10)
                gc.collect()

    await asyncio.to_thread(call, make())
    assert bearers(echo_server) == ["Bearer token-1"] * 2


def test_a_plugin_without_a_loop_of_its_own_is_not_closed_synchronously() -> None:
    """`close()` could not wait for the loop."""
    plugin = AuthMetadataPlugin(static_token("abc"))
    with pytest.raises(WrongEventLoopError, match=r"Await its aclose\(\)"):
        plugin.close()
    asyncio.run(plugin.aclose())
    plugin.close()


# Entering


async def test_a_file_that_cannot_be_used_is_an_error_on_entry(tmp_path: Path) -> None:
    """Before any RPC, and the plugin is closed."""
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"type": "service_account"}))
    plugin = AuthMetadataPlugin(service_account(file), own_loop=True)
    with pytest.raises(ConfigurationError):
        async with plugin:
            pytest.fail("it was entered")
    with pytest.raises(ChannelClosedError):
        await plugin.__aenter__()


async def test_an_entry_that_is_cancelled_closes_the_plugin() -> None:
    """While the source reads its files."""

    class SlowToLoad(ScriptedTokens):
        def __init__(self) -> None:
            super().__init__()
            self.loading = asyncio.Event()

        async def load(self, request: TokenRequest) -> None:
            self.loading.set()
            await asyncio.Event().wait()

    source = SlowToLoad()
    plugin = AuthMetadataPlugin(source, own_loop=True)
    entering = asyncio.ensure_future(plugin.__aenter__())
    await source.loading.wait()
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    with pytest.raises(ChannelClosedError):
        await plugin.__aenter__()


async def test_a_request_of_another_loop_is_refused() -> None:
    """The plugin has one of its own."""
    async with AiohttpRequest() as request:
        with pytest.raises(ConfigurationError) as caught:
            AuthMetadataPlugin(static_token("abc"), request, own_loop=True)
    assert caught.value.field == "request"


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
def test_a_forked_child_has_a_loop_and_a_cache_of_its_own(
    plugin: AuthMetadataPlugin, numbers: Numbers
) -> None:
    """It does not use the parent's token; the parent goes on with it."""
    parent = metadata_of(plugin)
    child = in_forked_child(lambda: str([metadata_of(plugin) for _ in range(2)]))
    assert child == str([(("authorization", "Bearer token-2"),)] * 2)
    assert metadata_of(plugin) == parent == (("authorization", "Bearer token-1"),)
    assert numbers.fetches == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
def test_a_forked_child_closes_its_own_loop_alone(plugin: AuthMetadataPlugin) -> None:
    """The parent's has sockets that the child shares."""
    metadata_of(plugin)

    def close() -> str:
        plugin.close()
        return str(failure_of(plugin))

    assert "The plugin was closed" in in_forked_child(close)
    assert metadata_of(plugin) == (("authorization", "Bearer token-1"),)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
def test_a_fork_while_another_thread_starts_the_loop_leaves_no_lock_behind() -> None:
    """In the child nobody would release it."""
    plugins = [AuthMetadataPlugin(static_token("abc"), own_loop=True) for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        starting = [pool.submit(metadata_of, plugin) for plugin in plugins]
        children = [in_forked_child(lambda: str(metadata_of(plugins[-1]))) for _ in range(5)]
    assert {*children, *(str(started.result()) for started in starting)} == {
        "(('authorization', 'Bearer abc'),)"
    }
    for plugin in plugins:
        plugin.close()


# Processes

PROGRAM = """
import atexit

at_exit = []
atexit.register(lambda: [function() for function in at_exit])  # before any module registers its own

import asyncio, os, sys, threading, time
import grpc
from aio_authgrpc import AuthMetadataPlugin
from aio_authgrpc.tokens import Token

with open(CA, "rb") as file:
    tls = grpc.ssl_channel_credentials(file.read())

class Source:
    fetches = 0

    async def fetch(self, request):
        self.fetches += 1
        return Token("abc", expires_at=request.time + 3600)

source = Source()

plugin = AuthMetadataPlugin(source, own_loop=True)

def open_channel(plugin=plugin):
    credentials = grpc.composite_channel_credentials(tls, grpc.metadata_call_credentials(plugin))
    return grpc.secure_channel(TARGET, credentials).unary_unary("/aio_authgrpc.testing.Echo/UnaryUnary")

class Context:
    method_name = "Method"

    def __init__(self, host):
        self.service_url = f"https://{host}/package.Service"

def ask(plugin=plugin, host=TARGET):  # as gRPC does
    answered, answers = threading.Event(), []
    plugin(Context(host), lambda metadata, error: (answers.append(error or metadata), answered.set()))
    answered.wait(30)
    return answers[0]

"""


@pytest.fixture
def ca_path(echo_server: EchoServer, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(echo_server.ca_pem)
    return path


async def printed_by(server: EchoServer, ca_path: Path, program: str) -> str:
    """Run a program in a process of its own, every warning an error; return what it printed."""
    code = PROGRAM.replace("TARGET", repr(server.target)).replace("CA", repr(str(ca_path))) + program
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.strip()


async def test_after_asyncio_run_has_returned_a_call_gets_its_token(
    echo_server: EchoServer, ca_path: Path
) -> None:
    """The channel was used while the loop ran, in the loop's own thread, which it blocked."""
    program = """
echo = open_channel()

async def main():
    return echo(b"in", timeout=30)

print(asyncio.run(main()), echo(b"after", timeout=30), source.fetches)
"""
    assert await printed_by(echo_server, ca_path, program) == "b'in' b'after' 1"


async def test_a_process_ends_with_its_plugins_open(echo_server: EchoServer, ca_path: Path) -> None:
    """Also while RPCs wait for a token, one of them for a blocked thread's: no warning, and no wait."""
    program = """
asked = [threading.Event(), threading.Event()]

class Never:
    async def fetch(self, request):
        asked[0].set()
        await asyncio.Event().wait()

class Blocked:
    async def fetch(self, request):
        asked[1].set()
        await asyncio.to_thread(threading.Event().wait)

echo = open_channel()
for other in Never(), Blocked():
    other = AuthMetadataPlugin(other, own_loop=True)
    threading.Thread(target=open_channel(other), args=(b"x",), daemon=True).start()
for event in asked:
    event.wait(30)
print(echo(b"x", timeout=30))
"""
    assert await printed_by(echo_server, ca_path, program) == "b'x'"


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="Python 3.12 starts no thread for exit functions")
async def test_an_exit_function_gets_its_token(echo_server: EchoServer, ca_path: Path) -> None:
    """It runs after those that were registered later, and the source uses the loop's executor."""
    program = """
class InExecutor:
    async def fetch(self, request):
        return Token(await asyncio.to_thread(lambda: "abc"), expires_at=request.time + 3600)

at_exit.append(lambda: print(ask(plugin, "another.example.com")))
plugin = AuthMetadataPlugin(InExecutor(), own_loop=True)
ask(plugin)
"""
    assert await printed_by(echo_server, ca_path, program) == "(('authorization', 'Bearer abc'),)"


async def test_a_forked_worker_gets_its_token(echo_server: EchoServer, ca_path: Path) -> None:
    """Parent and child end as processes do, without a warning; the parent has used the plugin before."""
    program = """
ask()
child = os.fork()
answer = open_channel()(b"child" if child == 0 else b"parent", timeout=30)
os.write(1, f"{answer} {source.fetches}\\n".encode())  # at once: print writes the parts one by one
if child:
    assert os.waitpid(child, 0) == (child, 0)
"""
    printed = await printed_by(echo_server, ca_path, program)
    assert sorted(printed.splitlines()) == ["b'child' 2", "b'parent' 1"]


async def test_without_a_file_descriptor_for_the_loop_a_call_fails_and_the_next_tries_again(
    echo_server: EchoServer, ca_path: Path
) -> None:
    """The error says why, and that a retry may help."""
    program = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
failure = ask()
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(failure)
print(ask())
"""
    pytest.importorskip("resource", reason="Windows has no such limits")
    failed, succeeded = (await printed_by(echo_server, ca_path, program)).splitlines()
    assert failed.startswith("UNAVAILABLE: No event loop can be started")
    assert failed.endswith("[a retry may help]")
    assert succeeded == "(('authorization', 'Bearer abc'),)"
