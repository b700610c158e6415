"""Make calls in a process in which Sentry or ddtrace is switched on, and say what they saw.

Its argument is `sentry` or `ddtrace`. It prints a line of JSON for each way to open a channel and each arity.
Both libraries replace functions of grpc.aio for good, so each needs a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from aio_authgrpc.testing import EchoServer, ScriptedTokens
from tests.contact.ways import WAYS
from tests.support.arity import ARITIES, Arity


class Sentry:
    """sentry-sdk with its integration for gRPC, sending to itself."""

    header = "sentry-trace"

    def __init__(self) -> None:
        import sentry_sdk
        from sentry_sdk.integrations.grpc import GRPCIntegration
        from sentry_sdk.transport import Transport

        self._sdk = sentry_sdk
        self._events: list[Any] = []
        events = self._events

        class Keep(Transport):
            def capture_envelope(self, envelope: Any) -> None:
                events.extend(item.get_transaction_event() or item.get_event() for item in envelope.items)

        sentry_sdk.init(
            dsn="http://key@127.0.0.1:1/1",
            transport=Keep,
            traces_sample_rate=1.0,
            integrations=[GRPCIntegration()],
            default_integrations=False,
        )

    @contextmanager
    def caller(self) -> Iterator[str]:
        self._events.clear()
        with self._sdk.start_transaction(name="the caller", op="test") as span:
            yield span.span_id

    def spans(self) -> list[dict[str, Any]]:
        # The echo server of this process has transactions of its own.
        (transaction,) = [event for event in self._events if event["transaction"] == "the caller"]
        return [
            {"parent": span["parent_span_id"], "id": span["span_id"], "code": span["data"].get("code")}
            for span in transaction["spans"]
            if span["op"] == "grpc.client"
        ]


class Datadog:
    """ddtrace, whose traces are kept here."""

    header = "x-datadog-parent-id"

    def __init__(self) -> None:
        import ddtrace
        from ddtrace.trace import TraceFilter, tracer

        self._tracer = tracer
        self._spans: list[Any] = []
        spans = self._spans

        class Keep(TraceFilter):
            def process_trace(self, trace: Any) -> None:
                spans.extend(trace)

        tracer.configure(trace_processors=[Keep()])
        ddtrace.patch(grpc=True)

    @contextmanager
    def caller(self) -> Iterator[str]:
        self._spans.clear()
        with self._tracer.trace("the caller") as span:
            yield str(span.span_id)

    def spans(self) -> list[dict[str, Any]]:
        return [
            {"parent": str(span.parent_id), "id": str(span.span_id), "code": span.get_tag("grpc.status.code")}
            for span in self._spans
            if span.get_tag("span.kind") == "client"
        ]


async def look(library: Any, way: Any, arity: Arity, *, refused: bool) -> dict[str, Any]:
    """Make one call, and return what came of it."""
    tokens = ScriptedTokens()
    async with EchoServer() as server:
        if refused:
            server.refuse(grpc.StatusCode.NOT_FOUND)
        async with way(server, tokens) as stub:
            with library.caller() as parent:
                try:
                    said = [text.decode() for text in await arity.finish(arity.begin(stub))]
                except grpc.aio.AioRpcError as error:
                    said = [error.code().name]
        (call,) = server.calls
    return {
        "way": way.__name__,
        "arity": arity.method,
        "refused": refused,
        "said": said,
        "authorization": len(call.values("authorization")),
        "traced": [str(value) for value in call.values(library.header)],
        "parent": parent,
        "spans": library.spans(),
    }


async def main(name: str) -> None:
    """Print a line for each call."""
    logging.getLogger("ddtrace").setLevel(logging.ERROR)
    library = {"sentry": Sentry, "ddtrace": Datadog}[name]()
    for way in WAYS:
        for arity in ARITIES:
            for refused in (False, True):
                line = json.dumps(await look(library, way, arity, refused=refused))
                sys.stdout.write(line + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
