"""How it all ends: closed or forgotten, interrupted, forked or hanging; in processes of their own.

Each script runs in asyncio's debug mode and Python's development mode, with warnings as errors. What it
prints on standard error fails its test, and so does a process that does not end in time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.support.patience import patience

# Starting Python in its development mode, the servers and a key takes 2 s of it on an idle machine. What
# hangs here would hang until the test has ended.
IN_TIME = 30.0

PRELUDE = """
import asyncio, os, signal, subprocess, sys, time
# A suite in the background ignores SIGINT, which its processes inherit. Not by preexec_fn: with it subprocess
# forks, gRPC's handlers run between fork and exec, and now and then one aborts: "Bad file descriptor".
signal.signal(signal.SIGINT, signal.default_int_handler)
import grpc, grpc.aio
import google.auth.credentials
from contextlib import asynccontextmanager
import aio_authgrpc
from aio_authgrpc.testing import Authority, EchoServer, EchoStub, Gate

@asynccontextmanager
async def servers():
    async with Authority() as authority, EchoServer() as server:
        info = await authority.service_account_info()
        yield authority, server, aio_authgrpc.service_account(info, scopes=["scope"])

def channel_to(server, credentials):
    return aio_authgrpc.secure_authorized_channel(credentials, None, server.target, server.ssl_credentials)

class Hanging(google.auth.credentials.Credentials):
    "A refresh that hangs as google-auth's own do: deaf to everything."
    def __init__(self, hang):
        super().__init__()
        self.hang, self.started, self.loop = hang, asyncio.Event(), asyncio.get_running_loop()
    def refresh(self, request):
        self.loop.call_soon_threadsafe(self.started.set)
        self.hang()
"""

pytestmark = [
    pytest.mark.timeout(60),  # more than IN_TIME, which says more
    pytest.mark.skipif(os.name != "posix", reason="signals and forks are POSIX's"),
]


class Script:
    """A process that runs Python code after the prelude.

    Args:
        code: What it runs; what it defines as `main` is run by `asyncio.run`.
        warnings: Python's -W.
    """

    def __init__(self, code: str, warnings: str = "error") -> None:
        # gRPC logs a connection that breaks on standard error.
        stdin, self._until_the_end = os.pipe()
        environment = {**os.environ, "GRPC_VERBOSITY": "NONE", "PYTHONASYNCIODEBUG": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", warnings, "-c", PRELUDE + textwrap.dedent(code)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        os.close(stdin)

    def end(self) -> tuple[int, str, str]:
        """Return the exit code and what was printed, on standard output and standard error."""
        try:
            output, errors = self.process.communicate(timeout=patience(IN_TIME))
        finally:
            self.process.kill()
            os.close(self._until_the_end)
        # asyncio's debug mode tells of slow steps, and a machine may be slow.
        lines = [line for line in errors.splitlines() if not line.startswith("Executing <")]
        return self.process.returncode, output.strip(), "\n".join(lines).strip()


def test_a_channel_that_is_closed_says_nothing() -> None:
    """No warning, no "Unclosed client session", after calls and an exchange for a token."""
    script = Script("""
        async def main():
            async with servers() as (authority, server, credentials):
                async with channel_to(server, credentials) as channel:
                    print(await EchoStub(channel).UnaryUnary(b"x", timeout=10))
        asyncio.run(main())
    """)
    assert script.end() == (0, "b'x'", "")


def test_closing_during_a_refresh_says_nothing() -> None:
    """The waiting call is told, the refresh is cancelled, and its failure is nobody's to retrieve."""
    script = Script("""
        async def main():
            async with servers() as (authority, server, credentials):
                gate = authority.hold()
                async with channel_to(server, credentials) as channel:
                    call = EchoStub(channel).UnaryUnary(b"x", timeout=10)
                    await gate.arrived.wait()
                await channel.close()
                try:
                    await call
                except aio_authgrpc.errors.ChannelClosedError as error:
                    print(error.code().name)
        asyncio.run(main())
    """)
    assert script.end() == (0, "CANCELLED", "")


