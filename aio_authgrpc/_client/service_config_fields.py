"""The fields of gRPC's service config, and checks of what gRPC would drop in silence or refuse at an RPC.

gRPC ignores what it does not know, such as a misspelt key or a policy that it does not have; a value that it
cannot read fails each RPC. The fields are those of service_config.proto in
https://github.com/grpc/grpc-proto, as far as gRPC's C core, which Python's is built on, has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import grpc

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.secrets import shown
from aio_authgrpc._client.service_config import MOST_CONNECTIONS, as_number, refuse

Check = Callable[[str, Any], None]
"""Takes the path of a field, and its value."""


def quoted(name: object) -> str:
    """Return a user's text for an error."""
    return repr(shown(name))


def meant(name: str, known: Iterable[str]) -> str:
    """Return the hint for a name that is not among the known ones."""
    import difflib  # noqa: PLC0415 - for this error alone

    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"It is one of {', '.join(sorted(known))}."


def _message(fields: Mapping[str, Check], required: Sequence[str], field: str, value: Any) -> None:
    check_type(field, value, dict)
    for name in value:
        if name not in fields:
            refuse(f"{field}.{shown(name)}", "gRPC would ignore it.", meant(str(name), fields))
    for name in required:
        if name not in value:
            refuse(field, f"it has no {name}.", f"gRPC needs {', '.join(required)}.")
    for name, given in value.items():
        fields[name](f"{field}.{name}", given)


def _list(check: Check, field: str, value: Any) -> None:
    check_type(field, value, list)
    for place, item in enumerate(value):
        check(f"{field}[{place}]", item)


def _filled_list(check: Check, field: str, value: Any) -> None:
    _list(check, field, value)
    if not value:
        refuse(field, "expected a list that is not empty.", "Without it nothing of this would apply.")


def _text(field: str, value: Any) -> None:
    check_type(field, value, str)


def _service(field: str, value: Any) -> None:
    check_type(field, value, str)
    if "/" in value:
        refuse(field, f"{quoted(value)} has a slash.", "Write 'package.Service', and the method apart.")


def _flag(field: str, value: Any) -> None:
    check_type(field, value, bool)


def _duration(field: str, value: Any) -> None:
    check_type(field, value, str, hint='Write seconds as text, such as "0.5s".')
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?s", value) is None or not re.search("[1-9]", value):
        refuse(field, f"{quoted(value)} is not a positive duration.", 'Write seconds, such as "0.5s".')


def _timeout(field: str, value: Any) -> None:
    _duration(field, value)
    if float(value[:-1]) < _SHORTEST_TIMEOUT:
        problem = "gRPC ends such calls 1 to 2 s too early, short ones at once."
        refuse(field, problem, f"Write {_SHORTEST_TIMEOUT}s or more, or pass timeout= to each call.")


def _backoff(field: str, value: Any) -> None:
    _duration(field, value)
    if float(value[:-1]) < SHORTEST_BACKOFF:
        text = f"{SHORTEST_BACKOFF:g}s"
        refuse(field, f"gRPC's calls hang with a pause below {text}.", "Pass a longer one.")


def _number(lowest: float, field: str, value: Any) -> None:
    number = as_number(value)
    check_type(field, number, int, float)
    if not lowest <= number <= float(2**31):
        refuse(field, f"{number!r} is not a number from {lowest:g} on.", "")


def _whole(lowest: int, highest: int, field: str, value: Any, *, hint: str = "") -> None:
    number = as_number(value)
    check_type(field, number, int)
    if not lowest <= number <= highest:
        refuse(field, f"{number!r} is not in the range from {lowest} to {highest}.", hint)


def _status_code(field: str, value: Any) -> None:
    check_type(field, value, str, hint='Write the name, such as "UNAVAILABLE".')
    if value == grpc.StatusCode.OK.name:
        refuse(field, "gRPC retries no call that succeeded.", "Leave it out.")
    if value not in grpc.StatusCode.__members__:
        refuse(
            field, f"{quoted(value)} is no status code.", meant(value.upper(), grpc.StatusCode.__members__)
        )


def _missing(problem: str, hint: str, field: str, value: Any) -> None:
    del value
    refuse(field, problem, hint)


def _balancer(field: str, value: Any) -> None:
    """Check the names of fields: gRPC says on opening whether it has the balancer, and takes the values."""
    check_type(field, value, dict)
    if len(value) != 1:
        refuse(field, f"it has {len(value)} policies.", 'Write one in each, such as {"round_robin": {}}.')
    name = name_of_balancer(value)
    fields = BALANCERS.get(name)
    if fields is not None:
        _message(fields, (), f"{field}.{name}", value[name])


def name_of_balancer(balancer: Mapping[str, object]) -> str:
    """Return the name of an item of `loadBalancingConfig`."""
    return next(iter(balancer))


