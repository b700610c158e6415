"""A token source whose google-auth credential is made when it is first needed, off the loop."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aio_authgrpc._checks.pickling import NotPickled
from aio_authgrpc._sources.google_auth import GoogleCredentialsSource
from aio_authgrpc._tokens.source import CacheKey, TokenRequest
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import AuthGrpcError, ConfigurationError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials


class LazyCredentialsSource(NotPickled):
    """What the functions for Google's identities return: a source that reads, and makes, its credential once.

    One object may serve any number of channels; those with the same audience, and all where the token
    is good for every audience, share one cached token.

    Args:
        name: Its `repr`.
        make: Makes the credential. Whatever blocks in it runs in a thread.
    """

    def __init__(self, name: str, make: Callable[[TokenRequest], Awaitable[GoogleCredentialsSource]]) -> None:
        self._name = name
        self._make = make
        self._source: GoogleCredentialsSource | None = None
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._failures = 0
        self._last_failure: AuthGrpcError | None = None

    def cache_key(self, audience: str) -> CacheKey:
        """Return the key of the tokens; the source stands for its credential, which no other has."""
        return CacheKey(self, audience if self._source is None else self._source.cache_key(audience).audience)

    async def google_credentials(self, request: TokenRequest) -> Credentials:
        """Return google-auth's credential, made at the first call.

        Raises:
            ConfigurationError: A file or the environment cannot be used.
        """
        return (await self._loaded(request)).credentials

    async def load(self, request: TokenRequest) -> None:
        """Read and check what the credential is made of. Cancelling it leaves nothing behind.

        Raises:
            ConfigurationError: It cannot be used; the message names the path and the field.
        """
        await (await self._loaded(request)).load(request)

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the credential's token, refreshed if need be."""
        return await (await self._loaded(request)).fetch(request)

    async def _loaded(self, request: TokenRequest) -> GoogleCredentialsSource:
        failures = self._failures
        if request.http.closed:  # this caller's own mistake, and not to be told to others
            raise ConfigurationError("it was closed.", field="request")
        async with self._lock_of_this_loop():
            if self._source is None:
                if self._last_failure is not None and self._failures > failures:
                    failure = copy.copy(self._last_failure)  # of the attempt that this one waited for
                    raise failure from self._last_failure.__cause__
                self._source = await self._make_once(request)
            return self._source

    async def _make_once(self, request: TokenRequest) -> GoogleCredentialsSource:
        try:
            return await self._make(request)
        except AuthGrpcError as error:
            self._failures += 1
            self._last_failure = copy.copy(error)  # without the traceback
            self._last_failure.__cause__ = error.__cause__
            raise

    def _lock_of_this_loop(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = (loop, asyncio.Lock())
        return self._lock[1]

    def __repr__(self) -> str:
        return self._name
