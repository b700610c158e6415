"""OpenTelemetry: spans and metrics of calls, with and without the instrumentation of gRPC."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from aio_authgrpc import AuthRpcError, ConfigurationError, Connection, connect
from aio_authgrpc.otel import OpenTelemetry
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock, ScriptedTokens


class Collected:
    """What was exported."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._metrics = InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._metrics])
        self.telemetry = OpenTelemetry(self.tracer_provider, self.meter_provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def points(self, name: str) -> list[Any]:
        """Return the data points of one metric."""
        data = self._metrics.get_metrics_data()
        resources: Any = [] if data is None else data.resource_metrics
        metrics = [m for r in resources for scope in r.scope_metrics for m in scope.metrics if m.name == name]
        return [point for metric in metrics for point in metric.data.data_points]


@pytest.fixture
def collected() -> Iterator[Collected]:
    collected = Collected()
    yield collected
    collected.meter_provider.shutdown()
    collected.tracer_provider.shutdown()


@pytest.fixture
def instrumented(collected: Collected) -> Iterator[None]:
    """Switch opentelemetry-instrumentation-grpc on for the test."""
    instrumentor: Any = GrpcAioInstrumentorClient()
    instrumentor.instrument(tracer_provider=collected.tracer_provider)
    yield
    instrumentor.uninstrument()


@pytest.fixture
async def connection(
    echo_server: EchoServer, collected: Collected, tokens: ScriptedTokens, fake_clock: FakeClock
) -> Connection[EchoStub]:
    return connect(
        echo_server.target,
        EchoStub,
        credentials=tokens,
        ssl_credentials=echo_server.ssl_credentials,
        telemetry=collected.telemetry,
        clock=fake_clock,
    )


async def test_a_call_has_a_span_and_its_metrics(
    connection: Connection[EchoStub], collected: Collected, echo_server: EchoServer, arity: Any
) -> None:
    """In all four arities; the server gets `traceparent` with the span's trace."""
    async with connection as stub:
        assert await arity.finish(arity.begin(stub)) == arity.responses
    (span,) = collected.spans
    method = f"aio_authgrpc.testing.Echo/{arity.method}"
    assert span.name == method
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes or {})["rpc.grpc.status_code"] == 0
    (traceparent,) = echo_server.calls[0].values("traceparent")
    assert f"{span.context.trace_id:032x}-{span.context.span_id:016x}" in str(traceparent)
    for name in ("grpc.client.call.duration", "grpc.client.attempt.duration"):
        (point,) = collected.points(name)
        assert dict(point.attributes) == {
            "grpc.method": method,
            "grpc.target": f"dns:///{echo_server.target}",
            "grpc.status": "OK",
        }
    (started,) = collected.points("grpc.client.attempt.started")
    assert started.value == 1


async def test_the_span_is_a_child_of_the_callers(
    connection: Connection[EchoStub], collected: Collected
) -> None:
    """Of the span that was current where the stub was called."""
    tracer = collected.tracer_provider.get_tracer("test")
    async with connection as stub:
        with tracer.start_as_current_span("outer"):
            call = stub.UnaryUnary(b"x")
        await call
    spans = {span.name: span for span in collected.spans}
    inner = spans["aio_authgrpc.testing.Echo/UnaryUnary"]
    assert inner.parent is not None
    assert inner.parent.span_id == spans["outer"].context.span_id


async def test_the_wait_for_a_token_is_a_metric(
    connection: Connection[EchoStub], collected: Collected, tokens: ScriptedTokens
) -> None:
    """Of the delay type `credentials`, and an attribute of the span; a warm call has none."""
    gate = tokens.hold()
    async with connection as stub:
        call = asyncio.ensure_future(stub.UnaryUnary(b"x"))
        await gate.wait_for(1)
        gate.release()
        await call
        await stub.UnaryUnary(b"x")
    (point,) = collected.points("grpc.client.call.delay.duration")
    assert point.count == 1
    assert point.attributes["grpc.delay_type"] == "credentials"
    cold, warm = collected.spans
    assert dict(cold.attributes or {})["aio_authgrpc.token_wait"] == pytest.approx(point.sum)
    assert "aio_authgrpc.token_wait" not in dict(warm.attributes or {})


