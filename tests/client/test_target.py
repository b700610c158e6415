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
        ("xds", "dns:///xds:443", "https://xds", False),
        ("unix", "dns:///unix:443", "https://unix", False),
        ("dns:///host:1", "dns:///host:1", "https://host:1", False),
        ("dns://8.8.8.8/host", "dns://8.8.8.8/host:443", "https://host", False),
        ("ipv4:127.0.0.1:1,127.0.0.2:2", "ipv4:127.0.0.1:1,127.0.0.2:2", "https://127.0.0.1:1", True),
        ("ipv6:[::1]:1", "ipv6:[::1]:1", "https://[::1]:1", True),
        ("unix:/run/x.sock", "unix:/run/x.sock", "", True),
        ("unix:///run/x.sock", "unix:///run/x.sock", "", True),
        ("unix-abstract:name", "unix-abstract:name", "", True),
        ("xds:///service", "xds:///service", "https://service", False),
        ("xds:///service:8080", "xds:///service:8080", "https://service", False),
        ("xds://authority/service", "xds://authority/service", "https://service", False),
        ("dns:/localhost:1", "dns:/localhost:1", "https://localhost:1", True),
        ("[::1%25lo]:80", "[::1%25lo]:80", "https://[::1%25lo]:80", True),
        ("my_service.internal:80", "my_service.internal:80", "https://my_service.internal:80", False),
        ("unix:/run/a@b.sock", "unix:/run/a@b.sock", "", True),
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
        ("dns:///localhost:1,10.0.0.1:2", "Write several with their kind: 'ipv4:"),
        ("dns://localhost:50051", "Write 'dns:///host:port'"),
        ("dns:///", "Write 'dns:///host:port'"),
        ("google-c2p:///host", "Write 'host'"),
        ("google-c2p:443", "Write 'host:port'"),
        ("[fe80::1%1]:443", "Write 'host'"),
        ("bücher.example", "'xn--...'"),
        ("host?key=1", "without a path"),
        ("host#x", "without a path"),
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


@pytest.mark.parametrize("odd", ["\0", "%00", "\n", "\x1b", "\x7f", "\u200b", "\u202e", "\ud800", "%0A"])
@pytest.mark.parametrize(
    "form",
    [
        "a{}b",
        "host:443{}",
        "dns:///a{}b:1",
        "ipv4:127.0.0.1{}:1",
        "xds:///a{}b",
        "unix:/a{}b",
        "unix-abstract:a{}b",
    ],
)
def test_a_character_that_cannot_be_printed_is_refused_in_every_scheme(form: str, odd: str) -> None:
    """What stands before a NUL is dialled, written or percent-encoded; the audience would be of the rest."""
    with pytest.raises(ConfigurationError) as caught:
        parse_target(form.format(odd))
    assert caught.value.field == "target"
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "target",
    [
        "dns:///evil.example:443/localhost:443",
        "dns:///evil.example/bookstore.a.run.app",
        "dns://8.8.8.8/evil.example/localhost",
        "dns:evil.example/localhost",
    ],
)
def test_a_dns_path_of_several_segments_is_refused(target: str) -> None:
    """The whole path is resolved, so the last segment is not the host."""
    with pytest.raises(ConfigurationError, match="not one host"):
        parse_target(target)


def test_an_xds_name_that_is_no_host_has_no_audience() -> None:
    """A source that needs an audience then asks for one."""
    assert [parse_target(f"xds:///{name}").audience for name in ("a/b", "a%2Fb", "good?x", "a:b:1")] == [
        ""
    ] * 4


def test_localhost_is_not_this_machine_for_a_name_server_of_ones_own() -> None:
    """That server says which address the name has."""
    assert not parse_target("dns://192.0.2.1/localhost:1").is_local


@pytest.mark.parametrize(
    "target",
    [
        "user:s3cret@host",
        "user:s3cret@host:443",
        "https://user:s3cret@host/v1",
        "dns:///user:s3cret@host",
        "dns://user:s3cret@8.8.8.8/host",
        "xds://user:s3cret@authority/name",
        "ipv4:user:s3cret@127.0.0.1:1",
        "user:s3cret",
        "host:s3cret",
        "https://host/v1?key=s3cret",
        "https://s3cret+key=/",
        "s3cret/key+material==",
        "dns:///s3cret/key",
        '{"private_key": "s3cret"}',
    ],
)
def test_a_secret_in_a_target_is_not_shown(target: str) -> None:
    """A URL with a password, or a key that was passed in the wrong place."""
    with pytest.raises(ConfigurationError) as caught:
        parse_target(target)
    assert "s3cret" not in str(caught.value) + repr(caught.value)
