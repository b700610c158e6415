"""The checks of TLS arguments: none contradict each other, and nothing is in the clear unless by name."""

from __future__ import annotations

import os

import grpc

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._tls.credentials import ClientCertCallback, SslCredentials
from aio_authgrpc._tls.pem import StrPath
from aio_authgrpc.errors import ConfigurationError, TlsArgumentsError


def check_tls_arguments(
    ssl_credentials: grpc.ChannelCredentials | SslCredentials | None,
    client_cert_callback: ClientCertCallback | None,
    root_certificates: StrPath | bytes | None = None,
    *,
    plaintext: bool = False,
) -> None:
    """Refuse arguments that contradict each other, before anything is opened.

    Raises:
        TlsArgumentsError: Two are given that exclude each other.
        ConfigurationError: One is of another kind.
    """
    parts = {"client_cert_callback": client_cert_callback, "root_certificates": root_certificates}
    beside = [name for name, value in parts.items() if value is not None]
    if ssl_credentials is not None and beside:
        raise TlsArgumentsError(
            f"it excludes {beside[0]}, and both were given.",
            field="ssl_credentials",
            hint=f"Pass {beside[0]} alone, or grpc.ssl_channel_credentials() with all in it.",
        )
    if plaintext and (ssl_credentials is not None or beside):
        raise TlsArgumentsError(
            f"it excludes {', '.join(['ssl_credentials', *parts])}, and one of them was given.",
            field="plaintext",
            hint="Leave it out for TLS.",
        )
    _check_ssl_credentials(ssl_credentials)
    _check_root_certificates(root_certificates)
    callback: object = client_cert_callback
    if callback is not None and not callable(callback):
        raise ConfigurationError(
            f"expected a function, not {type(callback).__name__}.",
            field="client_cert_callback",
            hint="Write client_certificate_files('cert.pem', 'key.pem') for files.",
        )


def _check_ssl_credentials(given: object) -> None:
    if given is None or isinstance(given, SslCredentials):
        return
    if not isinstance(given, grpc.ChannelCredentials):
        raise ConfigurationError(
            f"expected grpc.ChannelCredentials, not {type(given).__name__}.",
            field="ssl_credentials",
            hint="Make them with grpc.ssl_channel_credentials(root_certificates=...).",
        )
    if _is_insecure(given):
        raise ConfigurationError(
            "these are insecure channel credentials: the token would cross the network in the clear.",
            field="ssl_credentials",
            hint="Leave them out for TLS, or pass plaintext=True if that is what you want.",
        )
    if _has_call_credentials(given):
        raise ConfigurationError(
            "these are composite credentials: the server would get their token beside the channel's.",
            field="ssl_credentials",
            hint="Pass the channel credentials alone, and the identity as credentials=.",
        )


def _check_root_certificates(given: object) -> None:
    check_type("root_certificates", given, str, bytes, os.PathLike, type(None))
    if given in ("", b""):
        raise ConfigurationError(
            "it is empty.", field="root_certificates", hint="None means the authorities that gRPC trusts."
        )
    if isinstance(given, str) and "-----BEGIN" in given:
        raise ConfigurationError(
            "a str is a path, and this is a certificate.", field="root_certificates", hint="Pass it as bytes."
        )


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
    # Those for Compute Engine are composite too, under a name of their own.
    composite = {"CompositeChannelCredentials", "ComputeEngineChannelCredentials"}
    return not composite.isdisjoint(_core_names(credentials))


def is_local_credentials(credentials: grpc.ChannelCredentials | SslCredentials | None) -> bool:
    """Return whether they are `grpc.local_channel_credentials()`, which connect to this machine alone."""
    return "LocalChannelCredentials" in _core_names(credentials)
