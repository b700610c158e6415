"""OpenTelemetry: spans and metrics of calls, with their wait for a token, and of the tokens themselves."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from functools import partial
from weakref import WeakKeyDictionary, WeakValueDictionary

import grpc
from opentelemetry import context, metrics, propagate, trace
from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from aio_authgrpc import AuthMetadataPlugin, TokenSource, __version__, default, id_token
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc.events import RefreshFailed, RefreshSucceeded, TokenEvent
from aio_authgrpc.tokens import TokenCache

# gRFC A66, seconds.
_BUCKETS = (
    *(0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008),
    *(0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4),
    *(0.5, 0.65, 0.8, 1, 2, 5, 10, 20, 50, 100),
)
_NANOSECONDS = 1_000_000_000


class OpenTelemetry:
    """Spans and metrics of the calls of this package: `connect(..., telemetry=OpenTelemetry())`.

    Each call has a span of kind CLIENT, from the stub's call to the end, with `traceparent` for the server.
    Where opentelemetry-instrumentation-grpc makes the spans of the RPCs, only a call that was never sent has
    one of this package, so that none is doubled.

    | Metric | Attributes |
    |---|---|
    | `grpc.client.call.duration` (s, gRFC A66) | `grpc.method`, `grpc.target`, `grpc.status` |
    | `grpc.client.attempt.started` (gRFC A66) | `grpc.method`, `grpc.target` |
    | `grpc.client.attempt.duration` (s, gRFC A66) | `grpc.method`, `grpc.target`, `grpc.status` |
    | `grpc.client.call.delay.duration` (s, gRFC A121) | method, target, `grpc.delay_type` = `credentials` |
    | `aio_authgrpc.token.refresh.duration` (s) | `grpc.target`, `outcome` = `success` or the error's class |
    | `aio_authgrpc.token.remaining` (s) | `grpc.target`, `state` = `fresh`, `stale` or `expired` |

    A span has `rpc.system`, `rpc.service`, `rpc.method`, `server.address`, `server.port`,
    `rpc.grpc.status_code`, for a failure `error.type`, and `aio_authgrpc.token_wait`: the seconds that the
    call waited for its token, if it did.

    Sizes of messages are not measured: gRPC compresses below Python. One object serves any number of
    channels.

    Args:
        tracer_provider: Where spans go; the global one if None.
        meter_provider: Where metrics go; the global one if None.
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self.tracer = trace.get_tracer("aio_authgrpc", __version__, tracer_provider)
        meter = metrics.get_meter("aio_authgrpc", __version__, meter_provider)

        def seconds(name: str, description: str) -> Histogram:
            return meter.create_histogram(
                name, "s", description, explicit_bucket_boundaries_advisory=_BUCKETS
            )

        self.calls = seconds("grpc.client.call.duration", "Duration of a call, its wait for a token included")
        self.attempts = meter.create_counter("grpc.client.attempt.started", "{attempt}", "RPCs sent")
        self.attempt_durations = seconds("grpc.client.attempt.duration", "Duration of an RPC")
        self.delays = seconds("grpc.client.call.delay.duration", "Wait of a call before it is sent")
        self.refreshes = seconds("aio_authgrpc.token.refresh.duration", "Duration of a token refresh")
        self._caches: WeakKeyDictionary[TokenCache, str] = WeakKeyDictionary()
        meter.create_observable_gauge(
            "aio_authgrpc.token.remaining",
            [self._observe_tokens],
            "s",
            "Time until the token expires; 0 without one",
        )

    def channel(self, target: str, auth: TokenCache, *, traced: bool) -> ObservedChannel:
        """See `Telemetry.channel`."""
        if auth not in self._caches:
            self._caches[auth] = _canonical(target)
            auth.subscribe(partial(self._on_event, self._caches[auth]))
        return ObservedChannel(self, target, traced=traced)

    def _on_event(self, target: str, event: TokenEvent) -> None:
        if isinstance(event, RefreshSucceeded):
            self.refreshes.record(event.duration, {"grpc.target": target, "outcome": "success"})
        elif isinstance(event, RefreshFailed):
            outcome = type(event.error).__name__
            self.refreshes.record(event.duration, {"grpc.target": target, "outcome": outcome})

    def _observe_tokens(self, options: CallbackOptions) -> Iterable[Observation]:
        del options
        now = time.time()
        for auth, target in list(self._caches.items()):
            if auth.closed:
                continue
            status = auth.status()
            remaining = 0.0 if status.expires_at is None else max(0.0, status.expires_at - now)
            yield Observation(remaining, {"grpc.target": target, "state": status.state.value})


class ObservedChannel:
    """The calls of one channel; see `ChannelTelemetry`."""

    def __init__(self, telemetry: OpenTelemetry, target: str, *, traced: bool) -> None:
        self.telemetry = telemetry
        self.address = target
        self.target = _canonical(target)
        self.traced = traced

    def begin_call(self, method: str) -> ObservedCall:
        """See `ChannelTelemetry.begin_call`."""
        return ObservedCall(self, method)


