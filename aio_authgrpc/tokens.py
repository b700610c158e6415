"""Tokens and how they are kept: the types of a token source, the cache, and the clock that both go by."""

from aio_authgrpc._loop.clock import Clock, SystemClock
from aio_authgrpc._tokens.cache import TokenCache, TokenStatus
from aio_authgrpc._tokens.freshness import TokenState
from aio_authgrpc._tokens.token import LoadableTokenSource, Token, TokenRequest, TokenSource

__all__ = [
    "Clock",
    "LoadableTokenSource",
    "SystemClock",
    "Token",
    "TokenCache",
    "TokenRequest",
    "TokenSource",
    "TokenState",
    "TokenStatus",
]
