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
from aio_authgrpc._client.connect import Connection as Connection
from aio_authgrpc._client.connect import connect as connect

if TYPE_CHECKING:
    from aio_authgrpc import credentials as credentials
    from aio_authgrpc import errors as errors
    from aio_authgrpc import events as events
    from aio_authgrpc import tokens as tokens
    from aio_authgrpc._calls.call_credentials import AuthMetadataPlugin as AuthMetadataPlugin
    from aio_authgrpc._calls.channel import AuthorizedChannel as AuthorizedChannel
    from aio_authgrpc._calls.identity import identity as identity
    from aio_authgrpc._client.arguments import ConnectArguments as ConnectArguments
    from aio_authgrpc._client.factory import channel_factory as channel_factory
    from aio_authgrpc._client.google_auth import OpeningChannel as OpeningChannel
    from aio_authgrpc._client.google_auth import insecure_authorized_channel as insecure_authorized_channel
    from aio_authgrpc._client.google_auth import secure_authorized_channel as secure_authorized_channel
    from aio_authgrpc._client.lazy import LazyChannel as LazyChannel
    from aio_authgrpc._http.request import AiohttpRequest as AiohttpRequest
    from aio_authgrpc._sources.compute_engine import compute_engine as compute_engine
    from aio_authgrpc._sources.default import default as default
    from aio_authgrpc._sources.files.authorized_user import authorized_user as authorized_user
    from aio_authgrpc._sources.files.service_account import service_account as service_account
    from aio_authgrpc._sources.files.service_account import service_account_jwt as service_account_jwt
    from aio_authgrpc._sources.id_token import id_token as id_token
    from aio_authgrpc._sources.static import anonymous as anonymous
    from aio_authgrpc._sources.static import api_key as api_key
    from aio_authgrpc._sources.static import static_token as static_token
    from aio_authgrpc._sources.static import token_source as token_source
    from aio_authgrpc._tls.certificates import client_certificate_files as client_certificate_files
    from aio_authgrpc._tls.credentials import SslCredentials as SslCredentials
    from aio_authgrpc._tokens.source import TokenRequest as TokenRequest
    from aio_authgrpc._tokens.source import TokenSource as TokenSource
    from aio_authgrpc._tokens.token import Token as Token
    from aio_authgrpc.errors import AuthGrpcError as AuthGrpcError
    from aio_authgrpc.errors import AuthRpcError as AuthRpcError
    from aio_authgrpc.errors import ConfigurationError as ConfigurationError

__version__ = "0.1.0"

# These modules, and names of modules, are imported at their first use (PEP 562). Type checkers read the
# imports above instead, and report a misspelt name.
_PUBLIC_MODULES = ("credentials", "errors", "events", "tokens")
_MODULES = {
    "AiohttpRequest": "_http.request",
    "AuthGrpcError": "errors",
    "AuthMetadataPlugin": "_calls.call_credentials",
    "AuthRpcError": "errors",
    "AuthorizedChannel": "_calls.channel",
    "ConfigurationError": "errors",
    "ConnectArguments": "_client.arguments",
    "Connection": "_client.connect",
    "LazyChannel": "_client.lazy",
    "OpeningChannel": "_client.google_auth",
    "SslCredentials": "_tls.credentials",
    "Token": "_tokens.token",
    "TokenRequest": "_tokens.source",
    "TokenSource": "_tokens.source",
    "anonymous": "_sources.static",
    "api_key": "_sources.static",
    "authorized_user": "_sources.files.authorized_user",
    "channel_factory": "_client.factory",
    "client_certificate_files": "_tls.certificates",
    "compute_engine": "_sources.compute_engine",
    "connect": "_client.connect",
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

if not TYPE_CHECKING:
    __all__ = list(_MODULES)

    def __getattr__(name: str) -> object:
        if name in _PUBLIC_MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_PUBLIC_MODULES})
