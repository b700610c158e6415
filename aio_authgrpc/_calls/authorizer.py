"""The token as ready metadata, and the metadata that stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import grpc
import grpc.aio

from aio_authgrpc._calls.call_status import challenge_of, final_code
from aio_authgrpc._calls.sent_metadata import Pairs, SharedMetadata
from aio_authgrpc._tokens.cache import TokenWaiter
from aio_authgrpc._tokens.metadata import Metadata, check_sendable
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import ConfigurationError, TokenRefusedError

CallMetadata = grpc.aio.Metadata | Sequence[tuple[str, str | bytes]]
"""What grpc.aio takes as `metadata=`."""
CallerMetadata = Pairs
"""The same, checked."""


class Tokens(Protocol):
    """What an authorizer asks of a `TokenCache`, or of several."""

    def current(self) -> Token | None: ...

    def wait(self, waiter: TokenWaiter, /) -> None: ...

    def leave(self, waiter: TokenWaiter, /) -> None: ...

    def reject(self, token: Token, *, challenge: str = "") -> bool: ...

    def say_replayed(self) -> None: ...


class Authorization:
    """A token and what it adds to an RPC on one channel."""

    __slots__ = ("_authorizer", "metadata", "token")

    is_awaited = False  # see `CallOwner`

    def __init__(self, authorizer: Authorizer, token: Token, metadata: SharedMetadata) -> None:
        self._authorizer = authorizer
        self.token = token
        self.metadata = metadata

    def on_done(self, call: grpc.aio.Call) -> None:
        """Take the token of a call that ended with UNAUTHENTICATED back; the call itself stays as it is."""
        if final_code(call) is grpc.StatusCode.UNAUTHENTICATED:
            self._authorizer.reject(self.token, challenge=challenge_of(call))


class Authorizer:
    """Turns tokens into metadata, once for each token.

    The token goes to `header`, beside the fixed `metadata`; a caller may not send the `reserved` keys. With
    `replay`, a call that is refused may be sent again.
    """

    __slots__ = ("_last", "_tokens", "header", "metadata", "replay", "reserved")

    def __init__(
        self,
        tokens: Tokens,
        *,
        header: str,
        metadata: Metadata,
        reserved: frozenset[str],
        replay: bool = True,
    ) -> None:
        self._tokens = tokens
        self.header = header
        self.metadata = metadata
        self.reserved = reserved
        self.replay = replay
        self._last: Authorization | None = None

    def current(self) -> Authorization | None:
        """Return what to send now, or None where a call has to wait. Never waits."""
        try:
            token, last = self._tokens.current(), self._last
            if last is not None and last.token is token:
                return last
            return None if token is None else self.authorization(token)
        except TokenRefusedError:
            # Such a token cannot be sent, as the call that waits for it is told when it comes.
            return None

    def wait(self, waiter: TokenWaiter) -> None:
        """Tell `waiter` the next token; see `TokenCache.wait`."""
        self._tokens.wait(waiter)

    def leave(self, waiter: TokenWaiter) -> None:
        self._tokens.leave(waiter)

    def authorization(self, token: Token) -> Authorization:
        """Return what to send with a token.

        Raises:
            TokenRefusedError: It cannot be sent.
        """
        last = self._last
        if last is not None and last.token is token:
            return last
        # The channel's fixed metadata overrides what the credential brings along.
        fixed = {key for key, _ in self.metadata}
        brought = (entry for entry in token.as_metadata(self.header) if entry[0] not in fixed)
        self._last = Authorization(self, token, SharedMetadata((*self.metadata, *brought)))
        return self._last

    def forget(self) -> None:
        """Keep no token any more: the channel is closed, and a stub that a user holds holds this."""
        self._last = None

    def reject(self, token: Token, *, challenge: str = "") -> bool:
        """Take a refused token back; see `TokenCache.reject`."""
        return self._tokens.reject(token, challenge=challenge)

    def say_replayed(self) -> None:
        """Tell the listeners of the cache that a refused call is sent once more."""
        self._tokens.say_replayed()

    def checked(self, metadata: CallMetadata) -> CallerMetadata:
        """Return a caller's own metadata.

        Raises:
            ConfigurationError: It has another shape, a key that the channel fills, or what gRPC cannot send.
        """
        entries = tuple(metadata)
        for entry in entries:
            # Lists as well: grpc.aio takes whatever can be unpacked.
            if not (isinstance(entry, (tuple, list)) and len(entry) == 2 and isinstance(entry[0], str)):
                raise ConfigurationError(
                    "expected pairs of a key and a value.",
                    field="metadata",
                    hint="Write (('key', 'value'),).",
                )
        for key, value in entries:
            lowered = key.lower()
            if lowered in self.reserved:
                raise ConfigurationError(
                    f"the channel fills {lowered!r} itself, and the server would get two.",
                    field="metadata",
                    hint="Leave it out, or use a plain grpc.aio channel for this call.",
                )
            if lowered != key:  # gRPC ends such a call with an error of its inside
                raise ConfigurationError(
                    f"the key {key!r} is not in lower case.", field="metadata", hint=f"Write {lowered!r}."
                )
            check_sendable(key, value)
        # Pairs of our own: a list could be changed until gRPC sends it.
        return tuple((key, value) for key, value in entries)
