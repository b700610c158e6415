"""Targets drawn at random, and what gRPC would make of them: shared by the suite and `fuzz.py`."""

from __future__ import annotations

import ipaddress
import urllib.parse

from hypothesis import strategies as st

from aio_authgrpc import ConfigurationError
from aio_authgrpc._client.target import Target, parse_target

SECRET = "s3cretS3CRET"

HOSTS = ["localhost", "127.0.0.1", "[::1]", "evil.example", "bookstore.a.run.app", "10.0.0.1", "a_b"]
HOSTS += ["xds", "unix"]  # names of gRPC's schemes
JOINTS = ["/", "//", "///", ":", ":443", ":80", ",", ".", "..", "-", "_", "@", "0", ":0", ":65536", " ", ""]
SCHEMES = ["", "dns:", "dns:/", "dns:///", "dns://8.8.8.8/", "ipv4:", "ipv6:", "xds:///", "xds://a/"]
SCHEMES += ["unix:", "unix:///", "unix-abstract:", "vsock:", "google-c2p:", "google-c2p:///"]
SCHEMES += ["https://", "http://", "DNS:///", "Unix:", "file:"]
ODD = ["\0", "\n", "\r\n", "\t", "\x7f", "\x1b[2J", "\u200b", "\u202e", "\ud800", "\uff0e", "\u3002", "é"]
ODD += [
    "%00",
    "%2e",
    "%2F",
    "%3A",
    "%40",
    "%25",
    "%",
    "%zz",
    "?",
    "#",
    "\\",
    ";",
    "&",
    "=",
    "*",
    "'",
    '"',
    "~",
]
ODD += [f"user:{SECRET}@", f":{SECRET}@", f"{SECRET}@", f":{SECRET}", f"?key={SECRET}", f"/{SECRET}+/=="]

pieces = st.sampled_from(HOSTS * 2 + JOINTS * 2 + ODD) | st.text(max_size=3)
names = st.lists(pieces, min_size=1, max_size=5).map("".join)
targets = st.builds("{}{}".format, st.sampled_from(SCHEMES), names)
texts = targets | st.text(max_size=40)


def check_target(target: str) -> None:
    """Fail where a target is accepted whose audience is not what gRPC dials, or a secret is shown."""
    try:
        parsed = parse_target(target)
    except ConfigurationError as error:
        refusal = error
    else:
        check_dialled(parsed)
        return
    assert SECRET not in f"{refusal}{refusal!r}"
    assert f"{refusal}{refusal!r}".isprintable()
    assert refusal.field == "target"


def check_dialled(parsed: Target) -> None:
    assert parsed.address.isprintable()
    assert urllib.parse.unquote(parsed.address).isprintable()
    hosts = dialled_hosts(parsed.address)
    if parsed.audience:
        assert urllib.parse.urlsplit(parsed.audience).netloc.rpartition("@")[0] == ""
        assert host_of(parsed.audience.removeprefix("https://")) == hosts[0]
    if parsed.is_local and hosts:
        assert all(
            host == "localhost" or ipaddress.ip_address(host.partition("%")[0]).is_loopback for host in hosts
        )


def dialled_hosts(target: str) -> list[str]:
    """Return the hosts that gRPC connects to, or looks up; none for a socket on this machine.

    Its way: the URI's scheme if it has a resolver, else `dns`; the path percent-decoded, cut at a NUL.
    """
    scheme, _, rest = target.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return []
    if scheme not in ("dns", "ipv4", "ipv6", "xds", "vsock", "google-c2p", "google-c2p-experimental"):
        scheme, rest = "dns", f"///{target}"
    for end in ("#", "?"):
        rest = rest.partition(end)[0]
    if rest.startswith("//"):
        rest = rest[2:].partition("/")[2]
    path = urllib.parse.unquote(rest.removeprefix("/")).partition("\0")[0]
    return [host_of(name) for name in (path.split(",") if scheme in ("ipv4", "ipv6") else [path])]


def host_of(name: str) -> str:
    """Split a host from its port, as gRPC does: an address with several colons has none."""
    name = urllib.parse.unquote(name)
    if name.startswith("["):
        return name[1:].partition("]")[0]
    host, _, port = name.rpartition(":")
    return host if host and ":" not in host and port.isdigit() else name
