"""URLs: what is sent, what is shown, and which proxy and which host they mean."""

from __future__ import annotations

import base64
import ipaddress
import urllib.parse
import urllib.request

from google.auth.exceptions import TransportError

from aio_authgrpc.errors import ConfigurationError

# The metadata service of AWS: unlike its IPv4 address it is no link-local one, but leads nowhere else either.
_AWS_IPV6 = ipaddress.ip_address("fd00:ec2::254")


def with_path(url: str) -> str:
    """Return the URL with an explicit path: a proxy is sent the whole URL (RFC 9112, 3.2.2)."""
    parts = _split(url)
    return url if parts is None or parts.path else urllib.parse.urlunsplit(parts._replace(path="/"))


def place_of(url: str) -> str:
    """Return the URL without its query and its password, for messages."""
    parts = _split(url)
    return (
        "The address" if parts is None else f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    )


def proxy_for(url: str) -> tuple[str | None, dict[str, str]]:
    """Return the proxy that the environment names for this URL, and the header with its password.

    None for this machine: without TLS, a secret would travel to the proxy in the clear.
    """
    parts = _split(url)
    if parts is None or is_loopback(parts.hostname or ""):
        return None, {}  # sending a URL that cannot be split raises
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return None, {}
    try:
        named = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = named.hostname or "", named.port
    except ValueError:
        named, host, port = parts, "", None
    if not host.isprintable() or not host or " " in host:
        raise TransportError(f"{parts.scheme.upper()}_PROXY must name a proxy such as 'http://host:3128'.")
    place = f"[{host}]" if ":" in host else host
    address = f"{named.scheme}://{place}" + ("" if port is None else f":{port}")
    if named.username is None:
        return address, {}
    # Not in the URL: aiohttp's errors would show the password.
    user = urllib.parse.unquote(f"{named.username}:{named.password or ''}")
    return address, {"Proxy-Authorization": "Basic " + base64.b64encode(user.encode()).decode()}


def keeps_secrets(url: str) -> bool:
    """Return whether nobody on the network can read what is sent to a URL: over TLS, or on this machine."""
    parts = _split(url)
    if parts is None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def check_encrypted(url: str, body: bytes | str | None) -> None:
    """Refuse a request for a token whose body, and the secret in it, would cross the network in the clear.

    Requests without a body are those to the metadata services of clouds, which have no TLS.
    """
    if body and not keeps_secrets(url):
        raise ConfigurationError(
            f"{place_of(url)} would get a secret in the clear.",
            field="credentials",
            hint="A token endpoint needs an https URL; http is for this machine only.",
        )


def _split(url: str) -> urllib.parse.SplitResult | None:
    try:
        return urllib.parse.urlsplit(url)
    except ValueError:
        return None


def is_link_local(url: str) -> bool:
    """Return whether a URL's host is an address on this link: where the metadata services of clouds are."""
    parts = _split(url)
    try:
        address = ipaddress.ip_address((parts.hostname or "") if parts else "")
    except ValueError:
        return False
    return address.is_link_local or address == _AWS_IPV6


def is_loopback(host: str) -> bool:
    """Return whether a host name or an address, in brackets or not, means this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
