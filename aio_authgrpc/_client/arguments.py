"""The arguments of `connect`: their names and types for type checkers, and the object that checks them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypedDict, TypeVar, Unpack

import grpc
import grpc.aio

from aio_authgrpc._calls.identity_authorizers import MAX_IDENTITIES
from aio_authgrpc._calls.plaintext import warn_in_the_clear
from aio_authgrpc._calls.telemetry import Telemetry
from aio_authgrpc._checks.arguments import (
    as_list,
    check_callback,
    check_count,
    check_optional_text,
    check_seconds,
    check_type,
    checked_pairs,
)
from aio_authgrpc._checks.secrets import shown
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._client.service_config import Options, ServiceConfig, copied, with_service_config
from aio_authgrpc._client.target import Target, parse_target
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._loop.clock import Clock
from aio_authgrpc._sources.credentials import CredentialsType, as_token_source
from aio_authgrpc._sources.static import AnonymousTokenSource
from aio_authgrpc._tls.credentials import SslCredentials, check_channel_credentials, is_local_credentials
from aio_authgrpc._tokens.events import EventCallback
from aio_authgrpc._tokens.metadata import Metadata, fixed_metadata, holds_secret
from aio_authgrpc._tokens.source import TokenSource, header_of, other_headers_of
from aio_authgrpc.errors import ConfigurationError, TlsArgumentsError

T = TypeVar("T")


class ChannelArguments(TypedDict, total=False):
    """What the seed's `**kwargs` may hold: they reach `grpc.aio.secure_channel` as they are."""

    options: Options | None
    compression: grpc.Compression | None
    interceptors: Sequence[grpc.aio.ClientInterceptor] | None


class ConnectOptions(ChannelArguments, total=False):
    """The keyword arguments of `connect` beside `credentials`."""

    audience: str | None
    ssl_credentials: grpc.ChannelCredentials | SslCredentials | None
    plaintext: bool
    authority: str | None
    api_key: str | None
    quota_project_id: str | None
    metadata: Sequence[tuple[str, str]] | Mapping[str, str]
    header: str | None
    outer_interceptors: Sequence[grpc.aio.ClientInterceptor] | None
    request: AiohttpRequest | None
    max_connections: int | None
    service_config: ServiceConfig | None
    max_identities: int
    ready_timeout: float | None
    keep_warm: bool
    replay: bool
    grace: float | None
    clock: Clock | None
    telemetry: Telemetry | None
    on_event: EventCallback | None


class ConnectArguments(ConnectOptions, total=False):
    """The keyword arguments of `connect`, which explains them. `ChannelSettings` has defaults and checks."""

    credentials: CredentialsType


# Where gRPC may be told to lead a connection, besides the environment
# (https://grpc.github.io/grpc/core/group__grpc__arg__keys.html).
_PROXY_OPTIONS = ("grpc.http_proxy", "grpc.address_http_proxy")


