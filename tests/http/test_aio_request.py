"""The transport of google.auth.aio's credentials: the limits of this package's own, and no redirect."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import google.auth.aio.credentials
import pytest
from google.auth.exceptions import TransportError

from aio_authgrpc import AiohttpRequest, TokenRequest
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc.errors import TokenRefusedError, TokenUnavailableError
from aio_authgrpc.testing import Authority


class Fetching(google.auth.aio.credentials.Credentials):  # type: ignore[misc]  # untyped upstream
    """Sends its refresh token, as a subclass of google.auth.aio's does, and keeps the answer."""

    token: str | None = None

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__()
        self._url, self._options = url, options

    async def refresh(self, request: Any) -> None:
        body = b"refresh_token=1//s3cret-s3cret"
        self.response = await request(self._url, method="POST", body=body, **self._options)
        self.chunks = [chunk async for chunk in self.response.content(3)]
        self.token = (await self.response.read()).decode()
        await self.response.close()


async def fetch(credentials: Fetching, request: AiohttpRequest) -> Any:
    return await as_token_source(credentials).fetch(
        TokenRequest(http=request, audience="https://host", time=0.0)
    )


async def test_an_answer_is_read_as_google_auth_offers_it(
    request_: AiohttpRequest, authority: Authority
) -> None:
    """The status, the headers, the body at once and in chunks."""
    credentials = Fetching(authority.token_uri, timeout=aiohttp.ClientTimeout(total=20))
    authority.fail(200, "abcdefgh")
    assert (await fetch(credentials, request_)).value == "abcdefgh"
    assert credentials.response.status_code == 200
    assert "content-type" in credentials.response.headers
    assert credentials.chunks == [b"abc", b"def", b"gh"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_carries_the_refresh_token_nowhere(
    request_: AiohttpRequest, authority: Authority, status: int
) -> None:
    """google-auth's own transport follows it, with the body after a 307."""
    async with Authority() as elsewhere:
        authority.redirect(elsewhere.token_uri, status=status)
        with pytest.raises(TokenRefusedError, match="a redirect"):
            await fetch(Fetching(authority.token_uri, allow_redirects=True), request_)
        assert elsewhere.requests == []


async def test_an_endless_answer_is_cut_off(request_: AiohttpRequest, authority: Authority) -> None:
    """At 1 MiB."""
    authority.flood()
    with pytest.raises(TransportError, match="more than 1048576 bytes"):
        await fetch(Fetching(authority.token_uri), request_)


async def test_an_answer_that_does_not_come_has_the_transports_time_limit(authority: Authority) -> None:
    """google-auth's own waits for three minutes."""
    gate = authority.hold()
    async with AiohttpRequest(timeout=0.01) as request:
        with pytest.raises(TransportError, match="did not answer within"):
            await fetch(Fetching(authority.token_uri, timeout=180), request)
    gate.release()


async def test_a_server_that_is_overloaded_says_when_to_come_again(
    request_: AiohttpRequest, authority: Authority
) -> None:
    """As for google-auth's other credentials."""
    authority.fail(503, headers={"Retry-After": "7"})
    with pytest.raises(TokenUnavailableError) as caught:
        await fetch(Fetching(authority.token_uri), request_)
    assert caught.value.retry_after == 7


async def test_an_option_of_aiohttps_is_an_error(request_: AiohttpRequest, authority: Authority) -> None:
    """It would have no effect."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'json'"):
        await fetch(Fetching(authority.token_uri, json={}), request_)
    assert authority.requests == []


async def test_cancelling_a_refresh_ends_its_request(request_: AiohttpRequest, authority: Authority) -> None:
    """It runs on the loop, in the task of the refresh."""
    gate = authority.hold()
    task = asyncio.create_task(fetch(Fetching(authority.token_uri), request_))
    await gate.wait_for(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.release()