def test_a_refresh_that_fails_behind_its_callers_is_logged_once_and_no_more() -> None:
    """Also where nobody waits for it: "Task exception was never retrieved" is for bugs."""
    script = Script("""
        async def main():
            clock, source = aio_authgrpc.testing.FakeClock(), aio_authgrpc.testing.ScriptedTokens()
            async with aio_authgrpc.tokens.TokenCache(source, clock=clock, attempts=1) as tokens:
                await tokens.get()
                source.fail(OSError("down"))
                clock.advance(3500)
                async with tokens.events() as events:
                    await tokens.get()
                    while tokens.status().last_error is None:
                        await anext(events)
        asyncio.run(main())
    """)
    code, _, errors = script.end()
    assert (code, errors.count("\n"), errors.startswith("The token refresh failed")) == (0, 0, True)


@pytest.mark.parametrize("waiting", [False, True], ids=["idle", "during-a-refresh"])
def test_a_loop_that_is_closed_before_the_channel_warns_once(waiting: bool) -> None:
    """The mistake is the caller's, and is told; nothing hangs."""
    script = Script(
        f"""
        async def main():
            async with servers() as (authority, server, credentials):
                gate = authority.hold() if {waiting} else None
                channel = await channel_to(server, credentials)
                call = EchoStub(channel).UnaryUnary(b"x", timeout=10)
                await (gate.arrived.wait() if gate else call)
        asyncio.run(main())
        print("ended")
        """,
        warnings="always",
    )
    code, output, errors = script.end()
    assert (code, output) == (0, "ended")
    assert errors.count("ResourceWarning: ") == errors.count("An AuthorizedChannel was never closed") + 1 == 2


@pytest.mark.parametrize("loop", ["parents", "asyncio.new_event_loop()"], ids=["same-loop", "another-loop"])
def test_a_channel_that_crossed_a_fork_is_one_clear_error(loop: str) -> None:
    """As under gunicorn --preload: its connections and threads stayed with the parent."""
    script = Script(f"""
        parents = asyncio.new_event_loop()
        channel = parents.run_until_complete(aio_authgrpc.secure_authorized_channel(
            aio_authgrpc.static_token("abc"), None, "localhost:1").__aenter__())
        stub = EchoStub(channel)
        async def use():
            for attempt in (lambda: stub.UnaryUnary(b"x", timeout=60), channel.auth.get):
                try:
                    await attempt()
                except aio_authgrpc.errors.WrongEventLoopError as error:
                    print(error.code().name, "after a fork" in error.hint, flush=True)
        if not (child := os.fork()):
            {loop}.run_until_complete(use())
            os._exit(0)
        os.waitpid(child, 0)
        parents.run_until_complete(channel.close())
        parents.close()
    """)
    code, output, _ = script.end()
    # (The cache of a channel that has not been used belongs to no loop yet.)
    assert (code, output.splitlines()[0]) == (0, "FAILED_PRECONDITION True")


def test_a_child_can_have_a_token_cache_of_its_own() -> None:
    """With a source that the parent uses, too: the objects that were used there are alone in being lost."""
    script = Script("""
        source = aio_authgrpc.static_token("abc")
        async def use():
            async with aio_authgrpc.tokens.TokenCache(source) as tokens:
                print((await tokens.get()).expires_at, flush=True)
        parents = asyncio.new_event_loop()
        parents.run_until_complete(use())
        if not (child := os.fork()):
            asyncio.new_event_loop().run_until_complete(use())
            os._exit(0)
        os.waitpid(child, 0)
        parents.close()
    """)
    assert script.end() == (0, "None\nNone", "")