class ObservedCall:
    """One call; see `CallTelemetry`."""

    def __init__(self, channel: ObservedChannel, method: str) -> None:
        self._channel = channel
        self._attributes = {"grpc.method": method, "grpc.target": channel.target}
        self._context = context.get_current()
        self._began = time.time_ns()
        self._attempts = 0
        self._waited = 0.0
        self._span = None if channel.traced else self._start_span()
        self.metadata: tuple[tuple[str, str], ...] = ()
        if self._span is not None:
            carrier: dict[str, str] = {}
            propagate.inject(carrier, trace.set_span_in_context(self._span, self._context))
            self.metadata = tuple((key.lower(), value) for key, value in carrier.items())

    def _start_span(self) -> Span:
        method = self._attributes["grpc.method"]
        service, _, name = method.rpartition("/")
        attributes: dict[str, str | int] = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": name,
            **_server_of(self._channel.address),
        }
        return self._channel.telemetry.tracer.start_span(
            method,
            context=self._context,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=self._began,
        )

    def waited_for_token(self, seconds: float) -> None:
        """See `CallTelemetry.waited_for_token`."""
        self._waited += seconds
        attributes = {**self._attributes, "grpc.delay_type": "credentials"}
        self._channel.telemetry.delays.record(seconds, attributes)

    def begin_attempt(self) -> Callable[[grpc.StatusCode | None], None]:
        """See `CallTelemetry.begin_attempt`."""
        self._attempts += 1
        self._channel.telemetry.attempts.add(1, self._attributes)
        return partial(self._end_attempt, time.monotonic())

    def _end_attempt(self, began: float, code: grpc.StatusCode | None) -> None:
        attributes = {**self._attributes, "grpc.status": _name_of(code)}
        self._channel.telemetry.attempt_durations.record(time.monotonic() - began, attributes)

    def end(self, code: grpc.StatusCode | None, details: str) -> None:
        """See `CallTelemetry.end`."""
        seconds = (time.time_ns() - self._began) / _NANOSECONDS
        attributes = {**self._attributes, "grpc.status": _name_of(code)}
        self._channel.telemetry.calls.record(seconds, attributes)
        if self._span is None and not self._attempts:
            self._span = self._start_span()  # nothing was sent: no instrumentation below has a span of it
        if self._span is None:
            return
        if self._waited:
            self._span.set_attribute("aio_authgrpc.token_wait", self._waited)
        if code is not None:
            self._span.set_attribute("rpc.grpc.status_code", code.value[0])
        if code is not grpc.StatusCode.OK:
            self._span.set_attribute("error.type", _name_of(code))
            self._span.set_status(Status(StatusCode.ERROR, redacted(details)))
        self._span.end()


def _canonical(target: str) -> str:
    """Return a target as gRPC's own metrics name it: with its scheme."""
    return target if re.match(r"[a-z-]+:(?![0-9]+$)", target) else f"dns:///{target}"


def _server_of(address: str) -> dict[str, str | int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return {"server.address": address}
    return {"server.address": host.rpartition("/")[2], "server.port": int(port)}


def _name_of(code: grpc.StatusCode | None) -> str:
    return "UNKNOWN" if code is None else code.name


def otlp_credentials() -> grpc.ChannelCredentials:
    """Return channel credentials for an OTLP exporter: TLS, and an access token of the default credentials.

    It is the entry point `aio_authgrpc` of the group `opentelemetry_otlp_credential_provider`, so that
    exporters of gRPC take it with `OTEL_PYTHON_EXPORTER_OTLP_GRPC_CREDENTIAL_PROVIDER=aio_authgrpc`. They
    need no event loop: see `own_loop` of `AuthMetadataPlugin`. A service account signs its tokens itself, for
    the collector's host.

    Certificate authorities are gRPC's: `GRPC_DEFAULT_SSL_ROOTS_FILE_PATH` names a file of others.
    """
    return _with_plugin("access token", default)


def otlp_id_token_credentials() -> grpc.ChannelCredentials:
    """Return channel credentials for an OTLP exporter: TLS, and an ID token of the default credentials.

    It is the entry point `aio_authgrpc_id_token`, for a collector behind Cloud Run or IAP; see
    `otlp_credentials`. The audience is `https://<host>` of the collector, unless the environment variable
    `AIO_AUTHGRPC_OTLP_AUDIENCE` names another, such as the OAuth client's id for IAP.
    """
    audience = os.environ.get("AIO_AUTHGRPC_OTLP_AUDIENCE") or None
    return _with_plugin(f"ID token for {audience}", partial(id_token, audience))


# The exporters of traces, metrics and logs ask one after another: they share a plugin, with its token and its
# thread, while one of them is there.
_plugins: WeakValueDictionary[str, AuthMetadataPlugin] = WeakValueDictionary()


def _with_plugin(name: str, source: Callable[[], TokenSource]) -> grpc.ChannelCredentials:
    plugin = _plugins.get(name)
    if plugin is None:
        plugin = _plugins[name] = AuthMetadataPlugin(source(), own_loop=True)
    call_credentials = grpc.metadata_call_credentials(plugin)
    return grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), call_credentials)
