"""google.auth.aio's `Request` over this package's transport. Imported off the loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp
from google.auth.aio import transport

from aio_authgrpc._http.bridge import check_answer
from aio_authgrpc._http.request import AiohttpRequest, HttpResponse
from aio_authgrpc._http.urls import check_encrypted


class AioResponse(transport.Response):
    """A response whose body was read, within the limit."""

    def __init__(self, response: HttpResponse) -> None:
        self._response = response

    @property
    def status_code(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def content(self, chunk_size: int = 1024) -> AsyncGenerator[bytes, None]:  # type: ignore[override]  # google-auth annotates the generator as a coroutine
        data = self._response.data
        for start in range(0, len(data), chunk_size):
            yield data[start : start + chunk_size]

    async def read(self) -> bytes:
        return self._response.data

    async def close(self) -> None:
        pass


class AioRequest(transport.Request):
    """The transport that a `google.auth.aio` credential is refreshed with.

    google-auth's own follows redirects, with the secrets of the request, and reads answers of any length.
    """

    def __init__(self, request: AiohttpRequest) -> None:
        self._request = request

    async def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | aiohttp.ClientTimeout | None = None,
        **options: Any,
    ) -> AioResponse:
        # google-auth's own hands any option on to aiohttp. Redirects are never followed here.
        options.pop("allow_redirects", None)
        if options:
            raise TypeError(f"AioRequest() got an unexpected keyword argument {min(options)!r}")
        check_encrypted(url, body)
        seconds = timeout.total if isinstance(timeout, aiohttp.ClientTimeout) else timeout
        response = await self._request.send(url, method, body, headers, seconds)
        check_answer(response, url)
        return AioResponse(response)

    async def close(self) -> None:
        """Do nothing: the transport below stays its maker's."""
