"""gRPC's service config: merged with `max_connections`, checked, and compared with what the stubs have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from aio_authgrpc._checks.arguments import check_count
from aio_authgrpc._client.service_config_fields import check_fields, meant, quoted, refuse

Options = Sequence[tuple[str, object]]
"""gRPC channel arguments (https://grpc.github.io/grpc/core/group__grpc__arg__keys.html)."""

ServiceConfig = Mapping[str, Any]
"""gRPC's service config, in the form of its JSON: dicts and lists of str, int, float and bool."""

# Eight connections took 3 000 calls at a Go server from 1 700 to 8 600 a second, four to 5 300. A client with
# no more calls under way than one connection allows opens one: docs/explanation/performance.md.
MAX_CONNECTIONS = 8

OPTION = "grpc.service_config"
_CAP = "grpc.max_connections_per_subchannel_cap"
_DEFAULT_CAP = 10  # gRFC A105
_ATTEMPT_TIMEOUTS = "grpc.experimental.enable_hedging"


def copied(config: ServiceConfig) -> dict[str, Any]:
    """Return a copy of a service config, as JSON has it.

    Raises:
        ConfigurationError: JSON has no such value.
    """
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(config), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        refuse("service_config", "JSON has no such value.", "Use dict, list, str and numbers.")
    return copy


def with_service_config(
    options: Options, config: ServiceConfig | None, max_connections: int | None
) -> Options:
    """Return channel arguments with a service config that is checked and allows `max_connections`.

    A service config among the options is merged and not checked: gRPC reads it, and may know more. Of several
    arguments of a name, gRPC takes the first.

    Raises:
        ConfigurationError: A field cannot be used, or two arguments say the same.
    """
    if max_connections is not None:
        check_count("max_connections", max_connections)
    own = [value for name, value in options if name == OPTION]
    if config is not None:
        if own:
            refuse("service_config", f"options have {OPTION}, too.", "Leave out one of them.")
        check_fields(config, attempt_timeouts=any(on for name, on in options if name == _ATTEMPT_TIMEOUTS))
    merged: dict[str, Any] | None = _read(own[0]) if own else dict(config or {})
    if merged is None:
        return options  # gRPC refuses it, in its own words
    if "connectionScaling" in merged:
        if max_connections is not None:
            refuse("max_connections", "the service config has connectionScaling.", "Leave out one of them.")
    elif max_connections != 1:
        limit = MAX_CONNECTIONS if max_connections is None else max_connections
        merged["connectionScaling"] = {"maxConnectionsPerSubchannel": limit}
    if not merged:
        return options
    kept = [(name, value) for name, value in options if name != OPTION]
    return [*kept, *_cap(merged), (OPTION, json.dumps(merged))]


def _read(text: object) -> dict[str, Any] | None:
    try:
        config: object = json.loads(cast("Any", text))
    except (TypeError, ValueError):
        return None
    return cast("dict[str, Any]", config) if isinstance(config, dict) else None


def _cap(config: dict[str, Any]) -> Options:
    """Return the channel argument that lets gRPC open more than ten connections, where the config says so."""
    scaling: Any = config.get("connectionScaling")
    limit: Any = (
        cast("Any", scaling).get("maxConnectionsPerSubchannel") if isinstance(scaling, dict) else None
    )
    return [(_CAP, limit)] if isinstance(limit, int) and limit > _DEFAULT_CAP else []


def check_names(config: ServiceConfig, paths: Iterable[str], *, all_known: bool) -> None:
    """Refuse a name in the service config that no stub has: gRPC would apply nothing of what is there.

    Args:
        config: One that was checked.
        paths: Those that stubs have asked for, `/package.Service/Method`.
        all_known: Whether these are all; else a service that is not among them is let pass.

    Raises:
        ConfigurationError: There is no such service, or method.
    """
    known: dict[str, set[str]] = {}
    for path in paths:
        service, _, method = path.removeprefix("/").rpartition("/")
        known.setdefault(service, set()).add(method)
    for place, method_config in enumerate(config.get("methodConfig", ())):
        for number, name in enumerate(method_config["name"]):
            field = f"service_config.methodConfig[{place}].name[{number}]"
            service, method = name.get("service", ""), name.get("method", "")
            if service and service not in known and all_known:
                refuse(
                    f"{field}.service", f"no stub has the service {quoted(service)}.", meant(service, known)
                )
            if method and service in known and method not in known[service]:
                text = f"{service} has no method {quoted(method)}."
                refuse(f"{field}.method", text, meant(method, known[service]))
