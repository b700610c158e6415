"""Authenticated gRPC clients for asyncio.

    async with aio_authgrpc.connect("host", BookstoreStub, credentials=...) as bookstore:
        await bookstore.ListShelves(Empty())

See `connect` first. The errors are a tree in `aio_authgrpc.errors`.
"""

from aio_authgrpc.cache import TokenCache, TokenState, TokenStatus
from aio_authgrpc.certificates import client_certificate_files
from aio_authgrpc.channel import AuthorizedChannel
from aio_authgrpc.client import Connection, connect
from aio_authgrpc.clock import Clock, SystemClock
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
from aio_authgrpc.http import AiohttpRequest
from aio_authgrpc.opening import insecure_authorized_channel, secure_authorized_channel
from aio_authgrpc.plugin import AuthMetadataPlugin
from aio_authgrpc.sources.api_key import api_key
from aio_authgrpc.sources.default import default
from aio_authgrpc.sources.service_account import service_account
from aio_authgrpc.sources.signed_jwt import service_account_jwt
from aio_authgrpc.sources.static import anonymous, static_token, token_source
from aio_authgrpc.tls import SslCredentials
from aio_authgrpc.token import LoadableTokenSource, Token, TokenRequest, TokenSource

__version__ = "0.1.0"

__all__ = [
    "AiohttpRequest",
    "AuthGrpcError",
    "AuthMetadataPlugin",
    "AuthRpcError",
    "AuthorizedChannel",
    "ChannelClosedError",
    "ClientCertificateError",
    "Clock",
    "ConfigurationError",
    "Connection",
    "ConnectionNotReadyError",
    "LoadableTokenSource",
    "SslCredentials",
    "SystemClock",
    "TlsArgumentsError",
    "Token",
    "TokenCache",
    "TokenDeadlineExceededError",
    "TokenRefusedError",
    "TokenRequest",
    "TokenSource",
    "TokenState",
    "TokenStatus",
    "TokenUnavailableError",
    "WrongEventLoopError",
    "anonymous",
    "api_key",
    "client_certificate_files",
    "connect",
    "default",
    "insecure_authorized_channel",
    "secure_authorized_channel",
    "service_account",
    "service_account_jwt",
    "static_token",
    "token_source",
]
