"""Sources and credentials that raise what is no `Exception`: a call ends, and so does nothing else."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import google.auth.credentials
import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthorizedChannel, AuthRpcError, Token, connect, token_source
from aio_authgrpc.errors import TokenRefusedError, TokenUnavailableError
from aio_authgrpc.events import TokenEvent
from aio_authgrpc.testing import EchoServer, EchoStub, ScriptedTokens
from aio_authgrpc.tokens import TokenCache, TokenRequest


class Panic(BaseException):
    """What PyO3 raises where Rust panics."""


class RaisingSource:
    """Raises `error` once, then returns tokens."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    async def fetch(self, request: TokenRequest) -> Token:
        error, self.error = self.error, None
        if error is not None:
            raise error
        return Token("abc")


class RaisingCredentials(google.auth.credentials.Credentials):
    """Raises `error` in its first refresh; later ones work."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error: BaseException | None = error

    def refresh(self, request: Any) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        self.token = "abc"


@pytest.mark.parametrize("kind", [pytest.fail.Exception, Panic, SystemExit])
async def test_a_call_whose_source_raises_what_is_no_exception_is_refused_a_token(
    arity: Any, echo_server: EchoServer, kind: type[BaseException]
) -> None:
    """As with an exception: its text is told, nothing is sent, and the back-off begins."""
    error = kind("no token here")
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    async with TokenCache(RaisingSource(error)) as cache, AuthorizedChannel(inner, cache) as channel:
        with pytest.raises(TokenRefusedError, match=f"{kind.__name__}: no token here") as caught:
            await arity.finish(arity.begin(EchoStub(channel)))
        assert caught.value.__cause__ is error
        assert cache.status().last_error is not None
        assert echo_server.calls == []


async def test_a_call_whose_source_raises_generator_exit_ends(arity: Any, echo_server: EchoServer) -> None:
    """Python's own use of it is to end a coroutine whose loop is gone: the refresh has no outcome."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    async with (
        TokenCache(RaisingSource(GeneratorExit())) as cache,
        AuthorizedChannel(inner, cache) as channel,
    ):
        stub = EchoStub(channel)
        with pytest.raises(TokenUnavailableError):
            await arity.finish(arity.begin(stub))
        assert await arity.finish(arity.begin(stub)) == arity.responses


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
async def test_an_exit_in_a_credentials_refresh_ends_that_refresh_alone(
    echo_server: EchoServer, kind: type[BaseException], mapped: bool
) -> None:
    """The worker thread is not the application. A mapping fetches in tasks of its own."""
    credentials: Any = RaisingCredentials(kind())
    async with connect(
        echo_server.target,
        EchoStub,
        credentials={"authorization": credentials, "x-other": token_source(other)} if mapped else credentials,
        ssl_credentials=echo_server.ssl_credentials,
    ) as stub:
        with pytest.raises(AuthRpcError):
            await stub.UnaryUnary(b"x")
        assert credentials.error is None


async def other() -> str:
    return "other"


async def exiting() -> str:
    sys.exit(3)


async def test_an_exit_in_a_source_of_a_mapping_fails_the_refresh_alone(echo_server: EchoServer) -> None:
    """Each of a mapping's sources is asked in a task of its own."""
    async with connect(
        echo_server.target,
        EchoStub,
        credentials={"authorization": token_source(exiting), "x-other": token_source(other)},
        ssl_credentials=echo_server.ssl_credentials,
    ) as stub:
        with pytest.raises(TokenRefusedError, match=r"sys\.exit\(\)"):
            await stub.UnaryUnary(b"x")


def test_an_interrupt_on_the_loop_ends_the_program() -> None:
    """It is the user's at the terminal, and no failure of the source."""

    async def ask() -> None:
        async with TokenCache(RaisingSource(KeyboardInterrupt())) as cache:
            await asyncio.gather(*(cache.get() for _ in range(3)))

    with asyncio.Runner() as runner, pytest.raises(KeyboardInterrupt):
        runner.run(ask())


class PanickingToken(Token):
    """A user's own kind of token, broken."""

    def as_metadata(self, header: str) -> tuple[tuple[str, str], ...]:
        raise Panic("in the token")


async def test_a_waiting_call_ends_with_what_its_own_task_raises(arity: Any, echo_server: EchoServer) -> None:
    """Whatever that is; all who ask are told."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    source = ScriptedTokens(PanickingToken("abc"))
    async with TokenCache(source) as cache, AuthorizedChannel(inner, cache) as channel:
        call, seen = arity.begin(EchoStub(channel)), []
        call.add_done_callback(seen.append)
        with pytest.raises(Panic, match="in the token"):
            await arity.finish(call)
        assert await call.code() is grpc.StatusCode.INTERNAL
        assert "Panic" in await call.details()
        assert (call.done(), seen) == (True, [call])


async def test_a_callback_that_fails_its_test_keeps_nobody_from_their_end(
    stub: EchoStub, cache: TokenCache
) -> None:
    """`pytest.fail` raises what is no `Exception`: the loop's handler is told, as of any error."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))

    def fail(_: object) -> None:
        pytest.fail("the test's own word")

    def fail_on_event(_: TokenEvent) -> None:
        pytest.fail("the test's own word")

    cache.subscribe(fail_on_event)
    call, seen = stub.UnaryUnary(b"x"), []
    call.add_done_callback(fail)
    call.add_done_callback(seen.append)
    assert await call == b"x"
    assert seen == [call]
    assert {type(error) for error in told} == {pytest.fail.Exception}
