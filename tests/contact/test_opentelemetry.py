"""opentelemetry-instrumentation-grpc, switched on for the whole process: one span a call, in its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

import aio_authgrpc
from aio_authgrpc.testing import EchoServer, EchoStub, ScriptedTokens
from tests.support.arity import Arity

from .ways import WAYS

SPANS = InMemorySpanExporter()


@pytest.fixture(autouse=True)
def tracer() -> Iterator[Tracer]:
    """Instrument every channel of grpc.aio that is made during a test."""
    SPANS.clear()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(SPANS))
    instrumentor = GrpcAioInstrumentorClient()
    instrumentor.instrument(tracer_provider=provider)
    yield provider.get_tracer("test")
    instrumentor.uninstrument()


def spans() -> list[ReadableSpan]:
    """Return the ended spans of calls."""
    return [span for span in SPANS.get_finished_spans() if span.kind is SpanKind.CLIENT]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def opened(request: pytest.FixtureRequest) -> Any:
    """Give each way to open a channel."""
    return request.param


async def test_a_call_has_one_span_below_the_callers_and_the_server_is_told_of_it(
    opened: Any, arity: Arity, echo_server: EchoServer, tokens: ScriptedTokens, tracer: Tracer
) -> None:
    """With a token at hand and without."""
    async with opened(echo_server, tokens) as stub:
        for _ in range(2):
            with tracer.start_as_current_span("the caller") as caller:
                assert await arity.finish(arity.begin(stub)) == arity.responses
            (call,), ended = echo_server.calls[-1:], spans()
            assert [span.parent.span_id for span in ended if span.parent] == [caller.context.span_id]
            assert call.values("traceparent") == (traceparent(ended[0]),)
            assert call.values("authorization") == ("Bearer token-1",)
            SPANS.clear()
    assert tokens.fetches == 1


def traceparent(span: ReadableSpan) -> str:
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{int(span.context.trace_flags):02x}"


async def test_the_span_of_a_refused_call_has_its_code(
    opened: Any, arity: Arity, echo_server: EchoServer, tokens: ScriptedTokens
) -> None:
    """And the caller has the error as it is."""
    echo_server.refuse(grpc.StatusCode.NOT_FOUND)
    async with opened(echo_server, tokens) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await arity.finish(arity.begin(stub))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    (span,) = spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]


async def test_a_call_in_the_clear_has_its_span(tokens: ScriptedTokens, arity: Arity) -> None:
    """`grpc.aio.insecure_channel` is replaced, too."""
    async with EchoServer(tls=False) as server:
        async with aio_authgrpc.insecure_authorized_channel(tokens, server.target) as channel:
            assert await arity.finish(arity.begin(EchoStub(channel))) == arity.responses
    assert len(spans()) == 1
