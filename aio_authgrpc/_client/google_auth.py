"""google-auth's channel factories, for asyncio (seed 000)."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NoReturn, Unpack

import google.auth.transport
import grpc

from aio_authgrpc._calls.channel import AuthorizedChannel
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._client.arguments import ChannelArguments, ChannelSettings, check_keywords
from aio_authgrpc._client.connect import Connection
from aio_authgrpc._client.opening import open_channel
from aio_authgrpc._http.request import own_request
from aio_authgrpc._sources.credentials import CredentialsType
from aio_authgrpc._tls.credentials import SslCredentials, check_client_certificate
from aio_authgrpc._tls.settings import ClientCertificate
from aio_authgrpc.errors import ConfigurationError, TlsArgumentsError


class OpeningChannel(Connection[AuthorizedChannel]):
    """What `secure_authorized_channel` and `insecure_authorized_channel` return.

    Either `await` it, and close the channel yourself, or open and close the channel with `async with`.
    """

    if not TYPE_CHECKING:  # type checkers report the mistake by themselves

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"The channel is not open yet, and has no {name!r}: write 'channel = await "
                "secure_authorized_channel(...)', or 'async with secure_authorized_channel(...) as channel'.",
                name=name,
                obj=self,
            )

    def __await__(self) -> Generator[Any, None, AuthorizedChannel]:
        return open_channel(self._settings).__await__()


@hiding_arguments
def secure_authorized_channel(
    credentials: CredentialsType,
    request: google.auth.transport.Request | None,
    target: str,
    ssl_credentials: grpc.ChannelCredentials | SslCredentials | None = None,
    client_cert_callback: ClientCertificate | None = None,
    *,
    replay: bool = True,
    **kwargs: Unpack[ChannelArguments],
) -> OpeningChannel:
    """Open a channel over TLS: google-auth's function of this name, for asyncio (seed 000).

    Either `channel = await secure_authorized_channel(...)`, and you close it, or `async with
    secure_authorized_channel(...) as channel:`.

    Without `ssl_credentials` and `client_cert_callback` the application default client certificate is
    used, where there is one; see `SslCredentials`.

    Args:
        credentials: A google-auth credential, a `TokenSource`, or None for the default ones.
        request: The HTTP transport for tokens, an `AiohttpRequest`. It stays the caller's; None makes one
            for the channel. Another of google-auth's, such as its `requests.Request()`, is accepted but
            not used, because it would block: the channel makes an `AiohttpRequest` instead.
        target: See `connect`.
        ssl_credentials: TLS settings: `SslCredentials(...)`, or `grpc.ssl_channel_credentials(...)`.
        client_cert_callback: Returns the client's certificate chain and key for mutual TLS, as PEM
            bytes; a plain function runs in a thread. It excludes `ssl_credentials`, and is not called
            where `GOOGLE_API_USE_CLIENT_CERTIFICATE` is set to anything but `true`.
        replay: See `connect`. google-auth's own channel sends no call a second time.
        **kwargs: `options`, `compression` and `interceptors` for `grpc.aio.secure_channel`.
            Interceptors see the token's metadata.

    Raises:
        ConfigurationError: An argument cannot be used; a file is read when the channel is opened.
        TlsArgumentsError: `ssl_credentials` and `client_cert_callback` are both given.
        ClientCertificateError: On opening: the client certificate cannot be used. It is google-auth's
            `MutualTLSChannelError`, too.
    """
    if isinstance(request, str):
        raise ConfigurationError(
            "expected an AiohttpRequest or None, not str.",
            field="request",
            hint="The order is credentials, request, target.",
        )
    if client_cert_callback is not None:
        if ssl_credentials is not None:
            raise TlsArgumentsError(
                "it excludes client_cert_callback, and both were given.",
                field="ssl_credentials",
                hint="Pass SslCredentials(client_certificate=...) for both in one.",
            )
        check_client_certificate("client_cert_callback", client_cert_callback)
        ssl_credentials = SslCredentials(client_certificate=client_cert_callback)
    check_keywords("secure_authorized_channel", kwargs, ChannelArguments)
    own = own_request(request)
    settings = ChannelSettings(
        target, credentials=credentials, request=own, ssl_credentials=ssl_credentials, replay=replay, **kwargs
    )
    return OpeningChannel(settings, ())


@hiding_arguments
def insecure_authorized_channel(
    credentials: CredentialsType, target: str, *, replay: bool = True, **kwargs: Unpack[ChannelArguments]
) -> OpeningChannel:
    """Open a channel in the clear, for a server on this machine or behind a proxy that encrypts (seed 001).

    The name is the opt-in. It warns where the target is not this machine: a reader of the network can
    use the token.

    Args:
        credentials: See `secure_authorized_channel`.
        target: See `connect`.
        replay: See `connect`.
        **kwargs: `options`, `compression` and `interceptors` for `grpc.aio.insecure_channel`.

    Raises:
        ConfigurationError: An argument cannot be used; a file is read when the channel is opened.
    """
    check_keywords("insecure_authorized_channel", kwargs, ChannelArguments)
    settings = ChannelSettings(target, credentials=credentials, plaintext=True, replay=replay, **kwargs)
    return OpeningChannel(settings, ())
