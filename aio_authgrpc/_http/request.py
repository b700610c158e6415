"""google-auth's `Request`, carried by one aiohttp session on the loop.

google-auth is written for threads: a credential calls `request(url=..., method=..., ...)` and blocks
until the response is there. `AiohttpRequest` is such a callable. Called in a worker thread it sends
the request on the event loop and blocks that thread alone. `bridge_to_thread` runs a blocking
function, such as `credentials.refresh`, in a worker thread so that it can be cancelled and bounded.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import contextvars
import email.utils
import errno
import importlib
import ssl
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import aiohttp
import google.auth.transport
import yarl
from google.auth.exceptions import TransportError

from aio_authgrpc.errors import (
    ConfigurationError,
    TokenRefusedError,
    TokenUnavailableError,
    check_type,
    is_retryable_status,
    token_error,
)

if TYPE_CHECKING:
    from anyio.lowlevel import EventLoopToken

T = TypeVar("T")

# A token response has a few hundred bytes, a JWKS a few thousand. More is not what was asked for.
_MAX_RESPONSE_BYTES = 1024 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)


class HttpResponse(google.auth.transport.Response):
    """A response with its body read, as google-auth's `transport.Response`.

    Args:
        status: The HTTP status.
        headers: Its headers, found without regard to case.
        data: The whole body.
    """

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self._status = status
        self._headers = headers
        self._data = data

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, found without regard to case."""
        return self._headers

    @property
    def data(self) -> bytes:
        """The whole body."""
        return self._data


class AiohttpRequest(google.auth.transport.Request):
    """google-auth's HTTP transport over one `aiohttp.ClientSession`.

    Call `await request.send(...)` on the loop; or hand the object to any google-auth credential and
    call that in a worker thread. It follows no redirect, keeps no cookies, reads at most 1 MiB, and
    takes proxies from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, but no password from a netrc file.

    Args:
        session: The session to use. It stays the caller's, who closes it. None makes one at the first
            request, which `aclose()` closes.
        timeout: Seconds that one request may take in all, also where google-auth would allow more.
    """

    def __init__(self, session: aiohttp.ClientSession | None = None, *, timeout: float = 30.0) -> None:
        check_type("session", session, aiohttp.ClientSession, type(None))
        check_type("timeout", timeout, int, float)
        if not timeout > 0:
            raise ConfigurationError(f"{timeout!r} is not a positive number of seconds.", field="timeout")
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
        headers: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
        *,
        ssl_context: ssl.SSLContext | bool = True,
    ) -> HttpResponse:
        """Send one request, on the loop, and return its response with the body read.

        Cancelling it ends the request.

        Args:
            url: Sent as it is: what is quoted stays quoted.
            method: `"GET"`, `"POST"`, …
            body: Text is sent as UTF-8.
            headers: Values may be bytes, as some of google-auth's are.
            timeout: Seconds; never more than the constructor's, which also stands for None.
            ssl_context: A context to verify with instead of the default one; False does not verify.

        Raises:
            google.auth.exceptions.TransportError: No response; the cause says why.
        """
        total = self._timeout if timeout is None else min(timeout, self._timeout)
        proxy, for_proxy = _proxy_for(url)
        # A tunnel's password is for the proxy alone; without one, the proxy reads the request's own headers.
        own = {**(headers or {}), **({} if url.startswith("https:") else for_proxy)}
        try:
            async with self.session().request(
                method,
                yarl.URL(_with_path(url), encoded=True),
                data=body.encode() if isinstance(body, str) else body,
                headers={name: _text(value) for name, value in own.items()},
                timeout=aiohttp.ClientTimeout(total=total),
                allow_redirects=False,
                skip_auto_headers=("Content-Type",),
                proxy=proxy,
                proxy_headers=for_proxy or None,
                ssl=ssl_context,
            ) as response:
                return HttpResponse(response.status, response.headers, await _read(response, url))
        except TimeoutError as error:
            raise TransportError(f"{_place(url)} did not answer within {total:g} s.") from error
        except aiohttp.InvalidURL:
            raise TransportError(f"{_place(url)} is no URL.") from None  # aiohttp's text has its query
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            raise TransportError(f"{_place(url)}: {type(error).__name__}: {error}") from error

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

    def bind(self) -> None:
        """Remember the running loop, so that threads which google-auth starts itself find it."""
        from anyio.lowlevel import current_token  # noqa: PLC0415 - loads anyio's backend, 25 ms

        self._loop_token = current_token()

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        *,
        sending: ThreadRequest | None = None,
        **_: object,
    ) -> HttpResponse:
        """Send one request from a worker thread, blocking it: what google-auth calls.

        Args:
            url: See `send`.
            method: See `send`.
            body: See `send`.
            headers: See `send`.
            timeout: See `send`.
            verify: As in requests: a CA bundle's path, or False.
            cert: As in requests: the path of a client certificate with its key, or both paths.
            sending: Can end the request; for the bridge.

        Raises:
            google.auth.exceptions.TransportError: No response.
            RuntimeError: Called on the loop's own thread, where it would wait for itself.
        """
        from anyio import from_thread  # noqa: PLC0415 - see bind()

        if _loop_is_running_here():
            raise RuntimeError(
                "AiohttpRequest was called on the event loop, where it would wait for itself: "
                "await request.send(...), or call the credential in a worker thread."
            )
        context = _ssl_context(verify, cert)

        async def send() -> HttpResponse:
            response = self.send(url, method, body, headers, timeout, ssl_context=context)
            return await response if sending is None else await sending.send(response)

        return from_thread.run(send, token=self._loop_token)

    async def aclose(self) -> None:
        """Close the session if it was made here. Calling it again does nothing."""
        session, self._closed = self._session, True
        if self._owns_session and session is not None:
            self._session = None
            await session.close()

    async def __aenter__(self) -> Self:
        await import_off_loop("anyio.from_thread", "anyio._backends._asyncio")
        self.bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __deepcopy__(self, memo: object) -> Self:
        # google-auth copies the request for look-ups in its own threads; a session has no copy.
        return self


