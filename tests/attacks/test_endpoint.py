"""A hostile token endpoint: each answer is a token or an error of ours, soon, and costs little memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import google.auth.aio.credentials
import google.oauth2.credentials
import pytest

from aio_authgrpc import AiohttpRequest, AuthRpcError, Token, connect
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc.testing import Authority, EchoServer, EchoStub
from aio_authgrpc.tokens import TokenCache

from .hostile import Attack, HostileServer, drip, endless, once

REFRESH_TOKEN = "1//s3cret-refresh-token"
# The transport's limit in these tests, instead of 30 s: for endpoints that never end.
TIMEOUT = 0.2
# A token takes kilobytes, the largest answer that is read a megabyte, and what is in flight some more.
MOST_MEMORY = 16 * 1024 * 1024


class Endpoint(HostileServer):
    """Attacks the client when it has sent the head of a request."""

    def __init__(self, attack: Attack) -> None:
        super().__init__(attack, begins_after=b"\r\n\r\n")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def body(text: str | bytes, more: bytes = b"") -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return HEAD + more + f"Content-Length: {len(data)}\r\n\r\n".encode() + data


def token_answer(**fields: Any) -> bytes:
    return body(json.dumps({"access_token": "abc", "token_type": "Bearer", "expires_in": 3600} | fields))


BOMB = gzip.compress(bytes(64 * 1024 * 1024))
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ATTACKS: dict[str, Attack] = {
    # Too much
    "endless headers": endless(HEAD, b"X-More: " + b"x" * 4000 + b"\r\n"),
    "an endless header": endless(HEAD + b"X-More: ", b"x" * 65536),
    "an endless status line": endless(b"HTTP/1.1 200 ", b"O" * 65536),
    "an endless body": endless(HEAD + b"\r\n", b" " * 65536),
    "an endless chunked body": endless(CHUNKED, b"1000\r\n" + b" " * 4096 + b"\r\n"),
    "endless trailers": endless(CHUNKED + b"0\r\n", b"X-More: " + b"x" * 4000 + b"\r\n"),
    "an endless chunk extension": endless(CHUNKED + b"1;", b"x" * 65536),
    "endless interim answers": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "endless early hints": endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "a compression bomb": once(body(BOMB, b"Content-Encoding: gzip\r\n")),
    "a bomb in a bomb": once(body(gzip.compress(BOMB), b"Content-Encoding: gzip, gzip\r\n")),
    "a promise of a terabyte": once(HEAD + b"Content-Length: 1099511627776\r\n\r\n{"),
    # Too slow
    "a dripping header": drip(HEAD + b"X-Slow: ", b"x"),
    "a dripping body": drip(HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
    "silence": drip(b"", b""),
    # Malformed
    "a negative length": once(HEAD + b"Content-Length: -1\r\n\r\n{}"),
    "two lengths": once(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} "),
    "a chunk of a huge size": once(CHUNKED + b"f" * 40 + b"\r\n{}"),
    "an upgrade": once(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"),
    "another protocol": once(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "http/0.9": once(b'{"access_token": "abc"}'),
    "nothing": once(b""),
    "a nul in a header": once(HEAD + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}"),
    # JSON
    "deep nesting": once(body("[" * 500_000)),
    "deep objects": once(body('{"a":' * 100_000)),
    "a huge number": once(body('{"access_token": "abc", "expires_in": ' + "9" * 500_000 + "}")),
    "a token of a megabyte": once(token_answer(access_token="a" * 1_000_000)),
    "a token that is a list": once(token_answer(access_token=["abc"])),
    "a token with line ends": once(token_answer(access_token="abc\r\nx-injected: 1")),
    "an empty token": once(token_answer(access_token="")),
    "a token that never expires": once(token_answer(expires_in=1e308)),
    "a token that expires at nan": once(token_answer(expires_in=float("nan"))),
    "a token that expired long ago": once(token_answer(expires_in=-1e308)),
    "half a surrogate pair": once(body('{"access_token": "\\ud800", "expires_in": 3600}')),
    "utf-16": once(body('{"access_token": "abc"}'.encode("utf-16"))),
}


class Aio(google.auth.aio.credentials.Credentials):  # type: ignore[misc]  # untyped upstream
    """A user of google.auth.aio, as one would write it."""

    token: str | None = None

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    async def refresh(self, request: Any) -> None:
        response = await request(self._url, method="POST", body=f"refresh_token={REFRESH_TOKEN}".encode())
        self.token = json.loads(await response.read())["access_token"]


def user(url: str) -> Any:
    return google.oauth2.credentials.Credentials(
        None, refresh_token=REFRESH_TOKEN, client_id="id", client_secret="GOCSPX-s3cret", token_uri=url
    )


@pytest.fixture(params=[user, Aio], ids=["google.oauth2", "google.auth.aio"])
def make(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """Give what makes a credential that asks an endpoint: over the bridge, and on the loop."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped


@pytest.fixture
async def http() -> AsyncIterator[AiohttpRequest]:
    """Give a transport with little patience."""
    async with AiohttpRequest(timeout=TIMEOUT) as http:
        yield http


async def outcome(credentials: Any, http: AiohttpRequest) -> Token | AuthRpcError:
    async with TokenCache(as_token_source(credentials), request=http, attempts=1) as cache:
        try:
            return await cache.get()
        except AuthRpcError as error:
            return error


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_brings_a_token_or_an_error_of_ours(
    name: str, make: Callable[[str], Any], http: AiohttpRequest
) -> None:
    """One request, no other exception, and no secret of the request in the error."""
    async with Endpoint(ATTACKS[name]) as endpoint:
        result = await outcome(make(endpoint.url), http)
    assert endpoint.attacks == 1
    if isinstance(result, AuthRpcError):
        assert "s3cret" not in f"{result}{result!r}{result.__cause__!r}"
    else:
        assert result.value.isascii()
        assert " " not in result.value


@pytest.mark.parametrize("name", [name for name in ATTACKS if "endless" in name or "bomb" in name])
async def test_an_endless_answer_costs_little_memory(name: str, http: AiohttpRequest) -> None:
    """Measured over this process, in which the attacker runs as well."""
    async with Endpoint(ATTACKS[name]) as endpoint:
        await outcome(user(endpoint.url), http)  # imports what it needs
        tracemalloc.start()
        try:
            await outcome(user(endpoint.url), http)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < MOST_MEMORY


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_leads_no_secret_elsewhere(
    status: int, make: Callable[[str], Any], http: AiohttpRequest
) -> None:
    """To another server, with the same path."""
    async with Authority() as elsewhere:
        answer = f"HTTP/1.1 {status} Moved\r\nLocation: {elsewhere.token_uri}\r\nContent-Length: 0\r\n\r\n"
        async with Endpoint(once(answer.encode())) as endpoint:
            result = await outcome(make(endpoint.url), http)
        assert isinstance(result, AuthRpcError)
        assert elsewhere.requests == []


async def test_a_token_cannot_inject_metadata(http: AiohttpRequest, echo_server: EchoServer) -> None:
    """The call is not sent."""
    async with Endpoint(ATTACKS["a token with line ends"]) as endpoint:
        async with connect(
            echo_server.target,
            EchoStub,
            credentials=user(endpoint.url),
            request=http,
            ssl_credentials=echo_server.ssl_credentials,
        ) as stub:
            with pytest.raises(AuthRpcError):
                await stub.UnaryUnary(b"x", timeout=10)
    assert echo_server.calls == []
