"""The configuration of an Envoy that guards a service the way ESPv2 does. No I/O."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aio_authgrpc.testing.guard.providers import JwtProvider

Json: TypeAlias = dict[str, Any]

# The listeners, and the prefixes of their figures among Envoy's.
H2C = "h2c"
TLS = "tls"
MUTUAL_TLS = "mutual_tls"

_LOOPBACK = "127.0.0.1"
_TYPES = "type.googleapis.com/envoy"
_KEY_SERVERS = "key_servers"
_UPSTREAM = "upstream"
# Envoy's default, which ESPv2 keeps.
_CLOCK_SKEW_SECONDS = 60
# By default Envoy refuses calls beyond 1024 at a time. A test may make more.
_MANY = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A certificate chain with its private key, and the authority that it trusts, PEM.

    Attributes:
        chain: The certificate chain.
        private_key: The private key.
        ca: The certificate of the trusted authority.
    """

    chain: bytes
    private_key: bytes = field(repr=False)
    ca: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The server behind Envoy, on 127.0.0.1.

    Attributes:
        port: Its port.
        ca: The authority of its certificate, PEM, which is for `localhost`; None means plaintext (h2c).
        client: Envoy's client certificate, if the server demands one.
    """

    port: int
    ca: bytes | None = None
    client: Identity | None = None


def bootstrap(
    providers: Sequence[JwtProvider], upstream: Upstream, identity: Identity, *, jwks_cache: int
) -> Json:
    """Return Envoy's whole configuration, to be written as JSON.

    Three listeners on 127.0.0.1, each on a free port: plaintext HTTP/2 (`h2c`), TLS (`tls`) and mutual TLS
    (`mutual_tls`). Each demands a JWT of one of the providers for every call and forwards the payload in
    `x-endpoint-api-userinfo`.

    Args:
        providers: The issuers of accepted tokens. Their keys are on one server.
        upstream: The server for the accepted calls.
        identity: The certificate of both TLS listeners, and the authority of the mutual one's clients.
        jwks_cache: How many seconds keys are kept.
    """
    guard = _jwt_authn(providers, jwks_cache)
    listeners = [
        _listener(H2C, guard, None),
        _listener(TLS, guard, _downstream_tls(identity, mutual=False)),
        _listener(MUTUAL_TLS, guard, _downstream_tls(identity, mutual=True)),
    ]
    key_server = urllib.parse.urlsplit(providers[0].jwks_url).port or 80
    clusters = [_cluster(_KEY_SERVERS, key_server), _upstream_cluster(upstream)]
    return {
        "admin": {"address": _address(0)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def _listener(name: str, guard: Json, transport_socket: Json | None) -> Json:
    route = {"match": {"prefix": "/"}, "route": {"cluster": _UPSTREAM, "timeout": "0s"}}  # no limit
    manager = _typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        codec_type="HTTP2",
        route_config={"virtual_hosts": [{"name": _UPSTREAM, "domains": ["*"], "routes": [route]}]},
        http_filters=[
            guard,
            _filter("envoy.filters.http.router", "extensions.filters.http.router.v3.Router"),
        ],
    )
    chain: Json = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    }
    if transport_socket is not None:
        chain["transport_socket"] = transport_socket
    return {"name": name, "address": _address(0), "filter_chains": [chain]}


def _jwt_authn(providers: Sequence[JwtProvider], jwks_cache: int) -> Json:
    names = [f"provider_{number}" for number in range(len(providers))]
    requirements: list[Json] = [{"provider_name": name} for name in names]
    # Envoy rejects a `requires_any` with a single requirement.
    required = {"requires_any": {"requirements": requirements}} if len(names) > 1 else requirements[0]
    return _filter(
        "envoy.filters.http.jwt_authn",
        "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers={
            name: _provider(provider, jwks_cache) for name, provider in zip(names, providers, strict=True)
        },
        rules=[{"match": {"prefix": "/"}, "requires": required}],
    )


def _provider(provider: JwtProvider, jwks_cache: int) -> Json:
    return {
        "issuer": provider.issuer,
        "audiences": list(provider.audiences),
        "clock_skew_seconds": _CLOCK_SKEW_SECONDS,
        "forward": True,
        "forward_payload_header": "X-Endpoint-API-UserInfo",
        "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],
        "remote_jwks": {
            "http_uri": {"uri": provider.jwks_url, "cluster": _KEY_SERVERS, "timeout": "5s"},
            "cache_duration": f"{jwks_cache}s",
            # Fetched ahead of calls, as ESPv2 does; listening begins when the keys are there.
            "async_fetch": {"fast_listener": False},
        },
    }


def _upstream_cluster(upstream: Upstream) -> Json:
    cluster = _cluster(_UPSTREAM, upstream.port)
    options = "extensions.upstreams.http.v3.HttpProtocolOptions"
    cluster["typed_extension_protocol_options"] = {
        f"envoy.{options}": _typed(options, explicit_http_config={"http2_protocol_options": {}})
    }
    if upstream.ca is not None:
        cluster["transport_socket"] = _upstream_tls(upstream.ca, upstream.client)
    return cluster


def _cluster(name: str, port: int) -> Json:
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [{"max_requests": _MANY, "max_pending_requests": _MANY}]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _downstream_tls(identity: Identity, *, mutual: bool) -> Json:
    context = _tls_context((identity,), ca=identity.ca if mutual else None)
    return _tls("Downstream", require_client_certificate=mutual, common_tls_context=context)


def _upstream_tls(ca: bytes, client: Identity | None) -> Json:
    context = _tls_context(() if client is None else (client,), ca=ca)
    context["validation_context"]["match_typed_subject_alt_names"] = [
        {"san_type": "DNS", "matcher": {"exact": "localhost"}}
    ]
    return _tls("Upstream", sni="localhost", common_tls_context=context)


def _tls(side: str, **fields: Any) -> Json:
    context = _typed(f"extensions.transport_sockets.tls.v3.{side}TlsContext", **fields)
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _tls_context(identities: Iterable[Identity], *, ca: bytes | None) -> Json:
    certificates = [
        {"certificate_chain": _inline(one.chain), "private_key": _inline(one.private_key)}
        for one in identities
    ]
    context: Json = {"alpn_protocols": ["h2"], "tls_certificates": certificates}
    return context if ca is None else context | {"validation_context": {"trusted_ca": _inline(ca)}}


def _inline(pem: bytes) -> Mapping[str, str]:
    return {"inline_string": pem.decode()}


def _address(port: int) -> Json:
    return {"socket_address": {"address": _LOOPBACK, "port_value": port}}


def _filter(name: str, kind: str, **fields: Any) -> Json:
    return {"name": name, "typed_config": _typed(kind, **fields)}


def _typed(kind: str, **fields: Any) -> Json:
    return {"@type": f"{_TYPES}.{kind}", **fields}
