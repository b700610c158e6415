"""A channel's view of its token cache: the token as ready metadata, and the calls that wait for it."""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, Protocol

import grpc.aio

from aio_authgrpc.errors import AuthRpcError, ChannelClosedError, ConfigurationError, WrongEventLoopError
from aio_authgrpc.token import Metadata, Token

if TYPE_CHECKING:
    from aio_authgrpc.cache import TokenCache

CallMetadata = grpc.aio.Metadata | Sequence[tuple[str, str | bytes]]
"""What grpc.aio takes as `metadata=`."""
CallerMetadata = tuple[tuple[str, str | bytes], ...]
"""The same, checked."""


_API_KEY_HEADERS = ("x-api-key", "x-goog-api-key")


class WaitingCall(Protocol):
    """A call that has not got its token yet, as the channel sees it when it closes."""

    @property
    def waiting_task(self) -> asyncio.Task[None]:
        """Ends when the call waits no more."""
        ...

    def abandon(self, error: AuthRpcError) -> None:
        """End the call with this error."""
        ...


class Authorization:
    """A token and what it adds to an RPC on one channel."""

    __slots__ = ("metadata", "token")

    def __init__(self, token: Token, metadata: Metadata) -> None:
        self.token = token
        self.metadata = metadata


class Authorizer:
    """Turns tokens into metadata, once for each token, and keeps count of the calls that wait.

    Args:
        cache: Where the tokens are.
        header: The metadata key that they go to.
        metadata: What else every call of the channel carries.
    """

    def __init__(self, cache: TokenCache, *, header: str, metadata: Metadata) -> None:
        self._cache = cache
        self._header = header
        self._metadata = metadata
        self._authorization: Authorization | None = None
        # The loop, or None once closed: one comparison on the hot path finds out both.
        cache.check_usable()
        self._open_on: asyncio.AbstractEventLoop | None = get_running_loop()
        self.closed = False
        # What a caller may not send beside it: the token's header, and that of an API key.
        self._reserved = {header, *(key for key, _ in metadata if key in _API_KEY_HEADERS)}
        self.waiting: set[WaitingCall] = set()

    def check_usable(self) -> None:
        """Raise unless this is the channel's loop and the channel is open.

        Raises:
            ChannelClosedError, WrongEventLoopError: As their names say.
        """
        try:
            if get_running_loop() is self._open_on:
                return
        except RuntimeError:  # none runs here
            pass
        self._raise_unusable()

    def _raise_unusable(self) -> NoReturn:
        if self.closed:
            raise ChannelClosedError(
                "The channel was closed.",
                hint="Use a stub inside of its `async with`; opening the connection again yields a new one.",
            )
        raise WrongEventLoopError(
            "The channel belongs to another event loop, or was called where none runs.",
            hint="Open it on the loop, and in the process, that uses it: after a fork, not before.",
        )

    def current(self) -> Authorization | None:
        """Return what to send now, or None where a call has to wait. Never waits."""
        token, known = self._cache.current(), self._authorization
        if known is not None and known.token is token:
            return known
        return None if token is None else self._of(token)

    async def get(self, timeout: float | None) -> Authorization:
        """Return what to send, waiting `timeout` seconds at most; see `TokenCache.get`."""
        return self._of(await self._cache.get(timeout=timeout))

    def _of(self, token: Token) -> Authorization:
        known = self._authorization
        if known is not None and known.token is token:
            return known
        # What the user fixed for the channel stands above what the credential brings along.
        fixed = {key for key, _ in self._metadata}
        if any(key == self._header for key, _ in token.metadata):
            raise ConfigurationError(
                f"the token's own metadata holds {self._header!r}, which the token itself goes to.",
                field="credentials",
            )
        brought = (entry for entry in token.as_metadata(self._header) if entry[0] not in fixed)
        self._authorization = Authorization(token, (*self._metadata, *brought))
        return self._authorization

    def reject(self, token: Token) -> bool:
        """Take a refused token back; see `TokenCache.reject`."""
        return self._cache.reject(token)

    def checked(self, metadata: CallMetadata) -> CallerMetadata:
        """Return a caller's own metadata.

        Raises:
            ConfigurationError: It is no metadata, or holds a header that the channel fills.
        """
        entries = tuple(metadata)
        for entry in entries:
            if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)):
                raise ConfigurationError(
                    "expected pairs of a key and a value.",
                    field="metadata",
                    hint="Write (('key', 'value'),).",
                )
        for key, _ in entries:
            if key.lower() in self._reserved:
                raise ConfigurationError(
                    f"the channel fills {key.lower()!r} itself, and the server would get two.",
                    field="metadata",
                    hint="Leave it out, or use a plain grpc.aio channel for this call.",
                )
        return entries

    def refuse_new_calls(self) -> None:
        """Let no further call begin; those that wait go on."""
        self._open_on, self.closed = None, True

    async def wait_for_waiting_calls(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until no call waits for its token any more."""
        if timeout > 0 and self.waiting:
            await asyncio.wait({call.waiting_task for call in self.waiting}, timeout=timeout)

    def abandon_waiting_calls(self) -> None:
        """End the calls that still wait, with `ChannelClosedError`."""
        for call in tuple(self.waiting):
            call.abandon(
                ChannelClosedError(
                    "The channel was closed while the call waited for its token.",
                    hint="Await calls before leaving the `async with`, or close(grace=...) the channel.",
                )
            )
