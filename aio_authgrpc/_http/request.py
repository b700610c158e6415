"""google-auth's `Request`, called in a worker thread, carried by one aiohttp session on the loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Self

import aiohttp
import google.auth.transport
import yarl
from google.auth.exceptions import TransportError

from aio_authgrpc._checks.arguments import check_seconds, check_type
from aio_authgrpc._checks.frames import without_frames
from aio_authgrpc._checks.values import FrozenValue, NotPickled
from aio_authgrpc._http.sent import remember
from aio_authgrpc._http.urls import place_of, proxy_for, with_path
from aio_authgrpc._loop.threads import import_off_loop

if TYPE_CHECKING:
    from anyio.lowlevel import EventLoopToken

Headers = Mapping[str, str | bytes]
"""Request headers; values may be bytes, as some of google-auth's are."""

# A token response has a few hundred bytes, a JWKS a few thousand.
_MAX_RESPONSE_BYTES = 1024 * 1024


# Registered, not inherited: google-auth's class has abstract properties, which fields cannot implement.
@google.auth.transport.Response.register
class HttpResponse(NotPickled, FrozenValue):
    """A response with its whole body read; its headers are found without regard to case."""

    __slots__ = ("data", "headers", "status")

    status: int
    headers: Mapping[str, str]
    data: bytes

    def __repr__(self) -> str:
        return f"HttpResponse(status={self.status})"


