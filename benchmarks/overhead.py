"""What a warm token costs: CPU and wall time per RPC, on loopback, against a plain channel.

    python benchmarks/overhead.py [--rounds 24] [--rpcs 1000] [--modes sequential concurrent ...] [--wide 500]
        [--contenders aio_authgrpc ...] [--loop asyncio|uvloop] [--openings 4]
        [--target HOST:PORT --insecure | --program PATH ...] [--json]

The server is in another process, so that the CPU time is the client's alone, all of its threads included.
`--target` names another server in its place, such as one in Go, without TLS; it has to serve
`/aio_authgrpc.benchmarks.Echo/Echo`, and `Count` and `EchoAll` for the streams. `--program` starts one, with
its arguments: it prints its port, and ends with its standard input. These send a token:

    plain            a grpc.aio channel; the metadata is passed by hand at each call. It is the measure, 1.
    plain again      another such channel: what it differs from 1 by is noise
    aio_authgrpc     `secure_authorized_channel`
    telemetry        the same with `connect(telemetry=OpenTelemetry())`, the SDK's spans and metrics in memory
    interceptor      a grpc.aio channel with interceptors that add the metadata, one class for each arity
    google-auth      its `AuthMetadataPlugin`, as call credentials of a grpc.aio channel
    gcloud-aio-auth  a grpc.aio channel; `await token.get()` of that package goes into the metadata by hand

In every round each has its turns, in shuffled order, and each turn is compared with the plain channel's
beside it; the ratio printed is the median, with its quartiles, and so is the CPU time over plain. A channel
stays some per cent dearer or cheaper than its equal for as long as it lives, by where it came to lie and by
its place in gRPC's threads. So the rounds are shared out among several openings, each with new channels,
opened in shuffled order. The garbage collector is on. The modes, with what is done in a turn and how many
turns a round has:

    sequential     5 × 30    unary RPCs, one after the other
    wide           1000 × 2  unary RPCs, 500 of them at any time
    concurrent     1000 × 1  unary RPCs, all at once
    stream         100 × 10  messages of one unary-stream RPC
    stream-stream  100 × 10  messages of one stream-stream RPC, its requests from an async iterator
    short-streams  5 × 30    unary-stream RPCs of one message, one after the other

A round takes 6 s. Whatever else the machine does makes 10 % and more in a single turn, so that fewer rounds
say little; and only what stands out from `plain again` is worth a word. The function calls and objects of
`counted.py`, printed at the end, are free of noise.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from contenders import OPENERS, Contender, Place, is_installed
from counted import measure as count
from counted import show as show_counts
from figures import Spread, print_json, print_note, print_table
from server_process import ServerProcess

PAYLOAD = b"x" * 32
WIDE = 500


@dataclass(frozen=True, slots=True)
class Cost:
    """What one RPC, or message, cost, in seconds."""

    cpu: float
    wall: float


# The modes


async def _sequential(contender: Contender, rpcs: int) -> None:
    for _ in range(rpcs):
        await contender.echo(PAYLOAD)


async def _concurrent(contender: Contender, rpcs: int) -> None:
    async def call() -> None:
        await contender.echo(PAYLOAD)

    await asyncio.gather(*(call() for _ in range(rpcs)))


def _wide(width: int) -> Callable[[Contender, int], Awaitable[None]]:
    async def run(contender: Contender, rpcs: int) -> None:
        left = rpcs

        async def call_again_and_again() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await contender.echo(PAYLOAD)

        await asyncio.gather(*(call_again_and_again() for _ in range(width)))

    return run


async def _stream(contender: Contender, messages: int) -> None:
    assert contender.count is not None
    await _receive(contender.count(b"%d" % messages), messages)


async def _stream_stream(contender: Contender, messages: int) -> None:
    async def requests() -> AsyncIterator[bytes]:
        for _ in range(messages):
            yield PAYLOAD

    assert contender.echo_all is not None
    await _receive(contender.echo_all(requests()), messages)


async def _short_streams(contender: Contender, rpcs: int) -> None:
    assert contender.count is not None
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
    unit: str = "RPC"
    streams: bool = False


def all_modes(width: int = WIDE) -> dict[str, Mode]:
    """Return the modes; `wide` has `width` RPCs under way at any time."""
    return {
        "sequential": Mode(_sequential, 0.005, 30),
        "wide": Mode(_wide(width), 1.0, 2),
        "concurrent": Mode(_concurrent, 1.0, 1),
        "stream": Mode(_stream, 0.1, 10, "message", streams=True),
        "stream-stream": Mode(_stream_stream, 0.1, 10, "message", streams=True),
        "short-streams": Mode(_short_streams, 0.005, 30, streams=True),
    }


# The measurement

Costs = dict[str, list[Cost]]
"""What each contender cost, turn by turn."""


async def _measure(mode: Mode, contender: Contender, count: int) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    await mode.run(contender, count)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(cpu / count, wall / count)


async def _run_round(contenders: Sequence[Contender], mode: Mode, rpcs: int, costs: Costs) -> None:
    count = max(1, round(rpcs * mode.share))
    able = [contender for contender in contenders if contender.count is not None or not mode.streams]
    for _ in range(mode.turns):
        # What others left behind (threads that end, channels that read) is nobody's. Between the contenders
        # there is no pause: a busy machine is slow for tens of milliseconds, and for all of them.
        await asyncio.sleep(0.01)
        gc.collect()
        for contender in random.sample(able, len(able)):
            costs.setdefault(contender.name, []).append(await _measure(mode, contender, count))


async def compare(
    contenders: Sequence[Contender],
    modes: dict[str, Mode],
    rounds: int,
    rpcs: int,
    results: dict[str, Costs],
) -> None:
    """Measure every contender in every mode.

    Args:
        contenders: Those to compare; `plain` is among them.
        modes: Some of `all_modes()`.
        rounds: How often each has its turn.
        rpcs: RPCs, or messages, a turn, of which a mode takes its share.
        results: What each mode cost; more is added.
    """
    for mode in modes.values():
        await _run_round(contenders, mode, rpcs // 10, {})  # connects, warms up, is not counted
    for _ in range(rounds):
        for name, mode in modes.items():
            await _run_round(contenders, mode, rpcs, results[name])


@asynccontextmanager
async def _started(program: Sequence[str]) -> AsyncIterator[str]:
    """Start a server that prints its port, and give its target."""
    process = await asyncio.create_subprocess_exec(
        *program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    port = await asyncio.wait_for(process.stdout.readline(), 10)
    try:
        yield f"127.0.0.1:{int(port)}"
    finally:
        process.stdin.close()
        await process.wait()


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what each mode cost, and the counts."""
    modes = all_modes(arguments.wide)
    async with ServerProcess() as server, AsyncExitStack() as stack:
        place = Place(server.target, server.ssl_credentials, server.key_file)
        target = arguments.target
        if arguments.program:
            target = await stack.enter_async_context(_started(arguments.program))
        if target:
            place = Place(target, None, server.key_file)
        wanted = ["plain", *(name for name in arguments.contenders if name != "plain")]
        missing = [name for name in wanted if not is_installed(name)]
        able = [name for name in wanted if name not in missing]
        chosen = {name: modes[name] for name in arguments.modes}
        results: dict[str, Costs] = {name: {} for name in chosen}
        for _ in range(arguments.openings):
            async with AsyncExitStack() as channels:
                names = random.sample(able, len(able))
                contenders = [await OPENERS[name][0](channels, place) for name in names]
                rounds = -(-arguments.rounds // arguments.openings)
                await compare(contenders, chosen, rounds, arguments.rpcs, results)
        counted = await count(server)
    return {
        "rounds": arguments.rounds,
        "openings": arguments.openings,
        "rpcs": arguments.rpcs,
        "wide": arguments.wide,
        "loop": arguments.loop,
        "server": "given, without TLS" if target else "grpc.aio",
        "not_installed": missing,
        "modes": {mode: summary(costs) for mode, costs in results.items()},
        "counted": counted,
    }


FIGURES = ("cpu_ratio", "wall_ratio", "over_plain_us", "cpu_us", "wall_us")


def summary(costs: Costs) -> dict[str, dict[str, Spread]]:
    """Return, for each contender, its ratios to the plain one and its costs in microseconds."""
    plain = costs["plain"]
    # The turns were shuffled: tables name the contenders in one order. Other languages have others.
    order = list(OPENERS)
    names = sorted(costs, key=lambda name: order.index(name) if name in order else len(order))
    return {name: _beside(costs[name], plain) for name in names}


def _beside(turns: Sequence[Cost], plain: Sequence[Cost]) -> dict[str, Spread]:
    pairs = list(zip(turns, plain, strict=True))
    figures = (
        [own.cpu / one.cpu for own, one in pairs],
        [own.wall / one.wall for own, one in pairs],
        [1e6 * (own.cpu - one.cpu) for own, one in pairs],
        [1e6 * own.cpu for own in turns],
        [1e6 * own.wall for own in turns],
    )
    return {name: Spread.of(values) for name, values in zip(FIGURES, figures, strict=True)}


def show(mode: str, figures: dict[str, dict[str, Spread]]) -> None:
    """Print what a mode cost."""
    columns = (
        mode,
        "CPU ratio",
        "quartiles",
        "wall ratio",
        "quartiles",
        "over plain µs",
        "CPU µs",
        "wall µs",
    )
    rows = []
    for name, own in sorted(figures.items(), key=lambda item: item[1]["cpu_ratio"].median):
        ratios = [text for key in FIGURES[:2] for text in own[key].with_quartiles()]
        rows.append((name, *ratios, *(f"{own[key].median:.1f}" for key in FIGURES[2:])))
    print_table(f"{mode}, per {all_modes()[mode].unit}", columns, rows)


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes an event loop of asyncio or uvloop."""
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop  # noqa: PLC0415 - only where it is asked for

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--openings", type=int, default=4, help="how often all channels are opened anew")
    parser.add_argument(
        "--rpcs",
        type=int,
        default=1000,
        help="RPCs, all at once; see above for the others' share",
    )
    parser.add_argument("--modes", nargs="+", choices=all_modes(), default=list(all_modes()))
    parser.add_argument("--wide", type=int, default=WIDE, help="RPCs under way in the mode `wide`")
    parser.add_argument("--contenders", nargs="+", choices=OPENERS, default=list(OPENERS))
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--target", help="host:port of a server of your own, with --insecure")
    parser.add_argument("--insecure", action="store_true", help="the server of --target has no TLS")
    parser.add_argument(
        "--program", nargs=argparse.REMAINDER, help="a server to start, at the end of the line"
    )
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    arguments = parser.parse_args()
    if bool(arguments.target) != arguments.insecure:
        parser.error("--target and --insecure go together")
    return arguments


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    with asyncio.Runner(loop_factory=loop_factory(arguments.loop)) as runner:
        found = runner.run(run(arguments))
    if arguments.json:
        print_json(found)
        return
    for mode, figures in found["modes"].items():
        show(mode, figures)
    show_counts(found["counted"])
    print_note(
        f"{arguments.rounds} rounds of {arguments.rpcs}; ratios are medians of a round's ratio to plain."
    )
    if found["not_installed"]:
        print_note(f"Not installed: {', '.join(found['not_installed'])}.")


if __name__ == "__main__":
    main()
