"""What a warm token costs: CPU and wall time per RPC, with TLS on loopback, against a plain channel.

    python benchmarks/overhead.py [--rounds 25] [--rpcs 1000] [--modes sequential concurrent ...] [--json]

The server is in another process, so that the CPU time is the client's alone, all of its threads included.
These send the same token:

    plain         a grpc.aio channel; the metadata is passed by hand at each call. It is the measure, 1.
    plain again   another such channel: what it differs from 1 by is noise
    aio_authgrpc  `secure_authorized_channel`
    telemetry     the same with `connect(telemetry=OpenTelemetry())`, the SDK's spans and metrics in memory
    interceptor   a grpc.aio channel with interceptors that add the metadata, one class for each arity
    google-auth   `google.auth.transport.grpc.AuthMetadataPlugin`, as call credentials of a grpc.aio channel

All keep their channel open throughout. In every round each has its turns, in shuffled order, and each turn
is compared with the plain channel's beside it; the ratio printed is the median, with its quartiles. The
modes, with what is done in a turn and how many turns a round has:

    sequential     50 × 3    unary RPCs, one after the other
    concurrent     1000 × 1  unary RPCs, all at once
    stream         500 × 2   messages of one unary-stream RPC
    stream-stream  500 × 2   messages of one stream-stream RPC, its requests from an async iterator
    short-streams  50 × 3    unary-stream RPCs of one message, one after the other

A round takes 4 s. Whatever else the machine does makes 10 % and more in a single turn, so that fewer rounds
say little; and only what stands out from `plain again` is worth a word.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import secrets
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import google.auth.transport.grpc
import google.auth.transport.requests
import google.oauth2.credentials
import grpc
import grpc.aio
from figures import Spread, print_json, print_note, print_table
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from server_process import EchoStub, ServerProcess

import aio_authgrpc
from aio_authgrpc.otel import OpenTelemetry

# As long as Google's access tokens for service accounts are.
TOKEN = "ya29.c." + secrets.token_urlsafe(670)
METADATA = (("authorization", f"Bearer {TOKEN}"),)
PAYLOAD = b"x" * 32


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of sending the token: its name and how its RPCs are called, with the request alone."""

    name: str
    echo: Callable[[bytes], Awaitable[bytes]]
    count: Callable[[bytes], AsyncIterable[bytes]]
    echo_all: Callable[[AsyncIterator[bytes]], AsyncIterable[bytes]]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one RPC, or message, cost, in seconds."""

    cpu: float
    wall: float


# The contenders


class _AddToUnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details._replace(metadata=METADATA), request)


class _AddToUnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details._replace(metadata=METADATA), request)


class _AddToStreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await continuation(client_call_details._replace(metadata=METADATA), request_iterator)


async def _plain(stack: AsyncExitStack, server: ServerProcess) -> Contender:
    return await _by_hand("plain", stack, server)


async def _plain_again(stack: AsyncExitStack, server: ServerProcess) -> Contender:
    return await _by_hand("plain again", stack, server)


async def _by_hand(name: str, stack: AsyncExitStack, server: ServerProcess) -> Contender:
    channel = grpc.aio.secure_channel(server.target, server.ssl_credentials)
    stub = EchoStub(await stack.enter_async_context(channel))
    echo, count, echo_all = (
        partial(method, metadata=METADATA) for method in (stub.echo, stub.count, stub.echo_all)
    )
    return Contender(name, echo, count, echo_all)  # type: ignore[arg-type]  # partial forgets what it returns


async def _aio_authgrpc(stack: AsyncExitStack, server: ServerProcess) -> Contender:
    token = aio_authgrpc.Token(TOKEN, expires_at=time.time() + 3600)
    opening = aio_authgrpc.secure_authorized_channel(
        aio_authgrpc.static_token(token), None, server.target, server.ssl_credentials
    )
    return _contender("aio_authgrpc", await stack.enter_async_context(opening))


async def _telemetry(stack: AsyncExitStack, server: ServerProcess) -> Contender:
    telemetry = OpenTelemetry(TracerProvider(), MeterProvider([InMemoryMetricReader()]))
    connection = aio_authgrpc.connect(
        server.target,
        credentials=aio_authgrpc.static_token(TOKEN),
        ssl_credentials=server.ssl_credentials,
        telemetry=telemetry,
    )
    return _contender("telemetry", await stack.enter_async_context(connection))


async def _interceptor(stack: AsyncExitStack, server: ServerProcess) -> Contender:
    channel = grpc.aio.secure_channel(
        server.target,
        server.ssl_credentials,
        interceptors=(_AddToUnaryUnary(), _AddToUnaryStream(), _AddToStreamStream()),
    )
    return _contender("interceptor", await stack.enter_async_context(channel))


async def _google_auth(stack: AsyncExitStack, server: ServerProcess) -> Contender:
    plugin = google.auth.transport.grpc.AuthMetadataPlugin(
        google.oauth2.credentials.Credentials(token=TOKEN), google.auth.transport.requests.Request()
    )
    credentials = grpc.composite_channel_credentials(
        server.ssl_credentials, grpc.metadata_call_credentials(plugin)
    )
    channel = grpc.aio.secure_channel(server.target, credentials)
    return _contender("google-auth", await stack.enter_async_context(channel))


def _contender(name: str, channel: grpc.aio.Channel) -> Contender:
    stub = EchoStub(channel)
    return Contender(name, stub.echo, stub.count, stub.echo_all)


# The modes


async def _sequential(contender: Contender, rpcs: int) -> None:
    for _ in range(rpcs):
        await contender.echo(PAYLOAD)


async def _concurrent(contender: Contender, rpcs: int) -> None:
    async def call() -> None:
        await contender.echo(PAYLOAD)

    await asyncio.gather(*(call() for _ in range(rpcs)))


async def _stream(contender: Contender, messages: int) -> None:
    await _receive(contender.count(b"%d" % messages), messages)


async def _stream_stream(contender: Contender, messages: int) -> None:
    async def requests() -> AsyncIterator[bytes]:
        for _ in range(messages):
            yield PAYLOAD

    await _receive(contender.echo_all(requests()), messages)


async def _short_streams(contender: Contender, rpcs: int) -> None:
    for _ in range(rpcs):
        await _receive(contender.count(b"1"), 1)


async def _receive(responses: AsyncIterable[bytes], expected: int) -> None:
    received = 0
    async for _ in responses:
        received += 1
    if received != expected:
        raise RuntimeError(f"{received} messages came, not {expected}")


@dataclass(frozen=True, slots=True)
class Mode:
    """What a contender does in its turn, how much of it, how often in a round, and what it counts in."""

    run: Callable[[Contender, int], Awaitable[None]]
    share: float
    turns: int
    unit: str


MODES = {
    "sequential": Mode(_sequential, 0.05, 3, "RPC"),
    "concurrent": Mode(_concurrent, 1.0, 1, "RPC"),
    "stream": Mode(_stream, 0.5, 2, "message"),
    "stream-stream": Mode(_stream_stream, 0.5, 2, "message"),
    "short-streams": Mode(_short_streams, 0.05, 3, "RPC"),
}


# The measurement

Costs = dict[str, list[Cost]]
"""What each contender cost, turn by turn."""


async def _measure(mode: Mode, contender: Contender, count: int) -> Cost:
    # What the turn before left behind (threads that end, channels that read) is not this one's.
    await asyncio.sleep(0.01)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    await mode.run(contender, count)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(cpu / count, wall / count)


async def _run_round(contenders: Sequence[Contender], mode: Mode, rpcs: int, costs: Costs) -> None:
    count = max(1, round(rpcs * mode.share))
    for _ in range(mode.turns):
        for contender in random.sample(contenders, len(contenders)):
            costs.setdefault(contender.name, []).append(await _measure(mode, contender, count))


async def run(modes: Iterable[str], rounds: int, rpcs: int) -> dict[str, Costs]:
    """Measure every contender in every mode.

    Args:
        modes: Some of `MODES`.
        rounds: How often each has its turn.
        rpcs: RPCs, or messages, a turn, of which a mode takes its share.
    """
    results: dict[str, Costs] = {mode: {} for mode in modes}
    async with ServerProcess() as server, AsyncExitStack() as stack:
        openers = (_plain, _plain_again, _aio_authgrpc, _telemetry, _interceptor, _google_auth)
        contenders = [await opener(stack, server) for opener in openers]
        for mode in results:
            await _run_round(contenders, MODES[mode], rpcs // 10, {})  # connects, warms up, is not counted
        for _ in range(rounds):
            for mode, costs in results.items():
                await _run_round(contenders, MODES[mode], rpcs, costs)
    return results


def summary(costs: Costs) -> dict[str, dict[str, Spread]]:
    """Return, for each contender, its ratios to the plain one and its costs in microseconds."""
    plain = costs["plain"]
    return {
        name: {
            "cpu_ratio": Spread.of([own.cpu / one.cpu for own, one in zip(turns, plain, strict=True)]),
            "wall_ratio": Spread.of([own.wall / one.wall for own, one in zip(turns, plain, strict=True)]),
            "cpu_us": Spread.of([own.cpu * 1e6 for own in turns]),
            "wall_us": Spread.of([own.wall * 1e6 for own in turns]),
        }
        for name, turns in costs.items()
    }


def _show(mode: str, figures: dict[str, dict[str, Spread]]) -> None:
    columns = (mode, "CPU ratio", "quartiles", "wall ratio", "quartiles", "CPU µs", "wall µs")
    rows = []
    for name, own in sorted(figures.items(), key=lambda item: item[1]["cpu_ratio"].median):
        ratios = [text for key in ("cpu_ratio", "wall_ratio") for text in own[key].with_quartiles()]
        rows.append((name, *ratios, *(f"{own[key].median:.1f}" for key in ("cpu_us", "wall_us"))))
    print_table(f"{mode}, per {MODES[mode].unit}", columns, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument(
        "--rpcs",
        type=int,
        default=1000,
        help="RPCs, all at once; see above for the others' share",
    )
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    results = asyncio.run(run(arguments.modes, arguments.rounds, arguments.rpcs))
    figures = {mode: summary(costs) for mode, costs in results.items()}
    if arguments.json:
        print_json({"rounds": arguments.rounds, "rpcs": arguments.rpcs, "modes": figures})
        return
    for mode, of_mode in figures.items():
        _show(mode, of_mode)
    print_note(
        f"{arguments.rounds} rounds of {arguments.rpcs}; ratios are medians of a round's ratio to plain."
    )


if __name__ == "__main__":
    main()
