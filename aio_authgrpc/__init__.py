"""Authenticated gRPC clients for asyncio.

    async with aio_authgrpc.connect("host", BookstoreStub, credentials=...) as bookstore:
        await bookstore.ListShelves(Empty())

See `connect` first. The errors are a tree in `aio_authgrpc.errors`.
"""

from aio_authgrpc._calls.call_credentials import AuthMetadataPlugin
from aio_authgrpc._calls.channel import AuthorizedChannel
from aio_authgrpc._calls.identity import Identity, identity
from aio_authgrpc._client.connect import Connection, connect
from aio_authgrpc._client.opening import insecure_authorized_channel, secure_authorized_channel
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._loop.clock import Clock, SystemClock
from aio_authgrpc._sources.compute_engine import compute_engine
from aio_authgrpc._sources.default import DefaultCredentialsExplanation, default
from aio_authgrpc._sources.files.authorized_user import authorized_user
from aio_authgrpc._sources.files.external_account import external_account
from aio_authgrpc._sources.files.external_account_authorized_user import external_account_authorized_user
from aio_authgrpc._sources.files.gdch_service_account import gdch_service_account
from aio_authgrpc._sources.files.impersonated_service_account import impersonated_service_account
from aio_authgrpc._sources.files.service_account import service_account
from aio_authgrpc._sources.id_token import IdTokenSource, id_token
from aio_authgrpc._sources.signed_jwt import service_account_jwt
from aio_authgrpc._sources.static import anonymous, api_key, static_token, token_source
from aio_authgrpc._tls.credentials import SslCredentials
from aio_authgrpc._tls.pem import client_certificate_files
from aio_authgrpc._tokens.cache import TokenCache, TokenStatus
from aio_authgrpc._tokens.events import (
    CallReplayed,
    EventStream,
    RefreshFailed,
    RefreshStarted,
    RefreshSucceeded,
    StaleServed,
    TokenEvent,
    TokenRejected,
)
from aio_authgrpc._tokens.freshness import TokenState
from aio_authgrpc._tokens.source import KeyedTokenSource, LoadableTokenSource, TokenRequest, TokenSource
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import (
    AuthGrpcError,
    AuthRpcError,
    ChannelClosedError,
    ClientCertificateError,
    ConfigurationError,
    ConnectionNotReadyError,
    TlsArgumentsError,
    TokenDeadlineExceededError,
    TokenRefusedError,
    TokenUnavailableError,
    WrongEventLoopError,
)

__version__ = "0.1.0"

__all__ = [
    "AiohttpRequest",
    "AuthGrpcError",
    "AuthMetadataPlugin",
    "AuthRpcError",
    "AuthorizedChannel",
    "CallReplayed",
    "ChannelClosedError",
    "ClientCertificateError",
    "Clock",
    "ConfigurationError",
    "Connection",
    "ConnectionNotReadyError",
    "DefaultCredentialsExplanation",
    "EventStream",
    "IdTokenSource",
    "Identity",
    "KeyedTokenSource",
    "LoadableTokenSource",
    "RefreshFailed",
    "RefreshStarted",
    "RefreshSucceeded",
    "SslCredentials",
    "StaleServed",
    "SystemClock",
    "TlsArgumentsError",
    "Token",
    "TokenCache",
    "TokenDeadlineExceededError",
    "TokenEvent",
    "TokenRefusedError",
    "TokenRejected",
    "TokenRequest",
    "TokenSource",
    "TokenState",
    "TokenStatus",
    "TokenUnavailableError",
    "WrongEventLoopError",
    "anonymous",
    "api_key",
    "authorized_user",
    "client_certificate_files",
    "compute_engine",
    "connect",
    "default",
    "external_account",
    "external_account_authorized_user",
    "gdch_service_account",
    "id_token",
    "identity",
    "impersonated_service_account",
    "insecure_authorized_channel",
    "secure_authorized_channel",
    "service_account",
    "service_account_jwt",
    "static_token",
    "token_source",
]
