"""The checks of the demo: each makes one promise of the library happen, and judges by the figures."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias, TypeVar

import grpc
import grpc.aio
import grpc.experimental  # pyright: ignore[reportMissingTypeStubs]  # types-grpcio lacks it

from aio_authgrpc import ConfigurationError, connect, static_token
from aio_authgrpc.bookstore import Book, BookstoreStub, CreateBookRequest, Empty, GetBookRequest
from aio_authgrpc.cli.demo.result import CheckResult, judged
from aio_authgrpc.cli.demo.stage import SKEW, CountingListener, LoopWatch, Stage
from aio_authgrpc.testing import Authority

StageT = TypeVar("StageT", bound=Stage)
Check: TypeAlias = Callable[[StageT], Awaitable[CheckResult]]

_library_log = logging.getLogger("aio_authgrpc")

_BURST = 1000

# Whole seconds, as OAuth's `expires_in`. Two make a token stale after 1.6 s.
_SHORT_LIFETIME = 2
# As slow as a real token endpoint. A refresh on the loop would stall it for as long, and be noticed.
_TOKEN_REQUEST_SECONDS = 0.15
# Long enough for the server to refuse the first token: later calls succeed only with a second one.
_TRAFFIC_SECONDS = _SHORT_LIFETIME + SKEW + 0.3
# About 500 calls a second: continuous, but not enough to stall the loop.
CALLERS = 8
_PAUSE = 0.01

# For answers of a server on this machine: only a broken one takes that long.
CALL_TIMEOUT = 5.0
# Long enough for bytes to arrive at a socket of this machine.
_ARRIVAL_SECONDS = 0.05

OK = "OK"


async def shelves(stage: Stage) -> CheckResult:
    """List the shelves over TLS, with a token that was exchanged for a service account's assertion."""
    requests_before = stage.authority.token_requests
    async with stage.connect() as bookstore:
        response = await bookstore.ListShelves(Empty(), timeout=CALL_TIMEOUT)
    requests = stage.authority.token_requests - requests_before
    count, caller = len(response.shelves), stage.witness.last_caller
    return judged(
        "shelves",
        {"shelves": count, "token_requests": requests, "caller": caller},
        (count > 0, "no shelf was listed"),
        (requests == 1, f"{requests} token requests were made instead of 1"),
        (caller == stage.account["client_email"], f"the server saw {caller or 'an anonymous caller'}"),
    )


async def book(stage: Stage) -> CheckResult:
    """Make a book and read it back."""
    wanted = Book(author="Mary Shelley", title="Frankenstein")
    async with stage.connect() as bookstore:
        made = await bookstore.CreateBook(CreateBookRequest(shelf=1, book=wanted), timeout=CALL_TIMEOUT)
        read = await bookstore.GetBook(GetBookRequest(shelf=1, book=made.id), timeout=CALL_TIMEOUT)
    same = (read.id, read.author, read.title) == (made.id, wanted.author, wanted.title)
    return judged(
        "book",
        {"shelf": 1, "book": read.id, "author": read.author, "title": read.title},
        (same, f'what was read back was book {read.id}, "{read.title}" by {read.author}'),
    )


async def cold_start(stage: Stage) -> CheckResult:
    """Make many calls at once on a client without a token: one token request serves them all."""
    requests_before = stage.authority.token_requests
    async with stage.connect() as bookstore:
        started_at = time.perf_counter()
        # All calls are made before the loop runs again, so each finds the client cold.
        calls = [status(bookstore.ListShelves(Empty())) for _ in range(_BURST)]
        codes = await asyncio.gather(*calls)
        seconds = time.perf_counter() - started_at
    requests = stage.authority.token_requests - requests_before
    refused = [code for code in codes if code != OK]
    return judged(
        "cold_start",
        {
            "calls": len(codes),
            "token_requests": requests,
            "failed_calls": len(refused),
            "seconds": round(seconds, 3),
        },
        (requests == 1, f"{requests} token requests were made instead of 1"),
        (not refused, failures(refused, len(codes))),
    )


async def rotation(stage: Stage) -> CheckResult:
    """Call continuously while tokens age, are refreshed in the background, and expire."""
    tokens_before = set(stage.witness.token_ids)
    codes: list[str] = []
    async with _short_lived_tokens(stage.authority), stage.connect() as bookstore:
        codes.append(await status(bookstore.ListShelves(Empty())))
        # The next token has another key. Keys are made before the watch starts: that load is the authority's.
        await stage.authority.rotate_keys()
        await stage.new_keys_are_known()
        async with LoopWatch() as watch:
            await _keep_calling(bookstore, codes)
    refused = [code for code in codes if code != OK]
    tokens = len(stage.witness.token_ids - tokens_before)
    stall_ms, limit_ms = round(watch.longest * 1000, 1), _TOKEN_REQUEST_SECONDS * 1000
    return judged(
        "rotation",
        {
            "calls": len(codes),
            "tokens": tokens,
            "failed_calls": len(refused),
            "longest_stall_ms": stall_ms,
            "token_request_ms": limit_ms,
        },
        (not refused, failures(refused, len(codes))),
        (tokens >= 2, f"the server saw {tokens} tokens instead of 2 or more"),
        (stall_ms < limit_ms, f"the event loop was stalled for {stall_ms} ms"),
    )


