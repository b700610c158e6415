"""The factories of channels: what they open, and who closes it."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict, Unpack

import google.auth.transport
import grpc
import grpc.aio

from aio_authgrpc._calls.channel import AuthorizedChannel
from aio_authgrpc._channels.pool import ChannelPool
from aio_authgrpc._channels.rotating import RotatingChannel
from aio_authgrpc._client.arguments import ChannelSettings, Options, channel_settings
from aio_authgrpc._http.request import own_request
from aio_authgrpc._sources.credentials import CredentialsType
from aio_authgrpc._tls.credentials import ClientCertCallback, SslCredentials, TlsSettings, TlsSource
from aio_authgrpc._tls.pem import StrPath
from aio_authgrpc._tokens.shared import open_shared_cache
from aio_authgrpc.errors import ConfigurationError


async def open_channel(settings: ChannelSettings) -> AuthorizedChannel:
    """Read what has to be read, off the loop, and make the channel. No RPC is made.

    Cancelling it closes what it had opened.

    Raises:
        ConfigurationError: A file or the environment cannot be used.
        ClientCertificateError: There is no client certificate to be had, or it cannot be used.
    """
    auth, close_auth = await open_shared_cache(
        settings.source, audience=settings.audience, request=settings.request, keep_warm=settings.keep_warm
    )
    stop_events = None if settings.on_event is None else auth.subscribe(settings.on_event)

    async def close() -> None:
        if stop_events is not None:
            stop_events()
        await close_auth()

    try:
        channel = await _inner_channel(settings)
        return AuthorizedChannel(
            channel,
            auth,
            header=settings.header,
            metadata=settings.metadata,
            audience=settings.audience,
            close_auth=close,
            in_the_clear=settings.target.address if settings.warns_of_identities else None,
        )
    except BaseException:
        await close()
        raise


async def _inner_channel(settings: ChannelSettings) -> grpc.aio.Channel:
    """Make what carries the RPCs: one connection or several, replaced when its certificates have changed."""
    given = settings.ssl_credentials
    if settings.plaintext:
        return _connections(settings, None)
    if given is not None:
        loaded = (await given.load()).ssl_credentials if isinstance(given, SslCredentials) else given
        return _connections(settings, loaded)
    source = TlsSource(settings.root_certificates, settings.client_cert_callback)
    tls = await source.read()

    def make(tls: TlsSettings) -> grpc.aio.Channel:
        return _connections(settings, tls.channel_credentials())

    interval = settings.certificate_refresh_interval
    if interval is None or not source.may_change:
        return make(tls)
    return RotatingChannel(make, tls, source.read, interval=interval)


def _connections(settings: ChannelSettings, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
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


class ChannelArguments(TypedDict, total=False):
    """What the seed's `**kwargs` may hold: they reach `grpc.aio.secure_channel` as they are."""

    options: Options | None
    compression: grpc.Compression | None
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None


class SecureChannelArguments(ChannelArguments, total=False):
    """The same, and what `connect` has for certificates."""

    root_certificates: StrPath | bytes | None
    certificate_refresh_interval: float | None


class OpeningChannel:
    """A channel to be: `await` it and close the channel yourself, or open and close it with `async with`."""

    def __init__(self, settings: ChannelSettings) -> None:
        self._settings = settings
        self._opening = False
        self._channel: AuthorizedChannel | None = None

    if not TYPE_CHECKING:  # type checkers see the mistake by themselves

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"The channel is not open yet, and has no {name!r}: write 'channel = await "
                "secure_authorized_channel(...)', or 'async with secure_authorized_channel(...) as channel'.",
                name=name,
                obj=self,
            )

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
    request: google.auth.transport.Request | None,
    target: str,
    ssl_credentials: grpc.ChannelCredentials | SslCredentials | None = None,
    client_cert_callback: ClientCertCallback | None = None,
    **kwargs: Unpack[SecureChannelArguments],
) -> OpeningChannel:
    """Open a channel over TLS: google-auth's function of this name, for asyncio (seed 000).

    Either `channel = await secure_authorized_channel(...)`, closed by whoever awaits it, or `async
    with secure_authorized_channel(...) as channel:`.

    Without `ssl_credentials` and `client_cert_callback` the application default client certificate is
    used, where there is one; see `SslCredentials`.

    Args:
        credentials: A google-auth credential, a `TokenSource`, or None for the default ones.
        request: The HTTP transport for tokens, an `AiohttpRequest`. It stays the caller's; None makes one
            for the channel. Another of google-auth's, such as its `requests.Request()`, is taken and
            left unused, because it would block: the channel makes an `AiohttpRequest` in its place.
        target: See `connect`.
        ssl_credentials: TLS settings, such as `grpc.ssl_channel_credentials(root_certificates=...)`, or
            `SslCredentials()`.
        client_cert_callback: Returns the client's certificate chain and key for mutual TLS, as PEM
            bytes; a plain function runs in a thread. It excludes `ssl_credentials`, and is not called
            where `GOOGLE_API_USE_CLIENT_CERTIFICATE` is set to anything but `true`.
        **kwargs: `options`, `compression` and `interceptors` for `grpc.aio.secure_channel`.
            Interceptors see the token's metadata. `root_certificates` and
            `certificate_refresh_interval` as for `connect`.

    Raises:
        ConfigurationError: The arguments cannot be used; files show when the channel is opened.
        TlsArgumentsError: `ssl_credentials` and `client_cert_callback` are both given.
        ClientCertificateError: On opening: there is no client certificate to be had, or it cannot be
            used. It is google-auth's `MutualTLSChannelError` too.
    """
    if isinstance(request, str):
        raise ConfigurationError(
            "expected an AiohttpRequest or None, not str.",
            field="request",
            hint="The order is credentials, request, target.",
        )
    check_keywords("secure_authorized_channel", kwargs, SecureChannelArguments)
    return OpeningChannel(
        channel_settings(
            target,
            credentials,
            request=own_request(request),
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
    check_keywords("insecure_authorized_channel", kwargs, ChannelArguments)
    return OpeningChannel(channel_settings(target, credentials, plaintext=True, **kwargs))


def check_keywords(function: str, given: Mapping[str, object], allowed: type) -> None:
    """Refuse keyword arguments that a function's TypedDict does not name, as a signature would.

    Raises:
        TypeError: There is one.
    """
    unknown = given.keys() - allowed.__annotations__.keys()
    if unknown:
        raise TypeError(f"{function}() got an unexpected keyword argument {min(unknown)!r}")
