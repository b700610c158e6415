"""google-auth's blocking functions in worker threads, with their HTTP on the event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import email.utils
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from google.auth.exceptions import TransportError

from aio_authgrpc._http.request import AiohttpRequest, HttpResponse
from aio_authgrpc._http.token_errors import is_retryable_status, token_error
from aio_authgrpc._http.urls import check_encrypted, place_of
from aio_authgrpc._loop.processes import KillableProcess
from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc.errors import TokenRefusedError, TokenUnavailableError

T = TypeVar("T")

_REDIRECTS = (301, 302, 303, 307, 308)
# An endpoint's mistake should not lock a service out for hours.
_LONGEST_RETRY_AFTER = 300.0


class ThreadRequest(AiohttpRequest):
    """A request over another, for one blocking function: it knows the last status, and can be cut off.

    google-auth's exceptions do not tell the status. And after a cancellation the function must not go on
    sending: a thread cannot be stopped, but its requests can, and a program that it runs by `process`.

    A failure that a later attempt may mend is raised as `TokenUnavailableError`, past google-auth, which
    retries some of them after seconds in `time.sleep`, some not at all, and does not read `Retry-After`.
    The token cache decides whether and when to try again.
    """

    def __init__(self, request: AiohttpRequest) -> None:
        super().__init__()
        self._request = request
        self._sending: set[asyncio.Task[object]] = set()
        self._cut_off = False
        self.status: int | None = None
        self.process = KillableProcess()

    def run_on_loop(self, send: Callable[[], Coroutine[None, None, HttpResponse]]) -> HttpResponse:
        self.status = None  # a request without a response must not leave the one before it
        try:
            return self._request.run_on_loop(send)
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            # google-auth's own threads handle errors, but not a cancellation.
            raise _cut_off_error() from None
        except TransportError as error:
            if self._cut_off:
                raise
            problem = token_error(error)
        raise problem  # outside of the handler: aiohttp quotes unreadable bytes, maybe a token

    async def send(
        self, url: str, method: str = "GET", body: bytes | str | None = None, *others: Any, **options: Any
    ) -> HttpResponse:
        check_encrypted(url, body)
        task = asyncio.current_task()
        if self._cut_off or task is None:
            raise _cut_off_error()
        self._sending.add(task)  # where `cut_off` finds it
        try:
            response = await self._request.send(url, method, body, *others, **options)
        finally:
            self._sending.discard(task)
        self.status = response.status
        check_answer(response, url)
        return response

    async def bind(self) -> None:
        await self._request.bind()

    def cut_off(self) -> None:
        """Cancel the request under way, kill the program, and refuse any other. On the loop only."""
        self._cut_off = True
        self.process.cut_off()
        for task in self._sending:
            task.cancel()


def _cut_off_error() -> TransportError:
    return TransportError("The result of this request is no longer wanted.")


async def bridge_to_thread(
    function: Callable[[], T],
    request: ThreadRequest,
    run: Callable[[Callable[[], T]], Awaitable[T]] = run_in_thread,
) -> T:
    """Run a blocking function of google-auth's, which sends with `request`, in a worker thread of `run`.

    Cancelling it cancels the request under way and kills `request.process`; a `time.sleep` ends by itself,
    unheard.
    """
    await request.bind()
    try:
        return await run(function)
    finally:
        request.cut_off()


def check_answer(response: HttpResponse, url: str) -> None:
    """Raise for a failure that may pass, and for a redirect; other answers are the credential's to read."""
    if is_retryable_status(response.status):
        raise _unavailable(response, url)
    if response.status in _REDIRECTS:
        raise TokenRefusedError(
            f"No token could be fetched: {place_of(url)} answered {response.status}, a redirect.",
            hint="Redirects are not followed, so that no secret goes elsewhere. Check the address.",
        )


def _unavailable(response: HttpResponse, url: str) -> TokenUnavailableError:
    text = response.data[:1_000].decode(errors="replace")
    problem = TransportError(f"{place_of(url)} answered {response.status}: {text}")
    translated = token_error(problem, http_status=response.status)
    return TokenUnavailableError(
        translated.details(), hint=translated.hint, retry_after=_retry_after(response.headers)
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