@pytest.mark.parametrize("below", ["plain", "instrumented"])
async def test_a_call_that_gets_no_token_has_its_span_and_its_error(
    request: pytest.FixtureRequest,
    connection: Connection[EchoStub],
    collected: Collected,
    tokens: ScriptedTokens,
    arity: Any,
    below: str,
) -> None:
    """Nothing was sent, so that no instrumentation below tells of it."""
    if below == "instrumented":
        request.getfixturevalue("instrumented")
    tokens.fail(RuntimeError("no token"), times=None)
    async with connection as stub:
        with pytest.raises(AuthRpcError):
            await arity.finish(arity.begin(stub))
    (span,) = collected.spans
    assert not span.status.is_ok
    assert "no token" in str(span.status.description)
    assert "aio_authgrpc.token_wait" in dict(span.attributes or {})
    (point,) = collected.points("grpc.client.call.duration")
    assert point.attributes["grpc.status"] == "UNAUTHENTICATED"
    assert collected.points("grpc.client.attempt.started") == []
    assert len(collected.points("grpc.client.call.delay.duration")) == 1


@pytest.mark.usefixtures("instrumented")
async def test_beside_the_instrumentation_no_span_is_doubled(
    connection: Connection[EchoStub], collected: Collected, echo_server: EchoServer, arity: Any
) -> None:
    """Its span is the only one; the metrics are there all the same."""
    async with connection as stub:
        assert await arity.finish(arity.begin(stub)) == arity.responses
    (span,) = collected.spans
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name.startswith("opentelemetry.instrumentation.grpc")
    assert len(echo_server.calls[0].values("traceparent")) == 1
    assert len(collected.points("grpc.client.call.duration")) == 1


async def test_a_replayed_call_is_one_call_of_two_attempts(
    connection: Connection[EchoStub], collected: Collected, echo_server: EchoServer, fake_clock: FakeClock
) -> None:
    """One span, two attempts."""
    async with connection as stub:
        await stub.UnaryUnary(b"x")
        fake_clock.advance(60)
        echo_server.refuse()
        await stub.UnaryUnary(b"x")
    assert len(collected.spans) == 2
    (started,) = collected.points("grpc.client.attempt.started")
    assert started.value == 3
    codes = {p.attributes["grpc.status"]: p.count for p in collected.points("grpc.client.attempt.duration")}
    assert codes == {"OK": 2, "UNAUTHENTICATED": 1}


async def test_a_cancelled_call_ends_its_span(
    connection: Connection[EchoStub], collected: Collected, tokens: ScriptedTokens
) -> None:
    """While it waits for its token, too."""
    gate = tokens.hold()
    async with connection as stub:
        call = stub.UnaryUnary(b"x")
        await gate.wait_for(1)
        call.cancel()
        gate.release()
    (span,) = collected.spans
    assert dict(span.attributes or {})["error.type"] == "CANCELLED"


async def test_a_call_that_is_refused_at_once_ends_its_span(
    connection: Connection[EchoStub], collected: Collected
) -> None:
    """An argument that the channel does not take."""
    async with connection as stub:
        with pytest.raises(ConfigurationError):
            stub.UnaryUnary(b"x", metadata=(("authorization", "mine"),))
    (span,) = collected.spans
    assert not span.status.is_ok


