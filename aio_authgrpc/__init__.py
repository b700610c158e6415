"""Authenticated gRPC clients for asyncio.

    async with aio_authgrpc.connect("host", BookstoreStub, credentials=...) as bookstore:
        await bookstore.ListShelves(Empty())

See `connect` first. More names are in the modules `credentials` (every source of tokens), `errors` (a tree),
`events` (what happens to a token) and `tokens` (the cache, and the types of a source).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

# Not lazy: its first use is often in a coroutine, and importing grpc and aiohttp there would block the loop.
from aio_authgrpc._client.connect import Connection, connect

if TYPE_CHECKING:
    from aio_authgrpc import credentials as credentials
    from aio_authgrpc import errors as errors
    from aio_authgrpc import events as events
    from aio_authgrpc import tokens as tokens
    from aio_authgrpc._calls.call_credentials import AuthMetadataPlugin
    from aio_authgrpc._calls.channel import AuthorizedChannel
    from aio_authgrpc._calls.identity import identity
    from aio_authgrpc._client.google_auth import (
        OpeningChannel,
        insecure_authorized_channel,
        secure_authorized_channel,
    )
    from aio_authgrpc._http.request import AiohttpRequest
    from aio_authgrpc._sources.compute_engine import compute_engine
    from aio_authgrpc._sources.default import default
    from aio_authgrpc._sources.files.authorized_user import authorized_user
    from aio_authgrpc._sources.files.service_account import service_account, service_account_jwt
    from aio_authgrpc._sources.id_token import id_token
    from aio_authgrpc._sources.static import anonymous, api_key, static_token, token_source
    from aio_authgrpc._tls.credentials import SslCredentials
    from aio_authgrpc._tls.files import client_certificate_files
    from aio_authgrpc._tokens.source import TokenRequest, TokenSource
    from aio_authgrpc._tokens.token import Token
    from aio_authgrpc.errors import AuthGrpcError, AuthRpcError, ConfigurationError

__version__ = "0.1.0"

__all__ = [
    "AiohttpRequest",
    "AuthGrpcError",
    "AuthMetadataPlugin",
    "AuthRpcError",
    "AuthorizedChannel",
    "ConfigurationError",
    "Connection",
    "OpeningChannel",
    "SslCredentials",
    "Token",
    "TokenRequest",
    "TokenSource",
    "anonymous",
    "api_key",
    "authorized_user",
    "client_certificate_files",
    "compute_engine",
    "connect",
    "default",
    "id_token",
    "identity",
    "insecure_authorized_channel",
    "secure_authorized_channel",
    "service_account",
    "service_account_jwt",
    "static_token",
    "token_source",
]

# The other names, and these modules, are imported at their first use (PEP 562).
_PUBLIC_MODULES = ("credentials", "errors", "events", "tokens")
_MODULES = {
    "AiohttpRequest": "_http.request",
    "AuthGrpcError": "errors",
    "AuthMetadataPlugin": "_calls.call_credentials",
    "AuthRpcError": "errors",
    "AuthorizedChannel": "_calls.channel",
    "ConfigurationError": "errors",
    "OpeningChannel": "_client.google_auth",
    "SslCredentials": "_tls.credentials",
    "Token": "_tokens.token",
    "TokenRequest": "_tokens.source",
    "TokenSource": "_tokens.source",
    "anonymous": "_sources.static",
    "api_key": "_sources.static",
    "authorized_user": "_sources.files.authorized_user",
    "client_certificate_files": "_tls.files",
    "compute_engine": "_sources.compute_engine",
    "default": "_sources.default",
    "id_token": "_sources.id_token",
    "identity": "_calls.identity",
    "insecure_authorized_channel": "_client.google_auth",
    "secure_authorized_channel": "_client.google_auth",
    "service_account": "_sources.files.service_account",
    "service_account_jwt": "_sources.files.service_account",
    "static_token": "_sources.static",
    "token_source": "_sources.static",
}

if not TYPE_CHECKING:  # type checkers report a misspelt name by the imports above

    def __getattr__(name: str) -> object:
        if name in _PUBLIC_MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PUBLIC_MODULES})
