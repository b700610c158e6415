"""Channel credentials: TLS by default, mutual TLS from a callback, plaintext only by name."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import cast

import google.auth.exceptions
import grpc

from aio_authgrpc.errors import ConfigurationError
from aio_authgrpc.http import run_in_thread

ClientCertCallback = Callable[[], tuple[bytes, bytes]] | Callable[[], Awaitable[tuple[bytes, bytes]]]
"""Returns the client's certificate chain and its key, both PEM; a plain or a coroutine function."""


def check_tls_arguments(
    ssl_credentials: grpc.ChannelCredentials | None,
    client_cert_callback: ClientCertCallback | None,
    *,
    plaintext: bool = False,
) -> None:
    """Refuse arguments that contradict each other, before anything is opened.

    Raises:
        ConfigurationError: Both are given, or one beside `plaintext`, or one is of another kind.
    """
    if ssl_credentials is not None and client_cert_callback is not None:
        raise ConfigurationError(
            "it excludes client_cert_callback, and both were given.",
            field="ssl_credentials",
            hint="Pass the callback alone, or grpc.ssl_channel_credentials() with the certificate in it.",
        )
    if plaintext and (ssl_credentials is not None or client_cert_callback is not None):
        raise ConfigurationError(
            "it excludes ssl_credentials and client_cert_callback, and both were given.",
            field="plaintext",
            hint="Leave it out for TLS.",
        )
    given: object = ssl_credentials
    if given is not None and not isinstance(given, grpc.ChannelCredentials):
        raise ConfigurationError(
            f"expected grpc.ChannelCredentials, not {type(given).__name__}.",
            field="ssl_credentials",
            hint="Make them with grpc.ssl_channel_credentials(root_certificates=...).",
        )
    if isinstance(given, grpc.ChannelCredentials) and _is_insecure(given):
        raise ConfigurationError(
            "these are insecure channel credentials: the token would cross the network in the clear.",
            field="ssl_credentials",
            hint="Leave them out for TLS, or pass plaintext=True if that is what you want.",
        )
    if isinstance(given, grpc.ChannelCredentials) and _has_call_credentials(given):
        raise ConfigurationError(
            "these are composite credentials: the server would get their token beside the channel's.",
            field="ssl_credentials",
            hint="Pass the channel credentials alone, and the identity as credentials=.",
        )
    callback: object = client_cert_callback
    if callback is not None and not callable(callback):
        raise ConfigurationError(
            f"expected a function, not {type(callback).__name__}.", field="client_cert_callback"
        )


async def channel_credentials(
    ssl_credentials: grpc.ChannelCredentials | None,
    client_cert_callback: ClientCertCallback | None,
) -> grpc.ChannelCredentials:
    """Return what `grpc.aio.secure_channel` needs (seed 000, options 1, 2 and 4).

    Args:
        ssl_credentials: Used as they are.
        client_cert_callback: A plain function runs in a worker thread, a coroutine function is awaited.

    Raises:
        google.auth.exceptions.MutualTLSChannelError: The callback failed, or returned no PEM pair.
    """
    if ssl_credentials is not None:
        return ssl_credentials
    if client_cert_callback is None:
        return grpc.ssl_channel_credentials()
    try:
        # An object with an async __call__ comes back from the thread with its coroutine.
        on_loop = inspect.iscoroutinefunction(client_cert_callback)
        callback = cast("Callable[[], object]", client_cert_callback)
        returned = callback() if on_loop else await run_in_thread(callback)
        awaited = await returned if inspect.isawaitable(returned) else returned
        cert, key = cast("tuple[bytes, bytes]", awaited)
    except Exception as error:
        raise google.auth.exceptions.MutualTLSChannelError(
            f"client_cert_callback failed: {type(error).__name__}"
        ) from error
    if not all(isinstance(pem, bytes) and b"-----BEGIN" in pem for pem in (cert, key)):
        raise google.auth.exceptions.MutualTLSChannelError(
            "client_cert_callback must return the certificate chain and the private key as PEM bytes."
        )
    return grpc.ssl_channel_credentials(private_key=key, certificate_chain=cert)


# grpc has no public way to ask what is inside of channel credentials: the names of the core's types, and
# of the parts that composite and xDS credentials hold, are all there is.
_PARTS = ("_channel_credentials", "_fallback_credentials")


def _core_names(credentials: object) -> set[str]:
    core = getattr(credentials, "_credentials", credentials)
    names = {type(core).__name__}
    for part in _PARTS:
        inner = getattr(core, part, None)
        if inner is not None:
            names |= _core_names(inner)
    return names


def _is_insecure(credentials: grpc.ChannelCredentials) -> bool:
    return "InsecureChannelCredentials" in _core_names(credentials)


def _has_call_credentials(credentials: grpc.ChannelCredentials) -> bool:
    return "CompositeChannelCredentials" in _core_names(credentials)