async def test_refreshes_and_the_tokens_life_are_metrics(
    connection: Connection[EchoStub], collected: Collected, tokens: ScriptedTokens, echo_server: EchoServer
) -> None:
    """The state is asked for when metrics are collected."""
    tokens.fail(RuntimeError("down"))
    async with connection as stub:
        with pytest.raises(AuthRpcError):
            await stub.UnaryUnary(b"x")
        (refresh,) = collected.points("aio_authgrpc.token.refresh.duration")
        assert dict(refresh.attributes) == {
            "grpc.target": f"dns:///{echo_server.target}",
            "outcome": "TokenRefusedError",
        }
        (state,) = collected.points("aio_authgrpc.token.remaining")
        assert state.attributes["state"] == "expired"
        assert state.value == 0
    assert collected.points("aio_authgrpc.token.remaining") == []


async def test_no_secret_is_in_spans_and_metrics(
    connection: Connection[EchoStub], collected: Collected
) -> None:
    """The token is in none of them."""
    async with connection as stub:
        await stub.UnaryUnary(b"x")
    assert "token-1" not in "".join(span.to_json() for span in collected.spans)


def test_what_is_no_telemetry_is_refused() -> None:
    """With the name of the argument."""
    given: Any = object()
    with pytest.raises(ConfigurationError, match="telemetry"):
        connect("localhost:1", telemetry=given)


class Failing:
    """Telemetry that raises, where it is told to."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __getattr__(self, name: str) -> Any:
        def told(*_: Any, **__: Any) -> Any:
            if name == self._where:
                raise ZeroDivisionError
            return () if name == "metadata" else self

        return told() if name == "metadata" else told

    def __call__(self, code: object) -> None:
        if self._where == "attempt's end":
            raise ZeroDivisionError


@pytest.mark.parametrize(
    "where", ["begin_call", "metadata", "waited_for_token", "begin_attempt", "attempt's end", "end"]
)
async def test_telemetry_that_raises_fails_no_call(
    echo_server: EchoServer, tokens: ScriptedTokens, caplog: pytest.LogCaptureFixture, arity: Any, where: str
) -> None:
    """It is logged."""
    telemetry: Any = Failing(where)
    async with connect(
        echo_server.target,
        EchoStub,
        credentials=tokens,
        ssl_credentials=echo_server.ssl_credentials,
        telemetry=telemetry,
    ) as stub:
        assert await arity.finish(arity.begin(stub)) == arity.responses
    assert "Telemetry failed: ZeroDivisionError" in caplog.text


async def test_a_replayed_stream_is_one_call_of_two_attempts(
    connection: Connection[EchoStub], collected: Collected, echo_server: EchoServer, fake_clock: FakeClock
) -> None:
    """It is sent again in the context of its reader."""
    async with connection as stub:
        await stub.UnaryUnary(b"x")
        fake_clock.advance(60)
        echo_server.refuse()
        call = stub.UnaryStream(b"x")

        async def read() -> list[bytes]:
            return [message async for message in call]

        assert await asyncio.create_task(read(), context=contextvars.Context()) == [b"x"] * 3
    points = collected.points("grpc.client.attempt.started")
    attempts = {point.attributes["grpc.method"].rpartition("/")[2]: point.value for point in points}
    assert attempts == {"UnaryUnary": 1, "UnaryStream": 2}


async def test_methods_are_of_grpc_aios_classes(connection: Connection[EchoStub]) -> None:
    """google-api-core tells streams by the class."""
    async with connection:
        method = connection.channel.unary_stream("/a.B/C")
        assert isinstance(method, grpc.aio.UnaryStreamMultiCallable)


async def test_a_secret_in_a_servers_words_is_cut_out_of_the_span(
    connection: Connection[EchoStub], collected: Collected, echo_server: EchoServer
) -> None:
    """A server may quote the token that it refuses."""
    echo_server.refuse(grpc.StatusCode.PERMISSION_DENIED, "bad token eyJhbGciOiJSUzI1NiJ9.eyJh.c2ln")
    async with connection as stub:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.UnaryUnary(b"x")
    (span,) = collected.spans
    assert span.status.description == "bad token [redacted]"