class AiohttpRequest(google.auth.transport.Request):
    """google-auth's HTTP transport over one `aiohttp.ClientSession`.

    Call `await request.send(...)` on the loop; or hand the object to any google-auth credential and
    call that in a worker thread. It follows no redirect, keeps no cookies, reads at most 1 MiB,
    decompresses nothing, and takes proxies from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, but no
    password from a netrc file.

    Args:
        session: The session to use; closing it stays with the caller. None makes one at the first
            request, which `aclose()` closes.
        timeout: Seconds that one request may take in all, also where google-auth would allow more.
    """

    def __init__(self, session: aiohttp.ClientSession | None = None, *, timeout: float = 30.0) -> None:
        check_type("session", session, aiohttp.ClientSession, type(None))
        check_seconds("timeout", timeout)
        self._session = session
        self._owns_session = session is None
        self._timeout = timeout
        self._loop_token: EventLoopToken | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def send(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Headers | None = None,
        timeout: float | None = None,
        *,
        ssl_context: ssl.SSLContext | bool = True,
    ) -> HttpResponse:
        """Send one request, on the loop, and return its response with the body read.

        Cancelling it ends the request.

        Args:
            url: Sent unchanged: quoted characters stay quoted.
            method: `"GET"`, `"POST"`, …
            body: Text is sent as UTF-8.
            headers: Values may be bytes, as some of google-auth's are.
            timeout: Seconds; never more than the constructor's, which also stands for None.
            ssl_context: A context to verify with instead of the default one; False does not verify.

        Raises:
            google.auth.exceptions.TransportError: No response; the cause says why.
        """
        try:
            return await self._send(url, method, body, headers, timeout, ssl_context)
        except BaseException as error:
            without_frames(error)
            raise

    async def _send(
        self,
        url: str,
        method: str,
        body: bytes | str | None,
        headers: Headers | None,
        timeout: float | None,
        ssl_context: ssl.SSLContext | bool,
    ) -> HttpResponse:
        total = self._timeout if timeout is None else min(timeout, self._timeout)
        proxy, for_proxy = proxy_for(url)
        # Only the proxy gets a tunnel's password; without a tunnel, it reads the request's own headers.
        own = {**(headers or {}), **({} if url.startswith("https:") else for_proxy)}
        sent = {name: _text(value) for name, value in own.items() if name.lower() != "accept-encoding"}
        remember(url, {**sent, **for_proxy}, body)
        try:
            async with self.session().request(
                method,
                yarl.URL(with_path(url), encoded=True),
                data=body.encode() if isinstance(body, str) else body,
                headers={**sent, "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=total),
                allow_redirects=False,
                skip_auto_headers=("Content-Type",),
                proxy=proxy,
                proxy_headers=for_proxy or None,
                ssl=ssl_context,
                auto_decompress=False,
            ) as response:
                body_read = await _read(response, url)
                return HttpResponse(status=response.status, headers=response.headers, data=body_read)
        except TimeoutError as error:
            raise TransportError(f"{place_of(url)} did not answer within {total:g} s.") from error
        except aiohttp.InvalidURL:
            raise TransportError(f"{place_of(url)} is not a URL.") from None  # aiohttp's text has its query
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            raise TransportError(f"{place_of(url)}: {type(error).__name__}: {error}") from error

    def session(self) -> aiohttp.ClientSession:
        """Return the session, made now if there is none; on the loop only.

        Raises:
            google.auth.exceptions.TransportError: This object was closed, or belongs to another loop.
        """
        if self._closed:
            raise TransportError("The AiohttpRequest was closed.")
        loop = asyncio.get_running_loop()
        if self._owns_session and self._loop is not loop:
            if self._session is not None:
                raise TransportError("The AiohttpRequest belongs to another event loop: make one for each.")
            self._loop = loop
        if self._session is None:
            # No trust_env: with a matching netrc entry aiohttp would send Basic beside the bearer.
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    @property
    def closed(self) -> bool:
        """Whether it, or the session that it was given, was closed."""
        return self._closed or (self._session is not None and self._session.closed)

    async def bind(self) -> None:
        """Remember the running loop, so that threads that google-auth itself starts find it."""
        await import_off_loop("anyio.from_thread", "anyio._backends._asyncio")
        from anyio.lowlevel import current_token  # noqa: PLC0415 - loads anyio's backend, 25 ms

        self._loop_token = current_token()

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Headers | None = None,
        timeout: float | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        **_: object,
    ) -> HttpResponse:
        """Send one request from a worker thread, blocking it, as google-auth calls it.

        `verify` and `cert` are as in requests: a CA bundle's path, or False; the path of a client
        certificate with its key, or both paths. The other arguments are those of `send`.

        Raises:
            google.auth.exceptions.TransportError: No response.
            RuntimeError: Called on the loop's own thread, where it would wait for itself.
        """
        context = _ssl_context(verify, cert)
        return self.run_on_loop(partial(self.send, url, method, body, headers, timeout, ssl_context=context))

    def run_on_loop(self, send: Callable[[], Coroutine[None, None, HttpResponse]]) -> HttpResponse:
        """Await `send()` on the loop that this object is bound to, blocking the calling thread."""
        from anyio import from_thread  # noqa: PLC0415 - see bind()

        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "AiohttpRequest was called on the event loop, where it would wait for itself: "
                "await request.send(...), or call the credential in a worker thread."
            )
        return from_thread.run(send, token=self._loop_token)

    async def aclose(self) -> None:
        """Close the session, unless the caller passed it. Calling it again does nothing."""
        session, self._closed = self._session, True
        if self._owns_session and session is not None:
            self._session = None
            await session.close()  # its connections are closed before it waits, and may be cancelled

    async def __aenter__(self) -> Self:
        await self.bind()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __deepcopy__(self, memo: object) -> Self:
        # google-auth copies the request for look-ups in its own threads; a session cannot be copied.
        return self


def own_request(request: google.auth.transport.Request | None) -> AiohttpRequest | None:
    """Return a request that works on the loop, or None in place of another of google-auth's, which block."""
    if isinstance(request, AiohttpRequest):
        return request
    check_type(
        "request", request, google.auth.transport.Request, type(None), hint="Pass an AiohttpRequest, or None."
    )
    return None


async def _read(response: aiohttp.ClientResponse, url: str) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() not in ("identity", ""):
        # A few kilobytes may stand for gigabytes.
        raise TransportError(f"{place_of(url)} answered with a compressed body, which was not asked for.")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_RESPONSE_BYTES:
            raise TransportError(f"{place_of(url)} answered with more than {_MAX_RESPONSE_BYTES} bytes.")
    return bytes(body)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _ssl_context(verify: bool | str | None, cert: str | tuple[str, str] | None) -> ssl.SSLContext | bool:
    """Map requests' `verify` and `cert` to what aiohttp takes. Reads files: for worker threads."""
    if cert is None and not isinstance(verify, str):
        return verify is not False
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        context.load_cert_chain(*([cert] if isinstance(cert, str) else cert))
    return context