async def refusals(stage: Stage) -> CheckResult:
    """Send the server one good token and several bad ones, by plain grpc.aio."""
    attempts = await _attempts(stage)
    served_before = stage.server.calls
    async with grpc.aio.secure_channel(stage.target, stage.ssl_credentials) as channel:
        bookstore = BookstoreStub(channel)
        answers = {name: await _show(token, bookstore) for name, (token, _) in attempts.items()}
    served = stage.server.calls - served_before
    return judged(
        "refusals",
        {**answers, "served": served},
        *(
            (answers[name] == code, f"{name}: {answers[name]} instead of {code}")
            for name, (_, code) in attempts.items()
        ),
        (served == 1, f"{served} calls reached the service instead of 1"),
    )


async def _attempts(stage: Stage) -> dict[str, tuple[str | None, str]]:
    """Return tokens, each with the status code that the server must answer."""
    audience, issue = stage.audience, stage.authority.issue_id_token
    forged = issue(audience=audience, key=await stage.authority.foreign_key())
    return {
        "good_token": (issue(audience=audience), OK),
        "no_token": (None, "UNAUTHENTICATED"),
        "wrong_audience": (issue(audience="https://elsewhere.example"), "PERMISSION_DENIED"),
        "expired": (issue(audience=audience, lifetime=-3600), "UNAUTHENTICATED"),
        "foreign_key": (forged, "UNAUTHENTICATED"),
    }


async def plaintext(stage: Stage) -> CheckResult:
    """Try to send a token without TLS, to a socket that counts what arrives."""
    async with CountingListener() as listener:
        token = stage.authority.issue_id_token(audience=f"https://{listener.target}")
        refusal = await _send_in_the_clear(token, listener.target)
        await asyncio.sleep(_ARRIVAL_SECONDS)
    return judged(
        "plaintext",
        {"refusal": refusal, "connections": listener.connections, "bytes": listener.bytes},
        (refusal == ConfigurationError.__name__, f"connect() did not refuse: {refusal}"),
        (listener.connections == 0, f"{listener.connections} connections were made"),
        (listener.bytes == 0, f"{listener.bytes} bytes were sent"),
    )


CHECKS: dict[str, Check[Stage]] = {
    "shelves": shelves,
    "book": book,
    "cold_start": cold_start,
    "rotation": rotation,
    "refusals": refusals,
    "plaintext": plaintext,
}


async def status(call: Awaitable[object]) -> str:
    """Wait for a call and return the name of its status code."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return OK


def failures(codes: list[str], calls: int) -> str:
    """Return a sentence with the number of failed calls and their codes."""
    return f"{len(codes)} of {calls} calls failed, with {', '.join(sorted(set(codes)))}"


async def _keep_calling(bookstore: BookstoreStub, codes: list[str]) -> None:
    ends_at = time.perf_counter() + _TRAFFIC_SECONDS

    async def call_again_and_again() -> None:
        while time.perf_counter() < ends_at:
            codes.append(await status(bookstore.ListShelves(Empty())))
            await asyncio.sleep(_PAUSE)

    await asyncio.gather(*(call_again_and_again() for _ in range(CALLERS)))


@asynccontextmanager
async def _short_lived_tokens(authority: Authority) -> AsyncGenerator[None]:
    lifetime, authority.token_lifetime = authority.token_lifetime, _SHORT_LIFETIME
    authority.delay(_TOKEN_REQUEST_SECONDS)
    level = _library_log.level
    _library_log.setLevel(logging.ERROR)  # it warns of tokens that are so short, and these are meant
    try:
        yield
    finally:
        _library_log.setLevel(level)
        authority.token_lifetime = lifetime
        authority.behave()


async def _show(token: str | None, bookstore: BookstoreStub) -> str:
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    return await status(bookstore.ListShelves(Empty(), metadata=metadata, timeout=CALL_TIMEOUT))


async def _send_in_the_clear(token: str, target: str) -> str:
    """Try to send the token without TLS, and return what prevented it."""
    try:
        connection = connect(
            target,
            BookstoreStub,
            credentials=static_token(token),
            ssl_credentials=grpc.experimental.insecure_channel_credentials(),
        )
    except ConfigurationError as error:
        return type(error).__name__
    async with connection as bookstore:
        return await status(bookstore.ListShelves(Empty(), timeout=1))
