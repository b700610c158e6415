"""Tokens and how they are kept: the types of a token source, the cache, and the clock of both."""

from aio_authgrpc._http.request import HttpResponse
from aio_authgrpc._loop.clock import Clock, SystemClock
from aio_authgrpc._sources.shared_cache import shared_cache
from aio_authgrpc._tokens.cache import TokenCache
from aio_authgrpc._tokens.freshness import TokenState, TokenStatus
from aio_authgrpc._tokens.metadata import Metadata
from aio_authgrpc._tokens.source import (
    CacheKey,
    HoldingTokenSource,
    KeyedTokenSource,
    LoadableTokenSource,
    TokenRequest,
    TokenSource,
)
from aio_authgrpc._tokens.token import Token

__all__ = [
    "CacheKey",
    "Clock",
    "HoldingTokenSource",
    "HttpResponse",
    "KeyedTokenSource",
    "LoadableTokenSource",
    "Metadata",
    "SystemClock",
    "Token",
    "TokenCache",
    "TokenRequest",
    "TokenSource",
    "TokenState",
    "TokenStatus",
    "shared_cache",
]
