"""gRPC targets: what a user writes, what grpc.aio dials, and the audience of its tokens."""

from __future__ import annotations

import re

from aio_authgrpc._http.urls import is_loopback
from aio_authgrpc.errors import ConfigurationError

_SCHEMES = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "xds")
_HOST = r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/@?#\[\]]+)(?::(?P<port>[^/]*))?\Z"


class Target:
    """A target, understood: what grpc.aio is given, and the audience, empty where there is no host name."""

    # Not a dataclass: making one takes a millisecond of the package's import time.
    def __init__(self, *, address: str, audience: str, is_local: bool) -> None:
        self.address = address
        self.audience = audience
        self.is_local = is_local


def parse_target(target: str) -> Target:
    """Parse a target in gRPC's syntax (https://grpc.github.io/grpc/core/md_doc_naming.html)."""
    if not isinstance(target, str):
        text = f"expected a str such as 'host:443', not {type(target).__name__}."
        raise ConfigurationError(text, field="target")
    if not target or target != target.strip():
        raise ConfigurationError(
            "it is empty or has blanks around it.", field="target", hint="Write 'host' or 'host:port'."
        )
    url = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", target)
    if url and url[1] not in _SCHEMES:
        bare = target[url.end() :].split("/", maxsplit=1)[0]
        if url[1].lower() in _SCHEMES:
            bare = url[0].lower() + target[url.end() :]
        raise ConfigurationError(
            f"gRPC targets have no {url[0]} scheme.",
            field="target",
            hint=f"Write {bare!r} instead of {target!r}.",
        )
    scheme, colon, rest = target.partition(":")
    if colon and scheme in ("unix", "unix-abstract"):
        return Target(address=target, audience="", is_local=True)
    if colon and scheme in _SCHEMES:
        return _with_scheme(target, scheme, rest)
    host, port = _host_and_port(target)
    return Target(address=f"{host}:{port}", audience=_audience(host, port), is_local=is_loopback(host))


def _with_scheme(target: str, scheme: str, rest: str) -> Target:
    """`dns:host`, `dns:///host`, `dns://server/host`, `ipv4:1.2.3.4:5,1.2.3.5:5`, `xds:///name`."""
    name = rest.rpartition("/")[2] if scheme in ("dns", "xds") else rest
    if scheme == "xds":  # the port, if any, belongs to the name
        return Target(address=target, audience=f"https://{name.partition(':')[0]}", is_local=False)
    addresses = [_host_and_port(address) for address in name.split(",")]
    dialled = ",".join(f"{host}:{port}" for host, port in addresses)
    return Target(
        address=target.removesuffix(name) + dialled,
        audience=_audience(*addresses[0]),
        is_local=all(is_loopback(host) for host, _ in addresses),
    )


def _host_and_port(text: str) -> tuple[str, int]:
    if text.startswith("vsock:"):
        raise ConfigurationError(
            "vsock addresses are not supported.", field="target", hint="Write 'host:port'."
        )
    if "," in text:
        raise ConfigurationError(
            f"{text!r} is not one address.",
            field="target",
            hint="Write several with their kind: 'ipv4:10.0.0.1:443,10.0.0.2:443'.",
        )
    if text.count(":") > 1 and "[" not in text:
        raise ConfigurationError(
            f"{text!r} is ambiguous.",
            field="target",
            hint=f"Write an IPv6 address in brackets: '[{text}]:443'.",
        )
    match = re.match(_HOST, text)
    if match is None:
        raise ConfigurationError(
            f"{text!r} is not a host or host:port.",
            field="target",
            hint="Write 'host' or 'host:port', without a path.",
        )
    port = match["port"]
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigurationError(f"{port!r} is not a port.", field="target", hint="Ports are 1 to 65535.")
    return match["host"], int(port or 443)


def _audience(host: str, port: int) -> str:
    return f"https://{host}" if port == 443 else f"https://{host}:{port}"
