"""What of gRPC's service config has no effect because of another field of it, or of a channel argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aio_authgrpc._client.service_config import Options, as_number, refuse
from aio_authgrpc._client.service_config_fields import (
    ATTEMPT_TIMEOUT,
    SHORTEST_BACKOFF,
    WHAT_IS_RETRIED,
    check_fields,
    name_of_balancer,
)

_ATTEMPT_TIMEOUTS = "grpc.experimental.enable_hedging"
# An option, what it is by itself, and the fields that gRPC drops where it is the other way.
_DROPPED = (
    ("grpc.enable_retries", True, ("retryPolicy",)),
    ("grpc.minimal_stack", False, ("retryPolicy", "maxRequestMessageBytes")),
)
_DEFAULT_BALANCER = "pick_first"


def check_config(config: Mapping[str, Any], options: Options) -> None:
    """Check a service config beside the channel arguments that it comes with.

    Raises:
        ConfigurationError: It names the field, by its path, and what to do.
    """
    check_fields("service_config", config)
    _check_health(config, options)
    method_configs = config.get("methodConfig", [])
    seen: set[tuple[str, str]] = set()
    for place, method_config in enumerate(method_configs):
        field = f"service_config.methodConfig[{place}]"
        if len(method_configs) == 1 and len(method_config) == 1:  # beside others, it takes its names out
            refuse(field, "it has names, and nothing for them.", "Add a policy, such as retryPolicy.")
        _check_dropped(field, method_config, options)
        _check_retry(f"{field}.retryPolicy", method_config.get("retryPolicy"), options)
        for number, name in enumerate(method_config["name"]):
            _check_name(f"{field}.name[{number}]", name, seen)


def _check_dropped(field: str, method_config: Mapping[str, Any], options: Options) -> None:
    for option, default, names in _DROPPED:
        dropped = [name for name in names if name in method_config]
        if dropped and _is_on(options, option, default=default) is not default:
            problem = f"gRPC ignores it with the option {option}."
            refuse(f"{field}.{dropped[0]}", problem, "Leave out one of them.")


def _is_on(options: Options, option: str, *, default: bool) -> bool:
    """Return an option as gRPC reads it: the first of its name, if it is a number."""
    value = next((value for name, value in options if name == option), None)
    return bool(value) if isinstance(value, int) else default


def _check_health(config: Mapping[str, Any], options: Options) -> None:
    if "serviceName" not in config.get("healthCheckConfig", {}):
        return
    if "loadBalancingConfig" in config:
        balancer = name_of_balancer(config["loadBalancingConfig"][0])
    else:
        of_option = next((value for name, value in options if name == "grpc.lb_policy_name"), None)
        balancer = str(config.get("loadBalancingPolicy") or of_option or _DEFAULT_BALANCER).lower()
    if balancer == _DEFAULT_BALANCER:
        problem = f"gRPC makes no health checks with {_DEFAULT_BALANCER}, its default."
        hint = 'Add "loadBalancingConfig": [{"round_robin": {}}].'
        refuse("service_config.healthCheckConfig", problem, hint)


def _check_retry(field: str, policy: Mapping[str, Any] | None, options: Options) -> None:
    if policy is None:
        return
    if ATTEMPT_TIMEOUT in policy and not _is_on(options, _ATTEMPT_TIMEOUTS, default=False):
        hint = f'Pass options=[("{_ATTEMPT_TIMEOUTS}", 1)], too.'
        refuse(f"{field}.{ATTEMPT_TIMEOUT}", "gRPC ignores it without an option.", hint)
    if not policy.keys() & WHAT_IS_RETRIED:
        refuse(field, "it has no retryableStatusCodes.", 'For example ["UNAVAILABLE"].')
    first, longest = (float(policy[name][:-1]) for name in ("initialBackoff", "maxBackoff"))
    pauses = as_number(policy["maxAttempts"]) - 1
    last = min(first * as_number(policy["backoffMultiplier"]) ** (pauses - 1), longest)
    if last < SHORTEST_BACKOFF:
        problem = f"the last pause would be {last:g} s, and gRPC's calls hang below {SHORTEST_BACKOFF:g} s."
        refuse(f"{field}.backoffMultiplier", problem, "Pass 1 or more, or a longer initialBackoff.")


def _check_name(field: str, name: Mapping[str, str], seen: set[tuple[str, str]]) -> None:
    key = name.get("service", ""), name.get("method", "")
    if key[1] and not key[0]:
        refuse(field, "it has a method without its service.", "Write the service, too.")
    if key in seen:
        refuse(field, "an earlier place has the same name.", "Write what belongs to it in one methodConfig.")
    seen.add(key)
