"""The fields of gRPC's service config, and checks of what gRPC would drop in silence or refuse at an RPC.

gRPC ignores what it does not know, such as a misspelt key or a policy that it does not have; a value that it
cannot read fails each RPC. The fields are those of service_config.proto in
https://github.com/grpc/grpc-proto, as far as gRPC's C core, which Python's is built on, has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, cast

import grpc

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.secrets import shown
from aio_authgrpc.errors import ConfigurationError

Check = Callable[[str, Any], None]
"""Takes the path of a field, and its value."""


def refuse(field: str, problem: str, hint: str) -> NoReturn:
    """Raise the error of a field."""
    raise ConfigurationError(problem, field=field, hint=hint)


def quoted(name: object) -> str:
    """Return a user's text for an error."""
    return repr(shown(name))


def meant(name: str, known: Iterable[str]) -> str:
    """Return the hint for a name that is not among the known ones."""
    import difflib  # noqa: PLC0415 - for this error alone

    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"It is one of {', '.join(sorted(known))}."


def _message(fields: Mapping[str, Check], required: Sequence[str], field: str, value: Any) -> None:
    check_type(field, value, Mapping)
    for name in value:
        if name not in fields:
            refuse(f"{field}.{shown(name)}", "gRPC would ignore it.", meant(str(name), fields))
    for name in required:
        if name not in value:
            refuse(field, f"it has no {name}.", f"gRPC needs {', '.join(required)}.")
    for name, given in value.items():
        fields[name](f"{field}.{name}", given)


def _list(check: Check, field: str, value: Any) -> None:
    if not isinstance(value, (list, tuple)) or not value:
        refuse(field, "expected a list that is not empty.", "Without it nothing of this would apply.")
    for place, item in enumerate(cast("Sequence[Any]", value)):
        check(f"{field}[{place}]", item)


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
    if float(value[:-1]) < _SHORTEST_BACKOFF:
        text = f"{_SHORTEST_BACKOFF:g}s"
        refuse(field, f"gRPC's calls hang with a pause below {text}.", "Pass a longer one.")


def _number(lowest: float, field: str, value: Any) -> None:
    check_type(field, value, int, float)
    if not lowest <= value <= float(2**31):
        refuse(field, f"{value!r} is not a number from {lowest:g} on.", "")


def _whole(lowest: int, highest: int, field: str, value: Any) -> None:
    check_type(field, value, int)
    if not lowest <= value <= highest:
        refuse(field, f"{value!r} is not in the range from {lowest} to {highest}.", "gRPC takes no other.")


def _status_code(field: str, value: Any) -> None:
    check_type(field, value, str, hint='Write the name, such as "UNAVAILABLE".')
    if value not in grpc.StatusCode.__members__:
        refuse(
            field, f"{quoted(value)} is no status code.", meant(value.upper(), grpc.StatusCode.__members__)
        )


def _missing(problem: str, hint: str, field: str, value: Any) -> None:
    del value
    refuse(field, problem, hint)


def _policy(field: str, value: Any) -> None:
    """Check the shape alone: gRPC knows its balancers, and says so on opening."""
    check_type(field, value, Mapping)
    if len(value) != 1:
        refuse(field, f"it has {len(value)} policies.", 'Write one in each, such as {"round_robin": {}}.')


_UINT32 = 2**32 - 1
# grpcio 1.85.3 ends a call 1 to 2 s before the config's timeout, and every call at once with 1 s or less:
# https://github.com/grpc/grpc/issues/34547, https://github.com/grpc/grpc/issues/40633
_SHORTEST_TIMEOUT = 3
# With 1 ms and 1.5 ms three of four retried calls of grpcio 1.85.3 never end, with 2 ms none of twelve. gRPC
# takes up to 20 % more or less.
_SHORTEST_BACKOFF = 0.005
_NAME: dict[str, Check] = {"service": _service, "method": _text}
_RETRY: dict[str, Check] = {
    "maxAttempts": partial(_whole, 2, 5),  # gRPC would take more for 5 (gRFC A6)
    "initialBackoff": _backoff,
    "maxBackoff": _backoff,
    "backoffMultiplier": partial(_number, 0.001),
    "retryableStatusCodes": partial(_list, _status_code),
}
_ATTEMPT_TIMEOUT = "perAttemptRecvTimeout"
_SWITCH = 'options=[("grpc.experimental.enable_hedging", 1)]'
_METHOD: dict[str, Check] = {
    "name": partial(_list, partial(_message, _NAME, ())),
    "waitForReady": _flag,
    "timeout": _timeout,
    "maxRequestMessageBytes": partial(_whole, 0, _UINT32),
    "maxResponseMessageBytes": partial(_whole, 0, _UINT32),
    "retryPolicy": partial(_message, {**_RETRY, _ATTEMPT_TIMEOUT: _duration}, tuple(_RETRY)),
    "hedgingPolicy": partial(
        _missing,
        "gRPC for Python has no hedging, and would ignore it.",
        "Send the second call yourself, as the documentation's page on connections shows.",
    ),
}
_THROTTLING: dict[str, Check] = {"maxTokens": partial(_whole, 1, 1000), "tokenRatio": partial(_number, 0.001)}
_HEALTH: dict[str, Check] = {"serviceName": _text}
_SCALING: dict[str, Check] = {"maxConnectionsPerSubchannel": partial(_whole, 1, _UINT32)}
_CONFIG: dict[str, Check] = {
    "loadBalancingPolicy": _text,
    "loadBalancingConfig": partial(_list, _policy),
    "methodConfig": partial(_list, partial(_message, _METHOD, ("name",))),
    "retryThrottling": partial(_message, _THROTTLING, tuple(_THROTTLING)),
    "healthCheckConfig": partial(_message, _HEALTH, tuple(_HEALTH)),
    "connectionScaling": partial(_message, _SCALING, tuple(_SCALING)),
}


def check_fields(config: Mapping[str, Any], *, attempt_timeouts: bool) -> None:
    """Check a service config.

    Args:
        config: What the user has passed.
        attempt_timeouts: Whether an option makes gRPC read `perAttemptRecvTimeout`.

    Raises:
        ConfigurationError: It names the field, by its path, and what to do.
    """
    _message(_CONFIG, (), "service_config", config)
    seen: set[tuple[str, str]] = set()
    for place, method_config in enumerate(config.get("methodConfig", ())):
        field = f"service_config.methodConfig[{place}]"
        if not attempt_timeouts and _ATTEMPT_TIMEOUT in method_config.get("retryPolicy", {}):
            path = f"{field}.retryPolicy.{_ATTEMPT_TIMEOUT}"
            refuse(path, "gRPC ignores it without an option.", f"Pass {_SWITCH}, too.")
        for number, name in enumerate(method_config["name"]):
            _check_name(f"{field}.name[{number}]", name, seen)


def _check_name(field: str, name: Mapping[str, str], seen: set[tuple[str, str]]) -> None:
    key = name.get("service", ""), name.get("method", "")
    if key[1] and not key[0]:
        refuse(field, "it has a method without its service.", "Write the service, too.")
    if key in seen:
        refuse(field, "an earlier place has the same name.", "Write what belongs to it in one methodConfig.")
    seen.add(key)
