"""URLs and proxies: sent unchanged, and shown without a secret."""

from __future__ import annotations

import base64
import traceback

import pytest
from google.auth.exceptions import TransportError

from aio_authgrpc import AiohttpRequest
from aio_authgrpc.testing import Authority


async def test_a_url_is_sent_as_it_is(request_: AiohttpRequest, authority: Authority) -> None:
    """Quoted characters stay quoted: google-auth has built the URL."""
    await request_.send(authority.url + "/x%2Fy?audience=https%3A%2F%2Fhost")
    (received,) = authority.requests
    assert received.query == {"audience": "https://host"}


async def test_a_wrong_url_is_a_transport_error(request_: AiohttpRequest) -> None:
    """Not an exception of yarl or of aiohttp."""
    with pytest.raises(TransportError):
        await request_.send("http://127.0.0.1:99999/")


@pytest.mark.parametrize("url", ["http://[bad", "http:///x?key=SECRETQ", "nonsense"])
async def test_an_unusable_url_is_a_transport_error_without_its_query(
    request_: AiohttpRequest, url: str
) -> None:
    """Aiohttp's own error shows the whole URL."""
    with pytest.raises(TransportError) as caught:
        await request_.send(url)
    assert "SECRETQ" not in str(caught.value)


async def test_a_netrc_entry_does_not_replace_the_authorization(
    request_: AiohttpRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:  # type: ignore[no-untyped-def]  # tmp_path
    """With trust_env, requests would send Basic, and aiohttp would raise."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password wrong")
    monkeypatch.setenv("NETRC", str(netrc))
    await request_.send(authority.jwks_url, headers={"authorization": "Bearer mine"})
    assert authority.requests[0].headers["authorization"] == "Bearer mine"


async def test_a_proxy_of_the_environment_is_used(
    request_: AiohttpRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY names it; the fake authority stands in for the proxy."""
    monkeypatch.setenv("http_proxy", authority.url)
    monkeypatch.delenv("no_proxy", raising=False)
    response = await request_.send("http://token.example.invalid/jwks")
    assert response.status == 200


async def test_no_proxy_exempts_a_host(
    request_: AiohttpRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_PROXY is honoured."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert (await request_.send(authority.jwks_url)).status == 200


async def test_a_request_to_this_machine_bypasses_the_proxy(
    request_: AiohttpRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without TLS, its secret would travel to the proxy in the clear."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert (await request_.send(authority.token_uri, "POST", b"secret")).status == 400
    assert len(authority.requests) == 1


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:SECRETQ@127.0.0.1:{port}",
        "http://user:SECRETQ@bad host:x",
        "http://user:SECRETQ@[::1",
        "user:SECRETQ@127.0.0.1:{port}",
    ],
)
async def test_an_error_does_not_show_the_password_of_a_proxy(
    request_: AiohttpRequest, authority: Authority, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor in its cause; the authority is not a proxy, and refuses."""
    port = authority.url.rpartition(":")[2]
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(port=port))
    monkeypatch.delenv("https_proxy", raising=False)
    with pytest.raises(TransportError) as caught:
        await request_.send("https://tokens.example.com/token")
    assert "SECRETQ" not in "".join(traceback.format_exception(caught.value))
    assert "SECRETQ" not in repr([caught.value, caught.value.__cause__, caught.value.__context__])


async def test_the_password_of_a_proxy_is_sent_to_it(
    request_: AiohttpRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Basic, without its quoting."""
    port = authority.url.rpartition(":")[2]
    monkeypatch.setenv("HTTP_PROXY", f"http://us%65r:pass%40word@127.0.0.1:{port}")
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    await request_.send("http://tokens.example.com/token")
    sent = authority.requests[-1].headers["Proxy-Authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"user:pass@word"
