"""`AuthorizedChannel`, a grpc.aio channel that adds the token, and the factories that open one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack, cast

import grpc
import grpc.aio

from aio_authgrpc.authorization import Authorizer
from aio_authgrpc.cache import TokenCache
from aio_authgrpc.errors import ConfigurationError, check_type
from aio_authgrpc.http import AiohttpRequest
from aio_authgrpc.multi_callables import (
    StreamStreamMultiCallable,
    StreamUnaryMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)
from aio_authgrpc.pool import ChannelPool
from aio_authgrpc.sources import CredentialsType, as_token_source
from aio_authgrpc.target import Target, parse_target
from aio_authgrpc.tls import ClientCertCallback, channel_credentials, check_tls_arguments
from aio_authgrpc.token import Metadata, TokenSource, checked_header, is_metadata_text

Request = TypeVar("Request")
Response = TypeVar("Response")
Options = Sequence[tuple[str, object]]
"""gRPC channel arguments (https://grpc.github.io/grpc/core/group__grpc__arg__keys.html)."""


class AuthorizedChannel(grpc.aio.Channel):
    """A `grpc.aio.Channel` that adds a token to every RPC of another channel, in all four arities.

    Any generated stub takes it. Made on the loop that uses it, and closed with it: `await
    channel.close()`, or `async with`.

    Args:
        channel: The channel that carries the RPCs. It is closed with this one.
        auth: Where the tokens are.
        header: The metadata key that they go to.
        metadata: What else every RPC carries.
        owns_auth: Whether closing the channel closes `auth` too; leave it False for a cache that
            several channels share, and close that yourself.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        auth: TokenCache,
        *,
        header: str = "authorization",
        metadata: Metadata = (),
        owns_auth: bool = False,
    ) -> None:
        self._closed = True  # until it is complete, so that __del__ has nothing to say
        self._channel = channel
        # Generated stubs pass `_registered_method`, which the type stubs of grpc.aio.Channel lack.
        self._untyped_channel: Any = channel
        self._auth = auth
        self._owns_auth = owns_auth
        header = checked_header(header)
        fixed = _fixed_metadata(header, None, None, metadata)
        self._authorizer = Authorizer(auth, header=header, metadata=fixed)
        self._closed = False

    @property
    def auth(self) -> TokenCache:
        """The token cache; `channel.auth.status()` tells its state."""
        return self._auth

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnaryMultiCallable[Request, Response]:
        """See `grpc.aio.Channel.unary_unary`."""
        inner: grpc.aio.UnaryUnaryMultiCallable[Request, Response] = self._untyped_channel.unary_unary(
            method, request_serializer, response_deserializer, _registered_method
        )
        return UnaryUnaryMultiCallable(inner, self._authorizer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStreamMultiCallable[Request, Response]:
        """See `grpc.aio.Channel.unary_stream`."""
        inner: grpc.aio.UnaryStreamMultiCallable[Request, Response] = self._untyped_channel.unary_stream(
            method, request_serializer, response_deserializer, _registered_method
        )
        return UnaryStreamMultiCallable(inner, self._authorizer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnaryMultiCallable[Request, Response]:
        """See `grpc.aio.Channel.stream_unary`."""
        inner: grpc.aio.StreamUnaryMultiCallable[Request, Response] = self._untyped_channel.stream_unary(
            method, request_serializer, response_deserializer, _registered_method
        )
        return StreamUnaryMultiCallable(inner, self._authorizer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Request], bytes] | None = None,
        response_deserializer: Callable[[bytes], Response] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStreamMultiCallable[Request, Response]:
        """See `grpc.aio.Channel.stream_stream`."""
        inner: grpc.aio.StreamStreamMultiCallable[Request, Response] = self._untyped_channel.stream_stream(
            method, request_serializer, response_deserializer, _registered_method
        )
        return StreamStreamMultiCallable(inner, self._authorizer)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel.get_state`."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `grpc.aio.Channel.wait_for_state_change`."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the server is connected; the token is not asked for."""
        await self._channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Refuse new RPCs at once, and end those under way. Calling it again does nothing.

        Args:
            grace: Seconds to let RPCs finish, those included that wait for their token; None or 0
                cancels them now. A call that waits for its token gets `ChannelClosedError`.
        """
        if self._closed:
            return
        self._closed = True
        ends_at, left = monotonic() + (grace or 0.0), 0.0
        self._authorizer.refuse_new_calls()
        try:
            await self._authorizer.wait_for_waiting_calls(grace or 0.0)
            left = max(0.0, ends_at - monotonic())
        finally:  # whoever cancels the wait gets no more of it
            self._authorizer.abandon_waiting_calls()
            try:
                await self._channel.close(left or None)
            finally:
                if self._owns_auth:
                    await self._auth.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(
                "An AuthorizedChannel was never closed.", ResourceWarning, source=self, stacklevel=2
            )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ChannelSettings:
    """What a channel is opened from: arguments that were checked, nothing that is open."""

    target: Target
    source: TokenSource
    audience: str
    header: str
    metadata: Metadata
    ssl_credentials: grpc.ChannelCredentials | None
    client_cert_callback: ClientCertCallback | None
    plaintext: bool
    options: Options
    compression: grpc.Compression | None
    interceptors: Sequence[grpc.aio.ClientInterceptor]
    request: AiohttpRequest | None
    pool_size: int
    keep_warm: bool


def channel_settings(  # noqa: PLR0913 - the arguments of `connect`, each of which it explains
    target: str,
    credentials: CredentialsType,
    *,
    audience: str | None = None,
    ssl_credentials: grpc.ChannelCredentials | None = None,
    client_cert_callback: ClientCertCallback | None = None,
    plaintext: bool = False,
    authority: str | None = None,
    api_key: str | None = None,
    quota_project_id: str | None = None,
    metadata: Sequence[tuple[str, str]] | Mapping[str, str] = (),
    header: str = "authorization",
    options: Options | None = None,
    compression: grpc.Compression | None = None,
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None = None,
    request: AiohttpRequest | None = None,
    pool_size: int = 1,
    keep_warm: bool = False,
) -> ChannelSettings:
    """Check the arguments of a factory, at the call that makes the mistake.

    Raises:
        ConfigurationError: One of them cannot be used; `field` names it.
    """
    check_type("audience", audience, str, type(None))
    check_type("plaintext", plaintext, bool)
    check_type("authority", authority, str, type(None))
    check_type("api_key", api_key, str, type(None))
    check_type("quota_project_id", quota_project_id, str, type(None))
    check_type("header", header, str)
    check_type("compression", compression, grpc.Compression, type(None))
    check_type("request", request, AiohttpRequest, type(None))
    check_type("pool_size", pool_size, int)
    check_type("keep_warm", keep_warm, bool)
    parsed = parse_target(target)
    check_tls_arguments(ssl_credentials, client_cert_callback, plaintext=plaintext)
    source = as_token_source(credentials)
    header = checked_header(getattr(source, "header", header))
    options = _pairs("options", options, "[('grpc.keepalive_time_ms', 30_000)]")
    interceptors = _checked_interceptors(interceptors)
    if pool_size < 1:
        raise ConfigurationError(f"{pool_size!r} is less than 1.", field="pool_size")
    if authority is not None:
        options = (*options, ("grpc.default_authority", authority))
    if plaintext and not parsed.is_local:
        warnings.warn(
            f"Tokens for {parsed.address} cross the network in the clear.",
            UserWarning,
            stacklevel=3,
        )
    return ChannelSettings(
        target=parsed,
        source=source,
        audience=parsed.audience if audience is None else audience,
        header=header,
        metadata=_fixed_metadata(header, api_key, quota_project_id, metadata),
        ssl_credentials=ssl_credentials,
        client_cert_callback=client_cert_callback,
        plaintext=plaintext,
        options=options,
        compression=compression,
        interceptors=interceptors,
        request=request,
        pool_size=pool_size,
        keep_warm=keep_warm,
    )


async def open_channel(settings: ChannelSettings) -> AuthorizedChannel:
    """Read what has to be read, off the loop, and make the channel. No RPC is made.

    Cancelling it closes what it had opened.

    Raises:
        ConfigurationError: A file or the environment cannot be used.
        google.auth.exceptions.MutualTLSChannelError: There is no client certificate to be had.
    """
    auth = TokenCache(
        settings.source, audience=settings.audience, request=settings.request, keep_warm=settings.keep_warm
    )
    try:
        await auth.load()
        channel = await _inner_channel(settings)
    except BaseException:
        await auth.aclose()
        raise
    return AuthorizedChannel(
        channel, auth, header=settings.header, metadata=settings.metadata, owns_auth=True
    )


async def _inner_channel(settings: ChannelSettings) -> grpc.aio.Channel:
    credentials = None
    if not settings.plaintext:
        credentials = await channel_credentials(settings.ssl_credentials, settings.client_cert_callback)

    def make(options: Options) -> grpc.aio.Channel:
        # Called through the module at run time: instrumentations replace these functions.
        address, rest = settings.target.address, (settings.compression, list(settings.interceptors) or None)
        if credentials is None:
            return grpc.aio.insecure_channel(address, options, *rest)
        return grpc.aio.secure_channel(address, credentials, options, *rest)

    if settings.pool_size == 1:
        return make(settings.options)
    # Channels with equal arguments may share one connection.
    return ChannelPool(
        [make((*settings.options, ("aio_authgrpc.connection", n))) for n in range(settings.pool_size)]
    )


def _listed(given: Any) -> list[Any]:
    """Return what was passed as a list; one with None in it where it is no list of anything."""
    return [None] if isinstance(given, str) or not hasattr(given, "__iter__") else list(given)


def _pairs(field: str, given: Any, example: str) -> list[tuple[str, object]]:
    """Return what was passed as pairs of a name and a value.

    Raises:
        ConfigurationError: It is something else; `example` says what to write.
    """
    given = {} if given is None else given
    items: Any = given.items() if hasattr(given, "items") else given
    pairs = _listed(items)
    if not all(isinstance(pair, tuple) and len(cast("Any", pair)) == 2 for pair in pairs) or not all(
        isinstance(name, str) for name, _ in pairs
    ):
        raise ConfigurationError(
            "expected pairs of a name and a value.", field=field, hint=f"For example {example}."
        )
    return pairs


def _checked_interceptors(
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None,
) -> Sequence[grpc.aio.ClientInterceptor]:
    items = _listed(() if interceptors is None else interceptors)
    if not all(isinstance(item, grpc.aio.ClientInterceptor) for item in items):
        raise ConfigurationError("expected a list of grpc.aio client interceptors.", field="interceptors")
    return items


def _fixed_metadata(
    header: str,
    api_key: str | None,
    quota_project_id: str | None,
    metadata: Sequence[tuple[str, str]] | Mapping[str, str],
) -> Metadata:
    pairs = _pairs("metadata", metadata, "{'x-team': 'blue'}")
    entries = [("metadata", checked_header(key, "metadata"), value) for key, value in pairs]
    if api_key is not None:
        entries.append(("api_key", "x-api-key", api_key))
    if quota_project_id is not None:
        entries.append(("quota_project_id", "x-goog-user-project", quota_project_id))
    fixed: list[tuple[str, str]] = []
    for argument, key, value in entries:
        if not isinstance(value, str) or not value or not is_metadata_text(value):
            raise ConfigurationError(f"the value of {key!r} is not printable ASCII text.", field=argument)
        if key == header:
            raise ConfigurationError(f"{key!r} is what the token goes to.", field=argument)
        fixed.append((key, value))
    return tuple(fixed)


class ChannelArguments(TypedDict, total=False):
    """What the seed's `**kwargs` may hold: they reach `grpc.aio.secure_channel` as they are."""

    options: Options | None
    compression: grpc.Compression | None
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None


class OpeningChannel:
    """A channel to be: `await` it and close the channel yourself, or open and close it with `async with`."""

    def __init__(self, settings: ChannelSettings) -> None:
        self._settings = settings
        self._opening = False
        self._channel: AuthorizedChannel | None = None

    def __await__(self) -> Generator[Any, None, AuthorizedChannel]:
        return open_channel(self._settings).__await__()

    async def __aenter__(self) -> AuthorizedChannel:
        # Check and set without an await between them.
        if self._opening or self._channel is not None:
            raise ConfigurationError("it is open already.", field="channel")
        self._opening = True
        try:
            self._channel = await open_channel(self._settings)
        finally:
            self._opening = False
        return self._channel

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()


def secure_authorized_channel(
    credentials: CredentialsType,
    request: AiohttpRequest | None,
    target: str,
    ssl_credentials: grpc.ChannelCredentials | None = None,
    client_cert_callback: ClientCertCallback | None = None,
    **kwargs: Unpack[ChannelArguments],
) -> OpeningChannel:
    """Open a channel over TLS: google-auth's function of this name, for asyncio (seed 000).

    Either `channel = await secure_authorized_channel(...)`, closed by whoever awaits it, or `async
    with secure_authorized_channel(...) as channel:`.

    Args:
        credentials: A google-auth credential, a `TokenSource`, or None for the default ones.
        request: The HTTP transport for tokens. It stays the caller's; None makes one for the channel.
        target: See `connect`.
        ssl_credentials: TLS settings, such as `grpc.ssl_channel_credentials(root_certificates=...)`.
        client_cert_callback: Returns the client's certificate chain and key for mutual TLS, as PEM
            bytes; a plain function runs in a thread. It excludes `ssl_credentials`.
        **kwargs: `options`, `compression` and `interceptors` for `grpc.aio.secure_channel`.
            Interceptors see the token's metadata.

    Raises:
        ConfigurationError: The arguments cannot be used; files show when the channel is opened.
        google.auth.exceptions.MutualTLSChannelError: On opening: the callback failed.
    """
    return OpeningChannel(
        channel_settings(
            target,
            credentials,
            request=request,
            ssl_credentials=ssl_credentials,
            client_cert_callback=client_cert_callback,
            **kwargs,
        )
    )


def insecure_authorized_channel(
    credentials: CredentialsType, target: str, **kwargs: Unpack[ChannelArguments]
) -> OpeningChannel:
    """Open a channel in the clear, for a server on this machine or behind a proxy that encrypts (seed 001).

    The name is the opt-in. Where the target is not this machine it warns, because whoever can read
    the network can use the token.

    Args:
        credentials: See `secure_authorized_channel`.
        target: See `connect`.
        **kwargs: `options`, `compression` and `interceptors` for `grpc.aio.insecure_channel`.

    Raises:
        ConfigurationError: The arguments cannot be used; files show when the channel is opened.
    """
    return OpeningChannel(channel_settings(target, credentials, plaintext=True, **kwargs))
