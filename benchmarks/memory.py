"""What channels that share a credential, and caches of many audiences, cost in memory.

    python benchmarks/memory.py [--channels 1 100 500 2000] [--audiences 10000] [--json]

For each number of channels, and for plain ones beside ours, a fresh interpreter connects one channel, looks
at its resident memory, connects as many more to a server in another process, makes a call on each, and looks
again: kB per channel. Ours share one credential, whose tokens are counted: one for all channels, and, when
the clock is moved into the stale window and every channel calls, one more. Another interpreter opens a token
cache for each of 10 000 audiences and fetches a token of 700 characters for each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from contenders import METADATA
from figures import print_json, print_table
from server_process import EchoStub, ServerProcess
from soak import memory

import aio_authgrpc
from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import shared_cache

_PAYLOAD = b"x" * 32
_LIFETIME = 3600.0
# Within the last 225 s of a token, in which it is replaced, and before the last 30 s.
_UNTIL_STALE = _LIFETIME - 100
_AT_A_TIME = 50


class CountingSource:
    """Returns a new token each time, and counts them."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.tokens = 0

    async def fetch(self, request: aio_authgrpc.TokenRequest) -> aio_authgrpc.Token:
        """Return a token that lives for an hour."""
        del request
        self.tokens += 1
        await asyncio.sleep(0)
        return aio_authgrpc.Token(secrets.token_urlsafe(525), expires_at=self._clock.time() + _LIFETIME)


async def _call_each(stubs: Sequence[EchoStub], metadata: Any = None) -> None:
    for start in range(0, len(stubs), _AT_A_TIME):
        part = stubs[start : start + _AT_A_TIME]
        await asyncio.gather(*(stub.echo(_PAYLOAD, metadata=metadata) for stub in part))


async def _plain(target: str, ca_pem: str, count: int) -> dict[str, float]:
    trusted = grpc.ssl_channel_credentials(ca_pem.encode())
    async with AsyncExitStack() as stack:

        async def open_one() -> EchoStub:
            return EchoStub(await stack.enter_async_context(grpc.aio.secure_channel(target, trusted)))

        await _call_each([await open_one()], METADATA)
        before = memory()
        await _call_each([await open_one() for _ in range(count)], METADATA)
        return {"kb": 1000 * (memory() - before) / count}


async def _ours(target: str, ca_pem: str, count: int) -> dict[str, float]:
    trusted = grpc.ssl_channel_credentials(ca_pem.encode())
    clock = FakeClock()
    source = CountingSource(clock)
    async with AsyncExitStack() as stack:

        async def open_one() -> EchoStub:
            connection = aio_authgrpc.connect(
                target, EchoStub, credentials=source, ssl_credentials=trusted, clock=clock
            )
            return await stack.enter_async_context(connection)

        stubs = [await open_one()]
        await _call_each(stubs)
        before = memory()
        stubs += [await open_one() for _ in range(count)]
        await _call_each(stubs[1:])
        kb, tokens = 1000 * (memory() - before) / count, source.tokens
        clock.advance(_UNTIL_STALE)
        await _call_each(stubs)
        return {"kb": kb, "tokens": tokens, "tokens_a_rotation": source.tokens - tokens}


async def _audiences(count: int) -> dict[str, float]:
    clock = FakeClock()
    source = CountingSource(clock)
    async with AsyncExitStack() as stack:
        request = await stack.enter_async_context(aio_authgrpc.AiohttpRequest())

        async def fetch_one(audience: str) -> None:
            opening = shared_cache(source, audience=audience, request=request, clock=clock)
            await (await stack.enter_async_context(opening)).get()

        await fetch_one("https://warm-up.example.com")
        before = memory()
        for number in range(count):
            await fetch_one(f"https://service-{number}.example.com")
        return {"kb": 1000 * (memory() - before) / count, "tokens": source.tokens - 1}


PARTS: dict[str, Callable[..., Coroutine[None, None, dict[str, float]]]] = {
    "plain": _plain,
    "aio_authgrpc": _ours,
    "audiences": _audiences,
}


async def _in_an_interpreter(part: str, *arguments: object) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__)),
        *("--part", json.dumps([part, *arguments])),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    if process.returncode:
        raise RuntimeError(f"the interpreter for {part} ended with {process.returncode}")
    figures: dict[str, float] = json.loads(output)
    return figures


async def run(channels: Sequence[int], audiences: int) -> dict[str, Any]:
    """Return the figures for each number of channels, and for the audiences."""
    found: dict[str, dict[int, dict[str, float]]] = {"plain": {}, "aio_authgrpc": {}}
    async with ServerProcess() as server:
        for count in channels:
            for part, figures in found.items():
                arguments = (server.target, server.ca_pem.decode(), count)
                figures[count] = await _in_an_interpreter(part, *arguments)
    return {
        "channels": found,
        "audiences": {"count": audiences, **await _in_an_interpreter("audiences", audiences)},
    }


def _show(found: dict[str, Any]) -> None:
    plain, ours = found["channels"]["plain"], found["channels"]["aio_authgrpc"]
    rows = [
        (
            f"{count} channels",
            f"{plain[count]['kb']:.1f}",
            f"{own['kb']:.1f}",
            f"{own['tokens']:.0f}",
            f"{own['tokens_a_rotation']:.0f}",
        )
        for count, own in ours.items()
    ]
    columns = ("kB each", "plain", "aio_authgrpc", "tokens", "tokens a rotation")
    print_table("Channels that share a credential", columns, rows)
    audiences = found["audiences"]
    print_table(
        "Audiences of one source",
        ("audiences", "kB each", "tokens"),
        [(f"{audiences['count']}", f"{audiences['kb']:.1f}", f"{audiences['tokens']:.0f}")],
    )


def main() -> None:
    """Measure and print, or be one of the interpreters."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--channels", type=int, nargs="+", default=[1, 100, 500, 2000])
    parser.add_argument("--audiences", type=int, default=10_000)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    arguments = parser.parse_args()
    if arguments.part:
        part, *of_part = json.loads(arguments.part)
        sys.stdout.write(json.dumps(asyncio.run(PARTS[part](*of_part))))
        return
    found = asyncio.run(run(arguments.channels, arguments.audiences))
    if arguments.json:
        print_json(found)
    else:
        _show(found)


if __name__ == "__main__":
    main()
