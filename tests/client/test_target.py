"""Targets: what is dialled, for whom the token is, and what is refused with what advice."""

from __future__ import annotations

from typing import Any

import pytest

from aio_authgrpc import ConfigurationError
from aio_authgrpc._client.target import parse_target


@pytest.mark.parametrize(
    ("target", "address", "audience", "is_local"),
    [
        ("bookstore-xyz.a.run.app", "bookstore-xyz.a.run.app:443", "https://bookstore-xyz.a.run.app", False),
        ("host:443", "host:443", "https://host", False),
        ("host:8443", "host:8443", "https://host:8443", False),
        ("localhost:50051", "localhost:50051", "https://localhost:50051", True),
        ("127.0.0.1:80", "127.0.0.1:80", "https://127.0.0.1:80", True),
        ("127.9.9.9", "127.9.9.9:443", "https://127.9.9.9", True),
        ("10.0.0.1:80", "10.0.0.1:80", "https://10.0.0.1:80", False),
        ("[::1]:80", "[::1]:80", "https://[::1]:80", True),
        ("[2001:db8::1]", "[2001:db8::1]:443", "https://[2001:db8::1]", False),
        ("dns:host", "dns:host:443", "https://host", False),
        ("dns:///host:1", "dns:///host:1", "https://host:1", False),
        ("dns://8.8.8.8/host", "dns://8.8.8.8/host:443", "https://host", False),
        ("ipv4:127.0.0.1:1,127.0.0.2:2", "ipv4:127.0.0.1:1,127.0.0.2:2", "https://127.0.0.1:1", True),
        ("ipv6:[::1]:1", "ipv6:[::1]:1", "https://[::1]:1", True),
        ("unix:/run/x.sock", "unix:/run/x.sock", "", True),
        ("unix:///run/x.sock", "unix:///run/x.sock", "", True),
        ("unix-abstract:name", "unix-abstract:name", "", True),
        ("xds:///service", "xds:///service", "https://service", False),
    ],
)
def test_a_target_is_understood_as_grpc_names_them(
    target: str, address: str, audience: str, is_local: bool
) -> None:
    """Port 443 is implied and dropped from the audience; other ports are kept."""
    parsed = parse_target(target)
    assert (parsed.address, parsed.audience, parsed.is_local) == (address, audience, is_local)


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        ("https://host", "Write 'host'"),
        ("https://host:8080/v1/x", "Write 'host:8080'"),
        ("http://host", "Write 'host'"),
        ("grpc://host", "Write 'host'"),
        ("grpcs://host", "Write 'host'"),
        ("", "Write 'host'"),
        (" host", "Write 'host'"),
        ("host\n", "Write 'host'"),
        ("host/path", "without a path"),
        ("host:", "1 to 65535"),
        ("host:0", "1 to 65535"),
        ("host:65536", "1 to 65535"),
        ("host:https", "1 to 65535"),
        ("::1", "[::1]:443"),
        ("user@host", "Write 'host'"),
        ("a b", "Write 'host'"),
        ("DNS:///host:443", "Write 'dns:///host:443'"),
        ("vsock:2:443", "vsock addresses are not supported"),
        ("localhost:1,10.0.0.1:2", "Write several with their kind: 'ipv4:"),
        (b"host", "expected a str"),
        (None, "expected a str"),
    ],
)
def test_what_is_no_target_is_refused_with_what_to_write(target: Any, advice: str) -> None:
    """The error names the field and the next step."""
    with pytest.raises(ConfigurationError) as caught:
        parse_target(target)
    assert caught.value.field == "target"
    assert advice in str(caught.value)
