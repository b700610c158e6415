"""What a warm call costs in function calls and objects: figures that no noise touches.

    python benchmarks/counted.py [--json]

Counted on a channel with a token at hand, and on a plain one beside it:

    functions  how often functions of this package are entered: until a unary call is sent, in its whole life,
               and for each message of a unary-stream RPC
    objects    how many objects that the garbage collector tracks are alive for each of a thousand unary calls
               under way, and for each message that a stream has delivered
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc.aio
from contenders import METADATA, TOKEN
from figures import print_json, print_table
from server_process import EchoStub, ServerProcess

import aio_authgrpc

_PACKAGE = str(Path(aio_authgrpc.__file__).parent)
# Nothing listens there: calls that wait for readiness stay under way.
_NOWHERE = "127.0.0.1:1"
_PAYLOAD = b"x" * 32
_CALLS = 1000
_MESSAGES = 1000

Counts = dict[str, float]


@contextmanager
def _counted(counts: Counts, name: str) -> Iterator[None]:
    """Count the functions of the package that are entered on this thread in the block."""
    counts[name] = 0

    def note(frame: Any, event: str, _: object) -> None:
        counts[name] += event == "call" and frame.f_code.co_filename.startswith(_PACKAGE)

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


async def _receive(responses: AsyncIterator[bytes], messages: int) -> None:
    for _ in range(messages):
        await anext(responses)


async def functions(stub: EchoStub) -> Counts:
    """Return how many functions of the package are entered until a call is sent, in its life, a message."""
    await stub.echo(_PAYLOAD)  # the metadata of a token is made once
    counts: Counts = {}
    with _counted(counts, "sent"):
        call = stub.echo(_PAYLOAD)
    await call
    with _counted(counts, "call"):
        await stub.echo(_PAYLOAD)
    responses = aiter(stub.count(b"%d" % (2 * _MESSAGES)))
    await _receive(responses, 1)
    with _counted(counts, "message"):
        await _receive(responses, _MESSAGES)
    counts["message"] /= _MESSAGES
    return counts


async def objects_per_call(begin: Callable[[], Any]) -> float:
    """Return how many tracked objects there are for each of many calls that were begun."""
    calls = [begin()]  # what is made once
    await asyncio.sleep(0)
    before = _tracked()
    calls += [begin() for _ in range(_CALLS)]
    for _ in range(3):  # grpc.aio starts a call in a task
        await asyncio.sleep(0)
    after = _tracked()
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    return (after - before) / _CALLS


async def objects_per_message(responses: AsyncIterator[bytes]) -> float:
    """Return how many tracked objects stay for each message that was delivered."""
    await _receive(responses, _MESSAGES)
    before = _tracked()
    await _receive(responses, _MESSAGES)
    return (_tracked() - before) / _MESSAGES


def _tracked() -> int:
    gc.collect()
    return len(gc.get_objects())


async def measure(server: ServerProcess) -> dict[str, Counts]:
    """Return the counts of this package's channel, and the objects of a plain one and of ours on top."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        token = aio_authgrpc.static_token(TOKEN)
        ours = EchoStub(
            await enter(
                aio_authgrpc.connect(server.target, credentials=token, ssl_credentials=server.ssl_credentials)
            )
        )
        plain = EchoStub(await enter(grpc.aio.secure_channel(server.target, server.ssl_credentials)))
        nowhere = EchoStub(await enter(aio_authgrpc.connect(_NOWHERE, credentials=token, plaintext=True)))
        plain_nowhere = EchoStub(await enter(grpc.aio.insecure_channel(_NOWHERE)))
        counted = await functions(ours)
        by_plain = await objects_per_call(
            lambda: plain_nowhere.echo(_PAYLOAD, metadata=METADATA, wait_for_ready=True)
        )
        by_ours = await objects_per_call(lambda: nowhere.echo(_PAYLOAD, wait_for_ready=True))
        for _ in range(2):  # the first time, other things are made once
            number = b"%d" % (2 * _MESSAGES)
            message_of_plain = await objects_per_message(aiter(plain.count(number, metadata=METADATA)))
            message_of_ours = await objects_per_message(aiter(ours.count(number)))
    return {
        "functions": counted,
        "objects": {
            "plain_call": by_plain,
            "call": by_ours - by_plain,
            "message": message_of_ours - message_of_plain,
        },
    }


def show(counts: dict[str, Counts]) -> None:
    """Print the counts as a table."""
    entered, objects = counts["functions"], counts["objects"]
    rows = [
        ("a unary call", f"{entered['call']:g}", f"{entered['sent']:g}", f"{objects['call']:.2f}"),
        ("a message", f"{entered['message']:g}", "", f"{objects['message']:.2f}"),
    ]
    print_table("Of this package", ("for", "functions", "until it is sent", "objects"), rows)


async def _measured() -> dict[str, Counts]:
    async with ServerProcess() as server:
        return await measure(server)


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    arguments = parser.parse_args()
    counts = asyncio.run(_measured())
    if arguments.json:
        print_json(dict(counts))
    else:
        show(counts)


if __name__ == "__main__":
    main()
