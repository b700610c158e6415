"""URLs: what is sent, what is shown, and which proxy and which host they mean."""

from __future__ import annotations

import base64
import ipaddress
import urllib.parse
import urllib.request

from google.auth.exceptions import TransportError


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
    """Return the proxy that the environment names for this URL, and the header with its password."""
    parts = _split(url)
    if parts is None:
        return None, {}  # sending it raises
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


def _split(url: str) -> urllib.parse.SplitResult | None:
    try:
        return urllib.parse.urlsplit(url)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Return whether a host name or an address, in brackets or not, means this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