def own_request(request: google.auth.transport.Request | None) -> AiohttpRequest | None:
    """Return a request that works on the loop; None, for one to be made, in place of google-auth's others.

    They block, and what they were made with (a session of requests, say) means nothing to aiohttp.

    Raises:
        ConfigurationError: It is no google-auth request at all.
    """
    if isinstance(request, AiohttpRequest):
        return request
    check_type(
        "request", request, google.auth.transport.Request, type(None), hint="Pass an AiohttpRequest, or None."
    )
    return None


class ThreadRequest(google.auth.transport.Request):
    """The transport as one blocking function sees it: it remembers the last status, and can be cut off.

    google-auth's exceptions do not tell the status. And a function that nobody waits for any more
    must not go on sending: a thread cannot be stopped, but its requests can.

    What may be tried again is raised here, as `TokenUnavailableError`, past google-auth: there some of it
    is retried, after seconds in `time.sleep`, and some is not, and `Retry-After` is not read. Whether and
    when to try again is the token cache's to decide.
    """

    def __init__(self, request: AiohttpRequest) -> None:
        self._request = request
        self._sending: set[asyncio.Task[object]] = set()
        self._cut_off = False
        self.status: int | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> HttpResponse:
        """See `AiohttpRequest.__call__`."""
        self.status = None  # no response is no status, whatever came before
        try:
            response = self._request(*args, sending=self, **kwargs)
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            # google-auth's own threads handle errors, but no cancellation.
            raise TransportError("Nobody waits for this request any more.") from None
        except TransportError as error:
            if self._cut_off:
                raise
            problem = token_error(error)
        else:
            return self._checked(response, kwargs.get("url") or args[0])
        raise problem  # outside of the handler: aiohttp quotes what it could not read, maybe a token

    def _checked(self, response: HttpResponse, url: str) -> HttpResponse:
        """Return a response that google-auth can make something of."""
        self.status = response.status
        if is_retryable_status(response.status):
            raise _unavailable(response, url)
        if response.status in _REDIRECTS:  # of which google-auth would say nothing
            raise TokenRefusedError(
                f"No token could be fetched: {_place(url)} answered {response.status}, a redirect.",
                hint="It is not followed, or the credential would go elsewhere. Check the address.",
            )
        return response

    async def send(self, sending: Coroutine[None, None, HttpResponse]) -> HttpResponse:
        """Await a request on the loop, where `cut_off` finds it."""
        task = asyncio.current_task()
        if self._cut_off or task is None:
            sending.close()
            raise TransportError("Nobody waits for this request any more.")
        self._sending.add(task)
        try:
            return await sending
        finally:
            self._sending.discard(task)

    def bind(self) -> None:
        """See `AiohttpRequest.bind`."""
        self._request.bind()

    def cut_off(self) -> None:
        """End the request that is under way, and refuse any other. On the loop only."""
        self._cut_off = True
        for task in self._sending:
            task.cancel()

    def __deepcopy__(self, memo: object) -> Self:
        # google-auth copies the request for look-ups in its own threads; a session has no copy.
        return self


