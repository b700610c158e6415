"""What the package's own code costs a warm unary call, with the channel's token and inside of `identity()`.

    python benchmarks/own_cost.py [--rounds 25] [--calls 5000] [--json]

The real call is left out: its place is taken by an object that does nothing, so what is measured is what this
package adds to it in the caller's own time. The three cases take turns in shuffled order; the figures are
medians of the process's CPU time for one call. The promise is 3 µs inside of
`identity()`, the `with` included.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import grpc.aio
from figures import Spread, print_json, print_note, print_table

from aio_authgrpc import AuthorizedChannel, identity, static_token
from aio_authgrpc._channels.layer import ChannelLayer
from aio_authgrpc.tokens import TokenCache

PROMISE_US = 3.0


class NoCall:
    """What stands in for grpc.aio's call, and for the multi-callable that starts it, without interceptors."""

    _interceptors = ()

    def __call__(self, *_: object, **__: object) -> NoCall:
        """Start nothing."""
        return self

    def add_done_callback(self, _: object) -> None:
        """Forget it."""

    def cancelled(self) -> bool:
        """Return False."""
        return False

    done = cancelled

    async def wait_for_connection(self) -> None:
        """Wait for nothing."""


class NoChannel(ChannelLayer):
    """A channel whose calls do nothing."""

    def _multi_callable(self, arity: str, path: str, make: object) -> Any:
        del arity, path, make
        return NoCall()


async def measure(rounds: int, calls: int) -> dict[str, Spread]:
    """Return the microseconds of one call in each of the cases."""
    below = NoChannel(grpc.aio.insecure_channel("127.0.0.1:1"))
    cases: dict[str, AbstractContextManager[object]] = {
        "the channel's token": nullcontext(),
        "identity()": identity(static_token("alice")),
        "identity(header=...)": identity(static_token("bob"), header="x-other"),
    }
    figures: dict[str, list[float]] = defaultdict(list)
    async with TokenCache(static_token("own")) as cache, AuthorizedChannel(below, cache) as channel:
        await cache.get()
        method: Any = channel.unary_unary("/package.Service/Method")
        method.watched = NoCall()  # as gRPC's own multi-callable is
        for context in cases.values():
            with context:
                call = method(b"")
                await call.wait_for_connection()  # its token is at hand from now on
        for _ in range(rounds):
            for name in random.sample(list(cases), len(cases)):
                figures[name].append(_one_case(method, cases[name], calls) * 1e6)
    return {name: Spread.of(figures[name]) for name in cases}


def _one_case(method: Any, context: AbstractContextManager[object], calls: int) -> float:
    start = time.process_time()
    if isinstance(context, nullcontext):
        for _ in range(calls):
            method(b"")
    else:
        for _ in range(calls):
            with context:
                method(b"")
    return (time.process_time() - start) / calls


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.rounds, arguments.calls))
    if arguments.json:
        print_json({"us": figures})
        return
    rows = [(name, *spread.with_quartiles(2), f"{spread.minimum:.2f}") for name, spread in figures.items()]
    print_table(
        f"{arguments.rounds} rounds of {arguments.calls} calls",
        ["µs", "median", "quartiles", "minimum"],
        rows,
    )
    kept = figures["identity()"].median <= PROMISE_US
    print_note(
        f"Promised: a median of {PROMISE_US:g} µs inside of identity(). {'Kept' if kept else 'BROKEN'}."
    )


if __name__ == "__main__":
    main()