def _balancers(field: str, value: Any) -> None:
    _filled_list(_balancer, field, value)
    unknown = None
    for place, name in enumerate(map(name_of_balancer, value)):
        if name not in BALANCERS:
            unknown = unknown or (f"{field}[{place}].{shown(name)}", name)
        elif unknown is not None:
            refuse(
                unknown[0],
                "gRPC does not have it, and would take another one.",
                meant(unknown[1], BALANCERS),
            )


def left_to_grpc(field: str, value: Any) -> None:
    """Check nothing: gRPC refuses what it cannot read when the connection is opened."""


def _fields(*names: str) -> dict[str, Check]:
    return dict.fromkeys(names, left_to_grpc)


_UINT32 = 2**32 - 1
_MOST_ATTEMPTS = 5  # gRPC would take more for 5 (gRFC A6)
# grpcio 1.85.3 ends a call 1 to 2 s before the config's timeout, and every call at once with 1 s or less:
# https://github.com/grpc/grpc/issues/34547, https://github.com/grpc/grpc/issues/40633
_SHORTEST_TIMEOUT = 3
# With 1 ms and 1.5 ms three of four retried calls of grpcio 1.85.3 never end, with 2 ms none of twelve. gRPC
# takes up to 20 % more or less.
SHORTEST_BACKOFF = 0.005
_NAME: dict[str, Check] = {"service": _service, "method": _text}
_RETRY: dict[str, Check] = {
    "maxAttempts": partial(_whole, 2, _MOST_ATTEMPTS, hint=f"gRPC makes {_MOST_ATTEMPTS} at most."),
    "initialBackoff": _backoff,
    "maxBackoff": _backoff,
    "backoffMultiplier": partial(_number, 0.001),
}
ATTEMPT_TIMEOUT = "perAttemptRecvTimeout"
# gRPC needs one of them, and says so on opening.
WHAT_IS_RETRIED: dict[str, Check] = {
    "retryableStatusCodes": partial(_filled_list, _status_code),
    ATTEMPT_TIMEOUT: _duration,
}
_METHOD: dict[str, Check] = {
    "name": partial(_filled_list, partial(_message, _NAME, ())),
    "waitForReady": _flag,
    "timeout": _timeout,
    "maxRequestMessageBytes": partial(_whole, 0, _UINT32),
    "maxResponseMessageBytes": partial(_whole, 0, _UINT32),
    "retryPolicy": partial(_message, {**_RETRY, **WHAT_IS_RETRIED}, tuple(_RETRY)),
    "hedgingPolicy": partial(
        _missing,
        "gRPC for Python has no hedging, and would ignore it.",
        "Send the second call yourself, as the documentation's page on connections shows.",
    ),
}
_THROTTLING: dict[str, Check] = {
    "maxTokens": partial(_whole, 1, _UINT32),
    "tokenRatio": partial(_number, 0.001),
}
_EJECTION = ("enforcementPercentage", "minimumHosts", "requestVolume")
# The balancers of grpcio 1.85.3. None: one that a control plane uses, whose fields are not checked.
BALANCERS: dict[str, dict[str, Check] | None] = {
    "pick_first": _fields("shuffleAddressList"),
    "round_robin": {},
    "weighted_round_robin": _fields(
        "enableOobLoadReport",
        "oobReportingPeriod",
        "blackoutPeriod",
        "weightUpdatePeriod",
        "weightExpirationPeriod",
        "errorUtilizationPenalty",
        "metricNamesForComputingUtilization",
    ),
    "outlier_detection_experimental": {
        **_fields("interval", "baseEjectionTime", "maxEjectionTime", "maxEjectionPercent"),
        "successRateEjection": partial(_message, _fields("stdevFactor", *_EJECTION), ()),
        "failurePercentageEjection": partial(_message, _fields("threshold", *_EJECTION), ()),
        "childPolicy": _balancers,
    },
    "ring_hash_experimental": _fields("minRingSize", "maxRingSize", "requestHashHeader"),
    "grpclb": {**_fields("serviceName"), "childPolicy": _balancers},
    "priority_experimental": None,
    "weighted_target_experimental": None,
    "xds_cluster_impl_experimental": None,
    "xds_cluster_manager_experimental": None,
    "xds_override_host_experimental": None,
    "xds_wrr_locality_experimental": None,
    "cds_experimental": None,
    "rls_experimental": None,
}
_HEALTH: dict[str, Check] = {"serviceName": _text}
_SCALING: dict[str, Check] = {"maxConnectionsPerSubchannel": partial(_whole, 1, MOST_CONNECTIONS)}
_CONFIG: dict[str, Check] = {
    "loadBalancingPolicy": _text,
    "loadBalancingConfig": _balancers,
    "methodConfig": partial(_list, partial(_message, _METHOD, ("name",))),
    "retryThrottling": partial(_message, _THROTTLING, tuple(_THROTTLING)),
    "healthCheckConfig": partial(_message, _HEALTH, ()),
    "connectionScaling": partial(_message, _SCALING, ()),
}

check_fields: Callable[[str, Any], None] = partial(_message, _CONFIG, ())
"""Checks each field of a service config by itself, given its path and the config."""
