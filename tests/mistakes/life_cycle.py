"""Mistakes in when, and where, a connection is opened, used and closed."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from typing import Any

import grpc.aio

from aio_authgrpc import AuthorizedChannel, Connection, connect, secure_authorized_channel, static_token
from aio_authgrpc.testing import EchoStub
from aio_authgrpc.tokens import TokenCache

from .mistake import Mistake, Stage

TOKEN = static_token("abc")

FORKED = """
import asyncio, os
from aio_authgrpc import connect, static_token
from aio_authgrpc.testing import EchoStub

async def use(connection, stub):
    try:
        await stub.UnaryUnary(b"x", timeout=60)
    except Exception as error:
        print(error, flush=True)

loop, connection = asyncio.new_event_loop(), connect("localhost:1", EchoStub, credentials=static_token("abc"))
stub = loop.run_until_complete(connection.__aenter__())
if not (child := os.fork()):
    loop.run_until_complete(use(connection, stub))
    os._exit(0)
os.waitpid(child, 0)
loop.run_until_complete(connection.__aexit__(None, None, None))
"""


def connection() -> Connection[EchoStub]:
    return connect("localhost:1", EchoStub, credentials=TOKEN)


def not_awaited(_: Stage) -> None:
    channel: Any = secure_authorized_channel(TOKEN, None, "localhost:1")
    EchoStub(channel)


async def awaited(_: Stage) -> None:
    opening: Any = connection()
    await opening


def used_as_stub(_: Stage) -> None:
    stub: Any = connection()
    stub.UnaryUnary(b"x")


def without_async(_: Stage) -> None:
    opening: Any = connection()
    with opening:
        pass


async def used_after_close(_: Stage) -> None:
    async with connection() as stub:
        pass
    await stub.UnaryUnary(b"x")


async def in_another_loop(_: Stage) -> None:
    async def use(stub: EchoStub) -> None:
        await stub.UnaryUnary(b"x")

    async with connection() as stub:
        await asyncio.to_thread(lambda: asyncio.run(use(stub)))


async def opened_twice(_: Stage) -> None:
    shared = connection()
    async with shared, shared:
        pass


async def forked(_: Stage) -> None:
    command = [sys.executable, "-c", FORKED]
    ended = await asyncio.to_thread(subprocess.run, command, stdout=subprocess.PIPE, text=True, check=True)
    raise RuntimeError(ended.stdout)


async def never_closed(_: Stage) -> None:
    async with grpc.aio.insecure_channel("localhost:1") as inner, TokenCache(TOKEN) as cache:
        forgotten = [AuthorizedChannel(inner, cache)]
        forgotten.clear()
        gc.collect()


LIFE_CYCLE = [
    Mistake(
        name="an await that was forgotten",
        make=not_awaited,
        cause="The channel is not open yet",
        next_step=r"write 'channel = await secure_authorized_channel\(\.\.\.\)'",
    ),
    Mistake(
        name="await connect(...)",
        make=awaited,
        cause="A connection is not awaited",
        next_step=r"write 'async with connect\(\.\.\.\) as stub'",
    ),
    Mistake(
        name="connect(...).UnaryUnary",
        make=used_as_stub,
        cause="A connection has no 'UnaryUnary'",
        next_step=r"write 'async with connect\(\.\.\.\) as stub'.* use 'stub\.UnaryUnary'",
    ),
    Mistake(
        name="with connect(...)",
        make=without_async,
        cause="A connection is opened on the event loop",
        next_step="write 'async with' instead of 'with'",
    ),
    Mistake(
        name="a stub that is used after the close",
        make=used_after_close,
        cause="The channel was closed",
        next_step="inside its 'async with' block",
    ),
    Mistake(
        name="a stub that is used in another loop",
        make=in_another_loop,
        cause="The channel belongs to another event loop",
        next_step="Open a channel on each event loop",
    ),
    Mistake(
        name="a connection that is opened twice",
        make=opened_twice,
        cause="it is open already",
        next_step=r"Share its stub, or call connect\(\) again",
    ),
    Mistake(
        name="a stub that is used after a fork",
        make=forked,
        cause="The channel was opened before this process was forked",
        next_step="open a new channel in the child",
    ),
    Mistake(
        name="a channel that is never closed",
        make=never_closed,
        cause="An AuthorizedChannel was never closed",
        next_step=r"await its close\(\)",
    ),
]
