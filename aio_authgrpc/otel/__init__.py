"""OpenTelemetry: spans and metrics of calls and tokens, and tokens for OTLP exporters."""

from aio_authgrpc.otel.calls import OpenTelemetry
from aio_authgrpc.otel.otlp import otlp_credentials, otlp_id_token_credentials

__all__ = ["OpenTelemetry", "otlp_credentials", "otlp_id_token_credentials"]
