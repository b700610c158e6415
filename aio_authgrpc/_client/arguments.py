"""What a channel is opened from: the arguments of the factories, checked at the call that passes them."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio

from aio_authgrpc._checks.arguments import check_type, listed, pairs
from aio_authgrpc._client.target import Target, parse_target
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._sources.credentials import CredentialsType, as_token_source
from aio_authgrpc._sources.static import AnonymousTokenSource, anonymous
from aio_authgrpc._tls.arguments import check_tls_arguments, is_local_credentials
from aio_authgrpc._tls.credentials import ClientCertCallback, SslCredentials
from aio_authgrpc._tls.pem import StrPath
from aio_authgrpc._tokens.events import EventCallback
from aio_authgrpc._tokens.metadata import Metadata, checked_header, fixed_metadata
from aio_authgrpc._tokens.source import TokenSource
from aio_authgrpc.errors import ConfigurationError

Options = Sequence[tuple[str, object]]
"""gRPC channel arguments (https://grpc.github.io/grpc/core/group__grpc__arg__keys.html)."""

# What gRPC itself takes for certificates in files (https://github.com/grpc/proposal/blob/master/A29-xds-tls-security.md,
# refresh_interval).
CERTIFICATE_REFRESH_INTERVAL = 600.0

# What fixed metadata may hold that lets whoever reads it call in the sender's name.
_SECRET = frozenset(
    (
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-api-key",
        "x-goog-api-key",
        "x-goog-iap-jwt-assertion",
        "x-serverless-authorization",
    )
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ChannelSettings:
    """What a channel is opened from: arguments that were checked, nothing that is open."""

    target: Target
    source: TokenSource
    audience: str
    header: str
    metadata: Metadata
    ssl_credentials: grpc.ChannelCredentials | SslCredentials | None
    client_cert_callback: ClientCertCallback | None
    root_certificates: StrPath | bytes | None
    certificate_refresh_interval: float | None
    plaintext: bool
    warns_of_identities: bool
    options: Options
    compression: grpc.Compression | None
    interceptors: Sequence[grpc.aio.ClientInterceptor]
    request: AiohttpRequest | None
    pool_size: int
    keep_warm: bool
    on_event: EventCallback | None


def channel_settings(  # noqa: PLR0913 - the arguments of `connect`, each of which it explains
    target: str,
    credentials: CredentialsType,
    *,
    audience: str | None = None,
    ssl_credentials: grpc.ChannelCredentials | SslCredentials | None = None,
    client_cert_callback: ClientCertCallback | None = None,
    root_certificates: StrPath | bytes | None = None,
    certificate_refresh_interval: float | None = CERTIFICATE_REFRESH_INTERVAL,
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
    on_event: EventCallback | None = None,
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
    if on_event is not None and not callable(on_event):
        raise ConfigurationError("it is no function.", field="on_event")
    parsed = parse_target(target)
    check_tls_arguments(ssl_credentials, client_cert_callback, root_certificates, plaintext=plaintext)
    _check_interval(certificate_refresh_interval)
    source = anonymous() if _is_anonymous(credentials) else as_token_source(credentials)
    header = checked_header(getattr(source, "header", header))
    options = pairs("options", options, "[('grpc.keepalive_time_ms', 30_000)]")
    if parsed.is_local or is_local_credentials(ssl_credentials):
        options = _past_the_proxy(options)
    interceptors = _checked_interceptors(interceptors)
    if pool_size < 1:
        raise ConfigurationError(f"{pool_size!r} is less than 1.", field="pool_size")
    if authority is not None:
        _check_authority(authority)
        options = (*options, ("grpc.default_authority", authority))
    fixed = fixed_metadata(header, api_key, quota_project_id, metadata)
    in_the_clear = plaintext and not parsed.is_local
    sends_secret = not isinstance(source, AnonymousTokenSource) or any(key in _SECRET for key, _ in fixed)
    if in_the_clear and sends_secret:
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
        metadata=fixed,
        ssl_credentials=ssl_credentials,
        client_cert_callback=client_cert_callback,
        root_certificates=root_certificates,
        certificate_refresh_interval=certificate_refresh_interval,
        plaintext=plaintext,
        warns_of_identities=in_the_clear and not sends_secret,
        options=options,
        compression=compression,
        interceptors=interceptors,
        request=request,
        pool_size=pool_size,
        keep_warm=keep_warm,
        on_event=on_event,
    )


def _check_authority(authority: str) -> None:
    if not re.fullmatch(r"[!-~]+", authority) or "/" in authority:
        raise ConfigurationError(
            f"{authority!r} is not a host or host:port.",
            field="authority",
            hint="Leave it out for the target's.",
        )


def _past_the_proxy(options: Options) -> Options:
    """Return options with which what is meant for this machine stays on it.

    gRPC tunnels through the proxy of the environment whatever `no_proxy` does not name, `localhost` too.
    """
    if any(name in ("grpc.enable_http_proxy", "grpc.http_proxy") for name, _ in options):
        return options
    return (*options, ("grpc.enable_http_proxy", 0))


def _is_anonymous(credentials: object) -> bool:
    """Whether it is google-auth's `AnonymousCredentials`; whoever has them has imported their module."""
    module = sys.modules.get("google.auth.credentials")
    return module is not None and isinstance(credentials, module.AnonymousCredentials)


def _check_interval(interval: float | None) -> None:
    field = "certificate_refresh_interval"
    check_type(field, interval, int, float, type(None))
    if interval is not None and not 0 < interval < math.inf:
        raise ConfigurationError(
            f"{interval!r} is not a positive number of seconds.", field=field, hint="None means never."
        )


def _checked_interceptors(
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None,
) -> Sequence[grpc.aio.ClientInterceptor]:
    items = listed(() if interceptors is None else interceptors)
    if not all(isinstance(item, grpc.aio.ClientInterceptor) for item in items):
        raise ConfigurationError("expected a list of grpc.aio client interceptors.", field="interceptors")
    return items
