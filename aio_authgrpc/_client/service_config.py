"""gRPC's service config: copied, checked, and merged with `max_connections`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, cast

from aio_authgrpc._checks.arguments import check_count
from aio_authgrpc.errors import ConfigurationError

Options = Sequence[tuple[str, object]]
"""gRPC channel arguments (https://grpc.github.io/grpc/core/group__grpc__arg__keys.html)."""

ServiceConfig = Mapping[str, Any]
"""gRPC's service config, in the form of its JSON: dicts and lists of str, int, float and bool."""

# Eight connections took 3 000 calls at a Go server from 1 700 to 8 600 a second, four to 5 300. A client with
# no more calls under way than one connection allows opens one: docs/explanation/performance.md.
MAX_CONNECTIONS = 8

MOST_CONNECTIONS = 2**31 - 1  # an option takes the number, too, as an int of C
OPTION = "grpc.service_config"
_CAP = "grpc.max_connections_per_subchannel_cap"
_DEFAULT_CAP = 10  # gRFC A105


def refuse(field: str, problem: str, hint: str) -> NoReturn:
    """Raise the error of a field."""
    raise ConfigurationError(problem, field=field, hint=hint)


def as_number(value: Any) -> Any:
    """Return the number that gRPC reads in a text; anything else as it is."""
    if not isinstance(value, str) or re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", value, re.ASCII) is None:
        return value
    return float(value) if "." in value else int(value)


def copied(config: ServiceConfig) -> dict[str, Any]:
    """Return a copy of a service config, as JSON has it.

    Raises:
        ConfigurationError: JSON has no such value.
    """
    try:
        text = json.dumps(config, allow_nan=False, default=_as_dict)
        copy: dict[str, Any] = json.loads(text, object_pairs_hook=_without_null)
    except (TypeError, ValueError, RecursionError):
        refuse("service_config", "JSON has no such value.", "Use dict, list, str and numbers.")
    return copy


def _as_dict(value: Any) -> dict[Any, Any]:
    if not hasattr(value, "items"):
        raise TypeError
    return dict(value)


def _without_null(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the fields of a message. In the JSON of protocol buffers, null is a field that is not there."""
    return {name: value for name, value in pairs if value is not None}


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
        if max_connections > MOST_CONNECTIONS:
            refuse("max_connections", f"it is more than {MOST_CONNECTIONS}.", "Pass less.")
    own = [value for name, value in options if name == OPTION]
    if config is not None:
        if own:
            refuse("service_config", f"options have {OPTION}, too.", "Leave out one of them.")
        from aio_authgrpc._client.service_config_rules import check_config  # noqa: PLC0415 - few need it

        check_config(config, options)
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
    given: Any = (
        cast("Any", scaling).get("maxConnectionsPerSubchannel") if isinstance(scaling, dict) else None
    )
    limit = as_number(given)
    more = isinstance(limit, int) and limit > _DEFAULT_CAP
    return [(_CAP, min(limit, MOST_CONNECTIONS))] if more else []