class ChannelSettings(NotPickled):
    """The checked arguments of `connect`: what a channel is opened from. Nothing is open, nothing changes."""

    def __init__(self, target: str, **given: Unpack[ConnectArguments]) -> None:
        self.target: Target = parse_target(target)
        self._check_identity(given)
        self._check_transport(given)
        self.request = _of("request", given.get("request"), AiohttpRequest, type(None))
        self.ready_timeout = given.get("ready_timeout")
        check_seconds("ready_timeout", self.ready_timeout, none_means="not to wait")
        self.keep_warm = _of("keep_warm", given.get("keep_warm", False), bool)
        self.replay = _of("replay", given.get("replay", True), bool)
        self.grace = given.get("grace")
        check_seconds("grace", self.grace, none_means="to end them at once")
        self.clock = given.get("clock")
        self.telemetry = given.get("telemetry")
        if self.telemetry is not None and not hasattr(self.telemetry, "channel"):
            raise ConfigurationError(
                f"expected a Telemetry, not {type(self.telemetry).__name__}.",
                field="telemetry",
                hint="Pass aio_authgrpc.otel.OpenTelemetry().",
            )
        self.on_event = given.get("on_event")
        if self.on_event is not None:
            check_callback("on_event", self.on_event, hint="It is called with each TokenEvent.")
        stays_here = self.target.is_local and not _lead_to_a_proxy(self.options)
        in_the_clear = self.plaintext and not stays_here
        sends_secret = not isinstance(self.source, AnonymousTokenSource) or holds_secret(self.metadata)
        self.warns_of_identities = in_the_clear and not sends_secret
        if in_the_clear and sends_secret:
            # Past the decorator: at the caller of `connect`, or of a function of the seed's.
            warn_in_the_clear(self.target.address, stacklevel=4)

    def _check_identity(self, given: ConnectArguments) -> None:
        audience = given.get("audience")
        check_optional_text("audience", audience)
        api_key = _of("api_key", given.get("api_key"), str, type(None))
        quota_project_id = _of("quota_project_id", given.get("quota_project_id"), str, type(None))
        credentials = given.get("credentials")
        self.source: TokenSource = as_token_source(credentials)
        self.audience: str = self.target.audience if audience is None else audience
        self.header: str = header_of(self.source, given.get("header")) or "authorization"
        headers = {self.header, *other_headers_of(self.source)}
        self.metadata: Metadata = fixed_metadata(
            headers, api_key, quota_project_id, given.get("metadata", ())
        )
        self.max_identities = given.get("max_identities", MAX_IDENTITIES)
        check_count("max_identities", self.max_identities)

    def _check_transport(self, given: ConnectArguments) -> None:
        self.plaintext = _of("plaintext", given.get("plaintext", False), bool)
        self.ssl_credentials = given.get("ssl_credentials")
        if self.ssl_credentials is not None and not isinstance(self.ssl_credentials, SslCredentials):
            check_channel_credentials(self.ssl_credentials)
        if self.plaintext and self.ssl_credentials is not None:
            raise TlsArgumentsError(
                "a plaintext channel has no ssl_credentials.",
                field="plaintext",
                hint="Leave out one of them.",
            )
        self.options: Options = checked_options(given.get("options"))
        has_local_credentials = is_local_credentials(self.ssl_credentials)
        if has_local_credentials and _lead_to_a_proxy(self.options):
            raise ConfigurationError(
                "local credentials do not encrypt, and a proxy would carry the token off this machine.",
                field="options",
                hint="Leave out the proxy, or pass SslCredentials().",
            )
        if self.target.is_local or has_local_credentials:
            self.options = _past_the_proxy(self.options)
        authority = _of("authority", given.get("authority"), str, type(None))
        if authority is not None:
            _check_authority(authority)
            # First: of several options of one name, gRPC takes the first.
            self.options = (("grpc.default_authority", authority), *self.options)
        self.compression = _of("compression", given.get("compression"), grpc.Compression, type(None))
        self.interceptors = _interceptors("interceptors", given.get("interceptors"))
        self.outer_interceptors = _interceptors("outer_interceptors", given.get("outer_interceptors"))
        config = given.get("service_config")
        check_type("service_config", config, Mapping, type(None), hint='For example {"methodConfig": [...]}.')
        self.service_config = None if config is None else copied(config)
        self.options = with_service_config(self.options, self.service_config, given.get("max_connections"))


def check_keywords(function: str, given: Mapping[str, object], allowed: type) -> None:
    """Refuse keyword arguments that a function's TypedDict does not name, as a signature would."""
    unknown = given.keys() - allowed.__annotations__.keys()
    if unknown:
        import difflib  # noqa: PLC0415 - for this error alone

        name = min(unknown)
        meant = difflib.get_close_matches(name, allowed.__annotations__, n=1)
        suggestion = f". Did you mean {meant[0]!r}?" if meant else ""
        raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{suggestion}")


def _of(field: str, value: T, *kinds: type) -> T:
    check_type(field, value, *kinds)
    return value


def checked_options(given: object) -> Options:
    """Return gRPC's channel arguments as a list, of a mapping or of pairs."""
    return checked_pairs("options", given, "[('grpc.keepalive_time_ms', 30_000)]")


def _interceptors(field: str, given: object) -> list[grpc.aio.ClientInterceptor]:
    listed = as_list(() if given is None else given)
    if listed is None or not all(isinstance(item, grpc.aio.ClientInterceptor) for item in listed):
        raise ConfigurationError(
            "expected a list of grpc.aio client interceptors.",
            field=field,
            hint="Subclass grpc.aio.UnaryUnaryClientInterceptor, or its kin.",
        )
    return listed


def _check_authority(authority: str) -> None:
    if not re.fullmatch(r"[!-~]+", authority) or "/" in authority or "@" in authority:
        text = "it" if "@" in authority else repr(shown(authority))  # not a password
        raise ConfigurationError(
            f"{text} is not a host or host:port.", field="authority", hint="Leave it out for the target's."
        )


def _past_the_proxy(options: Options) -> Options:
    """Return options for a target on this machine: not through the environment's proxy.

    gRPC sends every target through it that `no_proxy` does not name, even `localhost`.
    """
    if any(name in ("grpc.enable_http_proxy", "grpc.http_proxy") for name, _ in options):
        return options
    return (*options, ("grpc.enable_http_proxy", 0))


def _lead_to_a_proxy(options: Options) -> bool:
    """Return whether options may lead a connection through a proxy, themselves or by the environment."""
    enabled = [value for name, value in options if name == "grpc.enable_http_proxy"]
    named = [name for name, value in options if name in _PROXY_OPTIONS and value]
    if enabled and not any(enabled):
        return "grpc.address_http_proxy" in named  # which the switch does not concern
    return bool(enabled or named)
