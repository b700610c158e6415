"""The TLS settings of a channel, as users give them: `SslCredentials`, or grpc's own credentials."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any, Self

import grpc
from google.auth.exceptions import ClientCertError

from aio_authgrpc._checks.arguments import check_seconds, check_type
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._tls.certificates import StrPath, check_path
from aio_authgrpc._tls.settings import ClientCertificate, TlsSettings, TlsSource
from aio_authgrpc.errors import ClientCertificateError, ConfigurationError

# gRPC's own interval for certificates in files (https://github.com/grpc/proposal/blob/master/A29-xds-tls-security.md,
# refresh_interval).
_REFRESH_INTERVAL = 600.0
# A command that asks hardware, or a user's function that asks a server, takes seconds at most.
_TIMEOUT = 30.0
# grpc has no public way to ask what its credentials are: the names of the core's types, and of the parts that
# composite and xDS credentials hold, are all there is.
_PARTS = ("_channel_credentials", "_fallback_credentials")
# `grpc.compute_engine_channel_credentials()` is composite, too.
_COMPOSITE = {"CompositeChannelCredentials", "ComputeEngineChannelCredentials"}


class SslCredentials(NotPickled):
    """The TLS settings of a channel; without arguments those of this workload or device (seed 000).

    A channel takes the object as `ssl_credentials`, loaded or not, and follows its certificates: it reads
    them again after each `refresh_interval`. When something has changed, new RPCs use a new connection, and
    those under way end on the old one.

    It is also google-auth's class of this name, for asyncio. Loading it tells which endpoint to call:

        credentials = await SslCredentials()
        endpoint = mtls_endpoint if credentials.is_mtls else regular_endpoint

    Without `client_certificate` it uses the certificate that google-auth would use
    (https://google.aip.dev/auth/4114): a workload's certificate files, or, if
    `GOOGLE_API_USE_CLIENT_CERTIFICATE` is `true`, the certificate of a device with endpoint verification.
    `GOOGLE_API_USE_CLIENT_CERTIFICATE=false` turns client certificates off.

    Args:
        root_certificates: The authorities that may certify the server: a path, or PEM bytes. None means
            gRPC's default.
        client_certificate: Returns the client's certificate chain and key as PEM bytes, for mutual TLS:
            `client_certificate_files(...)`, or a function of yours. A plain function runs in a thread, a
            coroutine function is awaited.
        refresh_interval: Seconds after which files are read, and `client_certificate` is called, again.
            None means never. A device's certificate is loaded once.
        timeout: Seconds that one reading may take. A provider command that takes longer is killed.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    @hiding_arguments
    def __init__(
        self,
        *,
        root_certificates: StrPath | bytes | None = None,
        client_certificate: ClientCertificate | None = None,
        refresh_interval: float | None = _REFRESH_INTERVAL,
        timeout: float = _TIMEOUT,
    ) -> None:
        self._source = TlsSource(
            root_certificates, client_certificate, refresh_interval=refresh_interval, timeout=timeout
        )
        _check_root_certificates(root_certificates)
        check_client_certificate("client_certificate", client_certificate)
        check_seconds("refresh_interval", refresh_interval, none_means="never")
        check_seconds("timeout", timeout)

    async def load(self) -> Self:
        """Read the certificates off the loop. Done once, however many wait for it.

        Cancelling all callers kills the provider command, if one runs.

        Returns:
            This object.

        Raises:
            ConfigurationError: The root certificates cannot be used.
            ClientCertificateError: The client certificate cannot be used. It is google-auth's
                `MutualTLSChannelError`, too; its cause says why.
        """
        if self._source.last is None:
            await self._source.read()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.load().__await__()

    @property
    def ssl_credentials(self) -> grpc.ChannelCredentials:
        """The credentials for `grpc.aio.secure_channel`, from the last reading.

        Raises:
            ConfigurationError: `load()` was not awaited yet.
        """
        return self._loaded().channel_credentials()

    @property
    def is_mtls(self) -> bool:
        """Whether there is a client certificate.

        Raises:
            ConfigurationError: `load()` was not awaited yet.
        """
        return self._loaded().pair is not None

    @property
    def use_mtls_endpoint(self) -> bool:
        """Whether to call an API's mutual TLS endpoint: `is_mtls`, unless the environment decides.

        `GOOGLE_API_USE_MTLS_ENDPOINT` is `always`, `never` or `auto`, as for Google's own clients. A
        channel never replaces its target by itself.

        Raises:
            ConfigurationError: `load()` was not awaited yet.
            ClientCertificateError: The variable has another value.
        """
        is_mtls = self.is_mtls
        mode = (os.environ.get("GOOGLE_API_USE_MTLS_ENDPOINT") or "auto").strip().lower()
        if mode not in ("always", "never", "auto"):
            cause = ClientCertError(f"{mode!r} is not one of always, never, auto.")
            raise ClientCertificateError(
                str(cause), field="GOOGLE_API_USE_MTLS_ENDPOINT", hint="Unset it for auto."
            ) from cause
        return is_mtls if mode == "auto" else mode == "always"

    def _loaded(self) -> TlsSettings:
        if self._source.last is None:
            raise ConfigurationError(
                "the certificates are not loaded yet.",
                field="SslCredentials",
                hint="Write 'credentials = await SslCredentials()', or await its load().",
            )
        return self._source.last

    def __repr__(self) -> str:
        state = "not loaded" if self._source.last is None else f"is_mtls: {self.is_mtls}"
        return f"<SslCredentials, {state}>"


def tls_source(credentials: SslCredentials) -> TlsSource:
    """Return where the channels of these credentials read their settings."""
    return credentials._source  # pyright: ignore[reportPrivateUsage] - channels alone need it, users do not


def check_client_certificate(field: str, given: object) -> None:
    if given is not None and not callable(given):
        raise ConfigurationError(
            f"expected a function, not {type(given).__name__}.",
            field=field,
            hint="Write client_certificate_files('cert.pem', 'key.pem') for files.",
        )


def _check_root_certificates(given: object) -> None:
    field = "root_certificates"
    check_type(field, given, str, bytes, os.PathLike, type(None))
    if given in ("", b""):
        raise ConfigurationError(
            "it is empty.", field=field, hint="Pass None for gRPC's default authorities."
        )
    if isinstance(given, str) and "-----BEGIN" in given:
        raise ConfigurationError(
            "a str is a path, and this is a certificate.", field=field, hint="Pass it as bytes."
        )
    check_path(field, given)


def check_channel_credentials(given: object) -> None:
    """Refuse what is not TLS for a channel whose token comes from `credentials=`."""
    if not isinstance(given, grpc.ChannelCredentials):
        raise ConfigurationError(
            f"expected SslCredentials or grpc.ChannelCredentials, not {type(given).__name__}.",
            field="ssl_credentials",
            hint="For example SslCredentials(root_certificates=...).",
        )
    names = _core_names(given)
    if "InsecureChannelCredentials" in names:
        raise ConfigurationError(
            "insecure channel credentials would send the token in the clear.",
            field="ssl_credentials",
            hint="Leave them out for TLS, or pass plaintext=True if that is what you want.",
        )
    if not _COMPOSITE.isdisjoint(names):
        raise ConfigurationError(
            "composite credentials would send their own token beside the channel's.",
            field="ssl_credentials",
            hint="Pass the channel credentials alone, and the identity as credentials=.",
        )


def is_local_credentials(credentials: object) -> bool:
    """Return whether they connect to this machine alone."""
    return "LocalChannelCredentials" in _core_names(credentials)


def _core_names(credentials: object) -> set[str]:
    core = getattr(credentials, "_credentials", credentials)
    names = {type(core).__name__}
    for part in _PARTS:
        inner = getattr(core, part, None)
        if inner is not None:
            names |= _core_names(inner)
    return names
