"""The HTTP transport on the loop: what it sends, what it raises, and which session it closes."""

from __future__ import annotations

import asyncio
import json
import zlib

import aiohttp
import google.auth.transport
import google.oauth2.service_account
import pytest
from google.auth.exceptions import TransportError

from aio_authgrpc import AiohttpRequest
from aio_authgrpc.testing import TOKEN_PATH, Authority


async def test_a_request_is_sent_and_its_response_read(
    request_: AiohttpRequest, authority: Authority
) -> None:
    """Status, headers and body, as google-auth's Response."""
    response = await request_.send(authority.jwks_url)
    assert isinstance(response, google.auth.transport.Response)
    assert response.status == 200
    assert response.headers["content-type"].partition(";")[0] == "application/json"
    assert json.loads(response.data)["keys"]


async def test_header_values_may_be_bytes(request_: AiohttpRequest, authority: Authority) -> None:
    """google-auth's AWS credentials send some."""
    await request_.send(authority.jwks_url, headers={"x-bytes": b"value"})
    assert authority.requests[0].headers["x-bytes"] == "value"


async def test_a_redirect_is_not_followed(request_: AiohttpRequest, authority: Authority) -> None:
    """A token request goes to the credential's endpoint and nowhere else."""
    authority.fail(302, "elsewhere", headers={"location": authority.jwks_url})
    assert (await request_.send(authority.token_uri, "POST", b"x")).status == 302
    assert len(authority.requests) == 1


async def test_a_huge_response_is_refused(request_: AiohttpRequest, authority: Authority) -> None:
    """The limit of 1 MiB is far above any token response."""
    authority.fail(200, "x" * (1024 * 1024 + 1))
    with pytest.raises(TransportError, match="more than 1048576 bytes"):
        await request_.send(authority.token_uri, "POST", b"x")


async def test_a_reset_connection_is_a_transport_error(
    request_: AiohttpRequest, authority: Authority
) -> None:
    """With aiohttp's error as its cause, and the place without the query."""
    authority.reset_connections()
    with pytest.raises(TransportError, match=TOKEN_PATH) as caught:
        await request_.send(authority.token_uri + "?key=value", "POST", b"x")
    assert isinstance(caught.value.__cause__, aiohttp.ClientError)
    assert "key=value" not in str(caught.value)


async def test_a_slow_response_is_a_transport_error(authority: Authority) -> None:
    """The constructor's timeout also bounds google-auth's 120 s."""
    gate = authority.hold()
    async with AiohttpRequest(timeout=0.01) as request:
        with pytest.raises(TransportError, match=r"did not answer within 0\.01 s"):
            await request.send(authority.token_uri, "POST", b"x", timeout=120)
    gate.release()


async def test_a_session_of_ones_own_is_closed(authority: Authority) -> None:
    """aclose() closes the session that the object made, and may be called twice."""
    request = AiohttpRequest()
    await request.send(authority.jwks_url)
    session = request.session()
    await request.aclose()
    await request.aclose()
    assert session.closed


async def test_a_session_that_was_handed_in_stays_open(authority: Authority) -> None:
    """Its maker closes it."""
    async with aiohttp.ClientSession() as session:
        async with AiohttpRequest(session) as request:
            await request.send(authority.jwks_url)
        assert not session.closed


async def test_after_aclose_nothing_is_sent(authority: Authority) -> None:
    """And no session is made, which would stay open."""
    request = AiohttpRequest()
    await request.aclose()
    with pytest.raises(TransportError, match="was closed"):
        await request.send(authority.jwks_url)


async def test_a_users_closed_session_is_a_transport_error(authority: Authority) -> None:
    """Not aiohttp's RuntimeError."""
    session = aiohttp.ClientSession()
    await session.close()
    with pytest.raises(TransportError, match="closed"):
        await AiohttpRequest(session).send(authority.jwks_url)


def test_another_loop_is_a_transport_error() -> None:
    """One object over two asyncio.run()."""
    request = AiohttpRequest()

    async def use() -> None:
        async with Authority() as authority:
            await request.send(authority.jwks_url)

    async def use_and_keep() -> None:
        await use()
        session = request.session()
        await session.close()

    asyncio.run(use_and_keep())
    with pytest.raises(TransportError, match="another event loop"):
        asyncio.run(use())


async def test_a_body_is_asked_for_as_it_is(request_: AiohttpRequest, authority: Authority) -> None:
    """Also where a credential asks for a compressed one."""
    await request_.send(authority.jwks_url)
    await request_.send(authority.jwks_url, headers={"accept-encoding": "gzip"})
    assert [request.headers.getall("accept-encoding") for request in authority.requests] == [["identity"]] * 2  # type: ignore[attr-defined]  # aiohttp's


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
async def test_a_compressed_body_is_refused_unread(
    request_: AiohttpRequest, authority: Authority, encoding: str
) -> None:
    """A few kilobytes may stand for gigabytes."""
    body = zlib.compress(bytes(64 * 1024 * 1024), wbits=31).decode("latin-1")
    authority.fail(200, body, headers={"Content-Encoding": encoding})
    with pytest.raises(TransportError, match="compressed body"):
        await request_.send(authority.token_uri, "POST", b"x")


async def test_an_identity_encoding_is_none(request_: AiohttpRequest, authority: Authority) -> None:
    """A server may name it."""
    authority.fail(200, "abc", headers={"Content-Encoding": "identity"})
    assert (await request_.send(authority.token_uri, "POST", b"x")).data == b"abc"
