"""A fake OpenTelemetry collector, behind a guard."""

from __future__ import annotations

import grpc.aio
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from aio_authgrpc.testing import Authority, GuardedServer, endpoint_user_info


class Collector(GuardedServer):
    """Take traces and metrics.

    Attributes:
        spans: The names of the spans that arrived.
        metrics: The names of the metrics that arrived.
        audiences: Whom the tokens of the exports were for.
    """

    def __init__(self, authority: Authority, *, audience: str | None = None) -> None:
        super().__init__(authority, _add_services, self, audience=audience)
        self.spans: list[str] = []
        self.metrics: list[str] = []
        self.audiences: list[object] = []

    def note_audience(self) -> None:
        """Note whom the token of the call is for."""
        self.audiences.append((endpoint_user_info() or {}).get("aud"))


def _add_services(collector: Collector, server: grpc.aio.Server) -> None:
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(collector), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(collector), server)


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        scopes = [scope for resource in request.resource_spans for scope in resource.scope_spans]
        self._collector.spans += [span.name for scope in scopes for span in scope.spans]
        self._collector.note_audience()
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, context: object
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        scopes = [scope for resource in request.resource_metrics for scope in resource.scope_metrics]
        self._collector.metrics += [metric.name for scope in scopes for metric in scope.metrics]
        self._collector.note_audience()
        return metrics_service_pb2.ExportMetricsServiceResponse()
