"""What a fleet of processes with one shared token store asks for, and what a store that fails costs them.

    python benchmarks/shared_store.py [--processes 8] [--callers 1000] [--rounds 20] [--json]

The processes call a real Bookstore, whose tokens a real authority issues, and share a real Redis or Valkey
(`apt-get install redis-server`, `pip install redis`). Each phase begins with processes that have no token.

    cold        all callers of all processes call at once: the token requests of all processes
    killed      the same, while the authority holds the requests; the store is killed before it answers
    hanging     the time that a fetch is delayed by a store whose process is stopped (SIGSTOP); this process
                has nothing else to do, and each round a store object of its own
    left alone  the time of the next fetch, for which the store is not asked
    asleep      asyncio.sleep() for as long as the store is waited for: how late this machine is by itself

The exit code is 1 if a promise is broken: 1 token request when cold, no failed call, a delay below 50 ms. The
delay is for an idle machine to judge.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import redis.asyncio
from figures import Spread, print_json, print_note, print_table
from server_process import OrderedProcess

from aio_authgrpc import AiohttpRequest, TokenRequest
from aio_authgrpc.redis import SharedTokenStore
from aio_authgrpc.redis.store import LEASE, TIMEOUT
from aio_authgrpc.testing import Authority, BookstoreServer, RedisServer, ScriptedTokens

# Seconds. For eight processes that start, and call, on a busy machine.
_ANSWERS_WITHIN = 240.0
# Seconds.
_PROMISED_DELAY = 0.05
# Seconds for which the authority holds the requests of the second phase, and after which the store is killed.
_HELD, _KILLED_AFTER = 1.0, 0.5
_EMAIL = "fleet@project.iam.gserviceaccount.com"


class Fleet:
    """The processes, and the authority that counts their token requests.

    Args:
        members: The processes.
        authority: Issues their tokens.
        callers: How many call at once in each.
    """

    def __init__(self, members: Sequence[OrderedProcess], authority: Authority, callers: int) -> None:
        self._members = members
        self._authority = authority
        self._callers = callers

    async def call_cold(self, port: int, identity: str) -> dict[str, float]:
        """Open a connection in each process, call with all callers, and count."""
        await asyncio.gather(*(member.order("open", port, identity) for member in self._members))
        before = self._authority.token_requests
        outcomes = await asyncio.gather(*(member.order("call", self._callers) for member in self._members))
        return {
            "calls": self._callers * len(self._members),
            "failed": sum(outcome["failed"] for outcome in outcomes),
            "token_requests": self._authority.token_requests - before,
            "seconds": max(outcome["seconds"] for outcome in outcomes),
        }


async def _killed(fleet: Fleet, authority: Authority) -> dict[str, float]:
    """Kill the store while one process asks and the others wait for its token."""
    async with RedisServer() as doomed:
        authority.delay(_HELD)

        async def kill() -> None:
            await asyncio.sleep(_KILLED_AFTER)
            await doomed.kill()

        figures, _ = await asyncio.gather(fleet.call_cold(doomed.port, "killed"), kill())
        authority.behave()
        return figures


async def _hanging(rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds of fetches from a store that hangs, of those right after them, and of sleeps."""
    first, second, asleep = [], [], []
    async with RedisServer() as server, AiohttpRequest() as http:
        for _ in range(rounds):
            client = redis.asyncio.Redis(port=server.port)
            await client.ping()  # a connection that worked: the worst case, for it is not refused
            source = SharedTokenStore(client, keys=[secrets.token_bytes(32)]).share(
                ScriptedTokens(), identity="hanging"
            )
            request = TokenRequest(http=http, audience="https://localhost", time=time.time())
            server.freeze()
            for seconds in (first, second):
                started = time.perf_counter()
                await source.fetch(request)
                seconds.append(time.perf_counter() - started)
            server.thaw()
            await client.aclose()
            started = time.perf_counter()
            await asyncio.sleep(TIMEOUT)
            asleep.append(time.perf_counter() - started)
    return first, second, asleep


async def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Run the phases."""
    async with AsyncExitStack() as stack:
        authority = await stack.enter_async_context(Authority())
        bookstore = await stack.enter_async_context(BookstoreServer(authority, accept=[_EMAIL]))
        store = await stack.enter_async_context(RedisServer())
        told = {
            "target": bookstore.target,
            "ca_pem": bookstore.ca_pem.decode(),
            "key_file": json.dumps(await authority.service_account_info(_EMAIL)),
            "key": secrets.token_hex(32),
            "timeout": arguments.timeout,
            "lease": arguments.lease,
        }
        members = [
            await stack.enter_async_context(
                OrderedProcess("shared_store_member.py", json.dumps(told), answers_within=_ANSWERS_WITHIN)
            )
            for _ in range(arguments.processes)
        ]
        fleet = Fleet(members, authority, arguments.callers)
        cold = await fleet.call_cold(store.port, "cold")
        killed = await _killed(fleet, authority)
        await asyncio.gather(*(member.order("close") for member in members))
    hanging, left_alone, asleep = await _hanging(arguments.rounds)
    broken = [
        text
        for text, holds in {
            "one token request": cold["token_requests"] == 1,
            "no failed call": cold["failed"] == killed["failed"] == 0,
            "a delay below 50 ms": max(hanging) < _PROMISED_DELAY,
        }.items()
        if not holds
    ]
    return {
        "cold": cold,
        "killed": killed,
        "hanging_ms": Spread.of([1000 * seconds for seconds in hanging]),
        "left_alone_ms": Spread.of([1000 * seconds for seconds in left_alone]),
        "asleep_ms": Spread.of([1000 * seconds for seconds in asleep]),
        "broken": broken,
    }


def main(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    logging.disable(logging.WARNING)  # each store says that it fails
    figures = asyncio.run(measure(arguments))
    if arguments.json:
        print_json(figures)
    else:
        rows = []
        for name in ("cold", "killed"):
            phase = figures[name]
            assert isinstance(phase, dict)
            rows.append([name, *(f"{phase[key]:.3g}" for key in ("calls", "failed", "token_requests"))])
        title = f"{arguments.processes} processes, {arguments.callers} callers each, {os.cpu_count()} cores"
        print_table(title, ["phase", "calls", "failed", "token requests"], rows)
        delays = []
        for name in ("hanging_ms", "left_alone_ms", "asleep_ms"):
            spread = figures[name]
            assert isinstance(spread, Spread)
            delays.append([name.removesuffix("_ms"), f"{spread.median:.2f}", f"{spread.maximum:.2f}"])
        print_table("A fetch, in milliseconds", ["store", "median", "longest"], delays)
        print_note(f"broken promises: {', '.join(figures['broken']) or 'none'}")  # type: ignore[arg-type]  # a list of names
    return int(bool(figures["broken"]))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--callers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="of the fleet's stores")
    parser.add_argument("--lease", type=float, default=LEASE, help="of the fleet's stores")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(parse()))
