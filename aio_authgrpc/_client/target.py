"""gRPC targets: what a user writes, what grpc.aio dials, and the audience of its tokens."""

from __future__ import annotations

import re
import urllib.parse

from aio_authgrpc._calls.plaintext import is_this_machine
from aio_authgrpc.errors import ConfigurationError

_SCHEMES = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "xds")
# What gRPC decodes or cuts off, such as `%00` and `?`, has no place in a name: the audience would be another
# server's than the one that is dialled. A zone of an IPv6 address is written `%25eth0` (RFC 6874).
_NAME = r"[A-Za-z0-9._-]+"
_HOST = rf"(?P<host>\[[0-9A-Fa-f:.]+(?:%25{_NAME})?\]|{_NAME})(?::(?P<port>[^/]*))?\Z"
# gRPC has more schemes than those that are taken here.
_OTHER_SCHEMES = ("google-c2p", "google-c2p-experimental", "vsock")


class Target:
    """A target, understood: what grpc.aio is given, and the audience, empty where there is no host name."""

    # Not a dataclass: making one takes a millisecond of the package's import time.
    def __init__(self, *, address: str, audience: str) -> None:
        self.address = address
        self.audience = audience
        self.is_local = is_this_machine(address)


def parse_target(target: str) -> Target:
    """Parse a target in gRPC's syntax (https://grpc.github.io/grpc/core/md_doc_naming.html).

    The errors show nothing of it beyond a host and a port: it may be a URL with a password, or a secret that
    was passed in the wrong place.
    """
    if not isinstance(target, str):
        text = f"expected a str such as 'host:443', not {type(target).__name__}."
        raise ConfigurationError(text, field="target")
    if not target or target != target.strip():
        raise _error("it is empty or has blanks around it.")
    if not target.isprintable() or not urllib.parse.unquote(target).isprintable():
        raise _error("it has a character that cannot be printed, such as a NUL or a line end.")
    scheme, colon, rest = target.partition(":")
    if colon and scheme in ("unix", "unix-abstract"):
        return Target(address=target, audience="")
    if "@" in target:
        raise _error(
            "a user name or a password has no place in it.",
            "Write 'host' or 'host:port', and pass the identity as credentials=.",
        )
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", target) and scheme not in _SCHEMES:
        raise _of_another_scheme(scheme, rest)
    if colon and scheme == "xds":
        return Target(address=target, audience=_xds_audience(rest))
    if colon and scheme in _SCHEMES:
        return _with_scheme(scheme, rest)
    host, port = _host_and_port(target)
    # gRPC would take such a host for a scheme, and its port for a name.
    is_scheme = host.lower() in (*_SCHEMES, *_OTHER_SCHEMES)
    return Target(address=f"{'dns:///' if is_scheme else ''}{host}:{port}", audience=_audience(host, port))


def _error(problem: str, hint: str = "Write 'host' or 'host:port'.") -> ConfigurationError:
    return ConfigurationError(problem, field="target", hint=hint)


def _of_another_scheme(scheme: str, rest: str) -> ConfigurationError:
    instead = rest if scheme.lower() in _SCHEMES else rest.strip("/").split("/", maxsplit=1)[0]
    shown = f"Write {instead!r}." if re.fullmatch(rf"/*{_NAME}(?::[0-9]+)?", instead) else ""
    if shown and scheme.lower() in _SCHEMES:
        shown = f"Write '{scheme.lower()}:{instead}'."
    return _error(f"gRPC targets have no {scheme}:// scheme.", shown or "Write 'host' or 'host:port'.")


def _with_scheme(scheme: str, rest: str) -> Target:
    """`dns:host`, `dns:///host`, `dns://server/host`, `ipv4:1.2.3.4:5,1.2.3.5:5`."""
    found = re.fullmatch(r"(//[^/]*/|/)?([^/]+)", rest) if scheme == "dns" else None
    if scheme == "dns" and found is None:
        raise _error("its path is not one host.", "Write 'dns:///host:port'.")
    before, names = (found[1] or "", [found[2]]) if found else ("", rest.split(","))
    addresses = [_host_and_port(name) for name in names]
    dialled = ",".join(f"{host}:{port}" for host, port in addresses)
    return Target(address=f"{scheme}:{before}{dialled}", audience=_audience(*addresses[0]))


def _xds_audience(rest: str) -> str:
    """Return the audience for the name of an xDS listener where that is a host; else none can be told."""
    name = re.fullmatch(rf"(?://[^/]*/)?({_NAME})(?::[0-9]+)?", rest)  # the port belongs to the name
    return f"https://{name[1]}" if name else ""


def _host_and_port(text: str) -> tuple[str, int]:
    if text.partition(":")[0] in _OTHER_SCHEMES:
        raise _error(f"{text.partition(':')[0]} addresses are not supported.", "Write 'host:port'.")
    if "," in text:
        raise _error(
            "it is not one address.", "Write several with their kind: 'ipv4:10.0.0.1:443,10.0.0.2:443'."
        )
    if re.fullmatch(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", text):
        raise _error(f"{text!r} is ambiguous.", f"Write an IPv6 address in brackets: '[{text}]:443'.")
    match = re.match(_HOST, text)
    if match is None:
        raise _error(
            "it is not a host or host:port.",
            "Write 'host' or 'host:port', without a path, and a name beyond ASCII as 'xn--...'.",
        )
    port = match["port"]
    if port is not None and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
        shown = repr(port) if re.fullmatch("[0-9]{0,9}", port) else "what follows the colon"
        raise _error(f"{shown} is not a port.", "Ports are 1 to 65535.")
    return match["host"], int(port or 443)


def _audience(host: str, port: int) -> str:
    return f"https://{host}" if port == 443 else f"https://{host}:{port}"
