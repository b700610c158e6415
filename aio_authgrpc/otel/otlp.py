"""Tokens for OTLP exporters, by entry points."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from weakref import WeakValueDictionary

import grpc

from aio_authgrpc import AuthMetadataPlugin, TokenSource, default, id_token


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
