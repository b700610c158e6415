"""Mistakes in what is passed; most of them show where it is passed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from aio_authgrpc import AuthorizedChannel, api_key, connect, static_token, token_source
from aio_authgrpc.testing import EchoStub
from aio_authgrpc.tokens import TokenCache

from .mistake import Mistake, Stage

TOKEN = static_token("abc")


def passed(**arguments: Any) -> Callable[[Stage], object]:
    """Return what passes these arguments to `connect`."""
    given = {"credentials": TOKEN, **arguments}
    return lambda _: connect("localhost:1", EchoStub, **given)


def called(use: Callable[[EchoStub], Awaitable[object]]) -> Callable[[Stage], Awaitable[None]]:
    """Return what makes a call of a server that no call reaches."""

    async def call(_: Stage) -> None:
        async with connect("localhost:1", EchoStub, credentials=TOKEN) as stub:
            await use(stub)

    return call


class Bookstore:
    """What grpc generates beside the stub: functions that make one synchronous call each."""

    @staticmethod
    def ListShelves(request: object, target: str) -> None:
        pass


def plain() -> str:
    return "abc"


async def of_audience(audience: str) -> str:
    return audience


async def listen(event: object) -> None:
    pass


async def over_synchronous_channel(_: Stage) -> None:
    channel: Any = grpc.insecure_channel("localhost:1")
    async with TokenCache(TOKEN) as cache:
        AuthorizedChannel(channel, cache)


async def over_source(_: Stage) -> None:
    source: Any = TOKEN
    async with grpc.aio.insecure_channel("localhost:1") as channel:
        AuthorizedChannel(channel, source)


async def future(stub: Any) -> None:
    stub.UnaryUnary.future(b"x")


KEY_FILE = {"type": "service_account", "client_email": "me@project", "private_key": "PEM"}

ARGUMENTS = [
    Mistake(
        name="a URL for a target",
        make=lambda _: connect("https://bookstore.example.com", EchoStub, credentials=TOKEN),
        cause="gRPC targets have no https:// scheme",
        next_step=r"Write 'bookstore\.example\.com'",
    ),
    Mistake(
        name="a token as credentials",
        make=passed(credentials="abc"),
        cause="expected a google-auth credential or a TokenSource, not str",
        next_step=r"static_token\(\.\.\.\) for a token",
    ),
    Mistake(
        name="a key file's content as credentials",
        make=passed(credentials=KEY_FILE),
        cause="not a dict with the content of a credential file",
        next_step=r"service_account\(\.\.\.\)",
    ),
    Mistake(
        name="a class of synchronous functions as a stub",
        make=lambda _: connect("localhost:1", Bookstore, credentials=TOKEN),  # type: ignore[arg-type]  # the mistake
        cause="Bookstore is not a stub: it .* channel",
        next_step=r"the generated \.\.\.Stub class",
    ),
    Mistake(
        name="an empty API key",
        make=lambda _: api_key(""),
        cause="the key is empty",
        next_step="Check where it is read from",
    ),
    Mistake(
        name="two tokens for one header",
        make=passed(metadata={"authorization": "Bearer mine"}),
        cause="the token itself goes to 'authorization'",
        next_step="Leave one of the two out",
    ),
    Mistake(
        name="a metadata key in upper case",
        make=called(lambda stub: stub.UnaryUnary(b"x", metadata=(("X-Team", "blue"),))),
        cause="'X-Team' is not in lower case",
        next_step="Write 'x-team'",
    ),
    Mistake(
        name="negative seconds",
        make=passed(ready_timeout=-5),
        cause="ready_timeout: -5 is not a positive number of seconds",
        next_step="None means not to wait",
    ),
    Mistake(
        name="timeout=0",
        make=called(lambda stub: stub.UnaryUnary(b"x", timeout=0)),
        cause="time was over",
        next_step="timeout= is in seconds from now; None",
    ),
    Mistake(
        name="a plain function for tokens",
        make=lambda _: token_source(plain),  # type: ignore[arg-type]  # the mistake
        cause="plain is not a coroutine function",
        next_step="Write 'async def'",
    ),
    Mistake(
        name="a function for tokens that takes arguments",
        make=lambda _: token_source(of_audience),  # type: ignore[arg-type]  # the mistake
        cause="of_audience is called without arguments: missing .*'audience'",
        next_step=r"functools\.partial",
    ),
    Mistake(
        name="a coroutine function as listener",
        make=passed(on_event=listen),
        cause="on_event: expected a plain function, not a coroutine function",
        next_step="Write 'def'",
    ),
    Mistake(
        name="a synchronous channel",
        make=over_synchronous_channel,
        cause=r"expected a grpc\.aio\.Channel, not a synchronous channel",
        next_step=r"grpc\.aio\.secure_channel",
    ),
    Mistake(
        name="a source in place of a token cache",
        make=over_source,
        cause="expected a TokenCache, not FixedTokenSource",
        next_step=r"TokenCache\(source\)",
    ),
    Mistake(
        name="a method of synchronous stubs",
        make=called(future),
        cause="future: only the methods of synchronous stubs have it",
        next_step="then 'await call'",
    ),
]
