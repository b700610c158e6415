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
    """What the functions for Google's credentials return: makes its credential once, at the first need.

    One object may serve any number of channels. Those with the same audience share one cached token, and
    so do all where the token is good for every audience.

    Args:
        name: Its `repr`.
        make: Makes the credential; its blocking parts run in a worker thread.
    """

    def __init__(self, name: str, make: Callable[[TokenRequest], Awaitable[GoogleCredentialsSource]]) -> None:
        self._name = name
        self._make = make
        self._made: GoogleCredentialsSource | None = None
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._failures = 0
        self._last_failure: AuthGrpcError | None = None

    def cache_key(self, audience: str) -> CacheKey:
        """Return the key of the tokens.

        This object is the owner, not its credential: the key must not change when that is made.
        """
        return CacheKey(self, audience if self._made is None else self._made.cache_key(audience).audience)

    async def google_credentials(self, request: TokenRequest) -> Credentials:
        """Return google-auth's credential, made at the first call."""
        return (await self._source(request)).credentials

    async def load(self, request: TokenRequest) -> None:
        """Read and check what the credential is made of. Cancelling it leaves nothing behind.

        Raises:
            ConfigurationError: It cannot be used; the message names the path and the field.
        """
        await (await self._source(request)).load(request)

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the credential's token, refreshed if need be."""
        return await (await self._source(request)).fetch(request)

    async def _source(self, request: TokenRequest) -> GoogleCredentialsSource:
        failures = self._failures
        if request.http.closed:  # this caller's own mistake, which the others must not be told
            raise ConfigurationError("it was closed.", field="request")
        async with self._lock_of_this_loop():
            if self._made is None:
                if self._last_failure is not None and self._failures > failures:
                    failure = copy.copy(self._last_failure)  # of the attempt that this call waited for
                    raise failure from self._last_failure.__cause__
                self._made = await self._make_or_note_failure(request)
            return self._made

    async def _make_or_note_failure(self, request: TokenRequest) -> GoogleCredentialsSource:
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