def test_a_channel_on_another_loop_is_one_clear_error() -> None:
    """Two asyncio.run() with one channel."""
    script = Script("""
        async def open_():
            return await aio_authgrpc.secure_authorized_channel(
                aio_authgrpc.static_token("abc"), None, "localhost:1")
        async def use(channel):
            try:
                await EchoStub(channel).UnaryUnary(b"x", timeout=60)
            except aio_authgrpc.errors.WrongEventLoopError as error:
                print(error.code().name)
        first = asyncio.new_event_loop()
        channel = first.run_until_complete(open_())
        asyncio.run(use(channel))
        first.run_until_complete(channel.close())
        first.close()
    """)
    assert script.end() == (0, "FAILED_PRECONDITION", "")


def test_after_close_everything_is_the_same_clear_error() -> None:
    """The stub in each arity, and the cache."""
    script = Script("""
        async def main():
            async with servers() as (authority, server, credentials):
                async with channel_to(server, credentials) as channel:
                    stub = EchoStub(channel)
                for attempt in (stub.UnaryUnary, stub.UnaryStream, stub.StreamUnary, stub.StreamStream):
                    try:
                        attempt(b"x")
                    except aio_authgrpc.errors.ChannelClosedError as error:
                        print("closed")
                try:
                    await channel.auth.get()
                except aio_authgrpc.errors.ChannelClosedError as error:
                    print("closed")
        asyncio.run(main())
    """)
    assert script.end() == (0, "\n".join(["closed"] * 5), "")


def interrupted(code: str) -> tuple[int, str]:
    """Send SIGINT to a script when it has printed a line; return how it ended."""
    script = Script(code)
    assert script.process.stdout is not None
    assert script.process.stdout.readline() == "ready\n"
    script.process.send_signal(signal.SIGINT)
    code_, _, errors = script.end()
    return code_, errors


def test_an_interrupt_during_a_refresh_ends_the_process() -> None:
    """Control-C: KeyboardInterrupt, and nothing else to read."""
    code, errors = interrupted("""
        async def main():
            async with servers() as (authority, server, credentials):
                gate = authority.hold()
                async with channel_to(server, credentials) as channel:
                    call = EchoStub(channel).UnaryUnary(b"x", timeout=60)
                    await gate.arrived.wait()
                    print("ready", flush=True)
                    await call
        asyncio.run(main())
    """)
    assert (code, errors.splitlines()[-1]) == (-signal.SIGINT, "KeyboardInterrupt")
    assert ("Warning" in errors, "never retrieved" in errors, "Unclosed" in errors) == (False, False, False)


HANGS = {
    "sleep": "lambda: time.sleep(3600)",
    # It reads until the test has ended, and then ends too.
    "executable": "lambda: subprocess.run([sys.executable, '-c', 'import sys; sys.stdin.read()'], "
    "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)",
}


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
def test_a_refresh_that_hangs_in_a_thread_holds_no_end_up(hang: str) -> None:
    """google-auth sleeps between its retries, and waits for executables: neither keeps a process alive."""
    script = Script(f"""
        async def main():
            credentials = Hanging({hang})
            async with EchoServer() as server, channel_to(server, credentials) as channel:
                call = EchoStub(channel).UnaryUnary(b"x", timeout=60)
                await credentials.started.wait()
            try:
                await call
            except aio_authgrpc.errors.ChannelClosedError:
                print("ended")
        asyncio.run(main())
    """)
    assert script.end() == (0, "ended", "")


def test_an_interrupt_while_a_refresh_hangs_in_a_thread_ends_the_process() -> None:
    """The thread is left behind."""
    code, errors = interrupted("""
        async def main():
            credentials = Hanging(lambda: time.sleep(3600))
            async with EchoServer() as server, channel_to(server, credentials) as channel:
                call = EchoStub(channel).UnaryUnary(b"x", timeout=60)
                await credentials.started.wait()
                print("ready", flush=True)
                await call
        asyncio.run(main())
    """)
    assert (code, errors.splitlines()[-1]) == (-signal.SIGINT, "KeyboardInterrupt")