async def run_in_thread(function: Callable[[], T]) -> T:
    """Run a blocking function in a thread of its own. Cancelling it returns at once and abandons the thread.

    A daemon thread, not one of a pool: what google-auth sleeps through, or waits for a subprocess, must
    hold neither the application's pool nor the end of the process.
    """
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[_Outcome] = loop.create_future()
    run = contextvars.copy_context().run
    arguments = (_run_and_tell, function, loop, finished)
    try:
        threading.Thread(target=run, args=arguments, name="aio_authgrpc", daemon=True).start()
    except RuntimeError as refusal:  # no more threads: worth a retry, as other OSErrors are
        raise OSError(errno.EAGAIN, str(refusal)) from None
    del run, arguments
    value, error = await finished
    try:
        if error is not None:
            raise error
        return cast("T", value)
    finally:
        del finished, value, error  # the error's traceback holds this frame


_Outcome = tuple[object, BaseException | None]


def _run_and_tell(
    function: Callable[[], object], loop: asyncio.AbstractEventLoop, finished: asyncio.Future[_Outcome]
) -> None:
    outcome: _Outcome
    try:
        outcome = (function(), None)
    except BaseException as error:  # noqa: BLE001 - raised again on the loop
        outcome = (None, error)
    with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
        loop.call_soon_threadsafe(_finish, finished, outcome)
    del outcome  # the error's traceback holds this frame


def _finish(finished: asyncio.Future[_Outcome], outcome: _Outcome) -> None:
    if not finished.done():  # else nobody waits any more
        finished.set_result(outcome)


async def bridge_to_thread(function: Callable[[], T], request: ThreadRequest) -> T:
    """Run a blocking function of google-auth's, which sends with `request`, in a worker thread.

    Cancelling it returns at once: a request under way is cancelled and no other is sent. A
    `time.sleep` or a subprocess inside google-auth is left to end by itself, its outcome dropped.
    """
    await import_off_loop("anyio.from_thread", "anyio._backends._asyncio")
    request.bind()
    try:
        return await run_in_thread(function)
    finally:
        request.cut_off()


# sys.modules holds a module before it is complete; to import it again would wait for its lock.
_imported: set[str] = set()


async def import_off_loop(*modules: str) -> None:
    """Import modules in a thread: anyio's backend or cryptography take 25–50 ms."""
    missing = [name for name in modules if name not in _imported]

    def run() -> None:
        for name in missing:
            importlib.import_module(name)
            _imported.add(name)

    if missing:
        await run_in_thread(run)


_LONGEST_RETRY_AFTER = 300.0  # an endpoint's mistake should not lock a service out for hours


def _unavailable(response: HttpResponse, url: str) -> TokenUnavailableError:
    """Return the error for a response that asks to be tried again."""
    text = response.data[:1_000].decode(errors="replace")
    problem = TransportError(f"{_place(url)} answered {response.status}: {text}")
    translated = token_error(problem, http_status=response.status)
    return TokenUnavailableError(
        translated.message, hint=translated.hint, retry_after=_retry_after(response.headers)
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a `Retry-After` header, which holds a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), _LONGEST_RETRY_AFTER)
    try:
        # Both dates are the server's.
        until = email.utils.parsedate_to_datetime(value) - email.utils.parsedate_to_datetime(headers["Date"])
    except (KeyError, TypeError, ValueError):
        return None
    return min(max(0.0, until.total_seconds()), _LONGEST_RETRY_AFTER)


async def _read(response: aiohttp.ClientResponse, url: str) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_RESPONSE_BYTES:
            raise TransportError(f"{_place(url)} answered with more than {_MAX_RESPONSE_BYTES} bytes.")
    return bytes(body)


def _proxy_for(url: str) -> tuple[str | None, dict[str, str]]:
    """Return the proxy that the environment names for this URL, and the header with its password.

    Raises:
        google.auth.exceptions.TransportError: What it names is no proxy.
    """
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return None, {}  # what is no URL is told so by whoever sends
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return None, {}
    try:
        named = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = named.hostname or "", named.port
    except ValueError:
        named, host, port = parts, "", None
    if not host.isprintable() or not host or " " in host:
        raise TransportError(f"{parts.scheme.upper()}_PROXY names no proxy such as 'http://host:3128'.")
    place = f"[{host}]" if ":" in host else host
    address = f"{named.scheme}://{place}" + ("" if port is None else f":{port}")
    if named.username is None:
        return address, {}
    # In the URL, the password would stand in aiohttp's errors.
    user = urllib.parse.unquote(f"{named.username}:{named.password or ''}")
    return address, {"Proxy-Authorization": "Basic " + base64.b64encode(user.encode()).decode()}


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


def _loop_is_running_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _with_path(url: str) -> str:
    """Return the URL with the path that it means: a proxy is sent all of it (RFC 9112, 3.2.2)."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return url
    return url if parts.path else urllib.parse.urlunsplit(parts._replace(path="/"))


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _place(url: str) -> str:
    """Return the URL without its query, which may hold what is nobody's business."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "The address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
