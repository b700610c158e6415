"""What guards every test: no blocking call on the loop, nothing left running, no secret in sight."""

from __future__ import annotations

import asyncio
import asyncio.constants
import gc
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from blockbuster import blockbuster_ctx
from hypothesis import settings

from aio_authgrpc import AuthorizedChannel, Token, TokenCache, TokenRequest
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc._http.token_errors import chain_of
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock, Gate

pytest_plugins = ["aio_authgrpc.testing.pytest_plugin"]

# In the suite, property tests draw the same few examples each time. By hand they draw as many as they are
# told to, each time others; CONTRIBUTING.md says how.
settings.register_profile("suite", max_examples=100, derandomize=True, deadline=None, database=None)
EXAMPLES = os.environ.get("AIO_AUTHGRPC_EXAMPLES")
if EXAMPLES is not None:
    settings.register_profile("by hand", max_examples=int(EXAMPLES), deadline=None, database=None)
settings.load_profile("suite" if EXAMPLES is None else "by hand")

# Debug mode records where every future and every callback was made, the whole stack of it, which takes
# half of the suite's time. Two frames still tell. (pytest shows failures with all of theirs.)
asyncio.constants.DEBUG_STACK_DEPTH = 2
sys.tracebacklimit = 2


@pytest.fixture(scope="session", autouse=True)
def no_secret_in_sight_at_the_end() -> Iterator[None]:
    """Look once more at everything when all tests are over: each test looks at what it made itself."""
    yield
    gc.unfreeze()
    gc.collect()
    assert _in_sight([]) == []


@pytest.fixture(autouse=True)
def no_blocking_call_on_the_loop() -> Iterator[None]:
    """Fail a test in which the package blocks the event loop; the fakes may."""
    with blockbuster_ctx("aio_authgrpc", excluded_modules=["aio_authgrpc.testing", "aio_authgrpc.cli"]):
        yield


@pytest_asyncio.fixture(autouse=True)
async def no_task_left_running() -> AsyncIterator[None]:
    """Fail a test after which a task of this package is still there."""
    yield
    left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("aio_authgrpc")]
    assert left == []


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record) + repr(record.args))


@pytest.fixture(autouse=True)
def no_secret_in_sight() -> Iterator[None]:
    """Fail a test that logged a token, a key or an assertion, or left an object that shows one.

    Every log record is read, and at the end the `repr` and `str` of every object of this package, with
    all causes of its exceptions, and of every other exception that is still alive. That the patterns
    find what they look for is tested in test_errors.py.
    """
    records, logger, level = _Records(), logging.getLogger(), logging.getLogger().level
    logger.addHandler(records)
    for name in ("aio_authgrpc", "aiohttp", "google"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    gc.collect()
    gc.freeze()  # what there is already was looked at when it was made: to look again takes half a second
    gc.disable()  # so that exceptions in cycles stay to be looked at
    try:
        yield
        shown = _in_sight(records.texts)
    finally:
        gc.enable()
        logger.removeHandler(records)
        logger.setLevel(level)
    assert shown == []


def _in_sight(texts: list[str]) -> list[str]:
    """Return what shows a secret, of texts and of all objects that are not frozen."""
    texts = texts + [text for thing in gc.get_objects() for text in _shown_by(thing)]
    gc.collect()
    others = [thing for thing in gc.get_objects() if isinstance(thing, BaseException)]
    texts += [text for thing in others for text in (repr(thing), str(thing))]
    return [text for text in texts if redacted(text) != text]


def _shown_by(thing: object) -> Iterator[str]:
    module = str(type(thing).__module__)  # some extension types have a property there
    if module.startswith("aio_authgrpc") and not module.startswith("aio_authgrpc.testing"):
        links = chain_of(thing) if isinstance(thing, BaseException) else [thing]
        for link in links:
            yield from (repr(link), str(link))


@pytest.fixture
def threads_before() -> int:
    """Give the number of threads at the start of the test."""
    return threading.active_count()


class NumberedTokens:
    """A source that returns token-1, token-2, …; `hold()` makes it wait, `fail()` makes it fail."""

    def __init__(self) -> None:
        self.fetches = 0
        self._gate: Gate | None = None
        self._error: Exception | None = None

    def hold(self) -> Gate:
        """Let fetches wait at a gate."""
        self._gate = Gate()
        return self._gate

    def fail(self, error: Exception) -> None:
        """Let fetches raise."""
        self._error = error

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the next token, good for an hour of whoever asks."""
        self.fetches += 1
        number = self.fetches
        if self._gate is not None:
            await self._gate.pass_through()
        if self._error is not None:
            raise self._error
        return Token(f"token-{number}", expires_at=request.time + 3600)


@pytest.fixture
async def tokens() -> NumberedTokens:
    """Give the source of the `cache` and `channel` fixtures."""
    return NumberedTokens()


@pytest.fixture
async def cache(fake_clock: FakeClock, tokens: NumberedTokens) -> AsyncIterator[TokenCache]:
    """Give a cache that is cold."""
    async with TokenCache(tokens, clock=fake_clock, attempts=1) as cache:
        yield cache


@pytest.fixture
async def channel(echo_server: EchoServer, cache: TokenCache) -> AsyncIterator[AuthorizedChannel]:
    """Give a channel to the echo server with the `cache` fixture's tokens."""
    inner = grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials)
    async with AuthorizedChannel(inner, cache) as channel:
        yield channel


@pytest.fixture
async def stub(channel: AuthorizedChannel) -> EchoStub:
    """Give a stub on the `channel` fixture."""
    return EchoStub(channel)


@dataclass(frozen=True, kw_only=True)
class Arity:
    """How a call of one arity is begun and finished: each auth behaviour is tested over all four."""

    method: str
    request_is_stream: bool
    response_is_stream: bool

    def begin(self, stub: EchoStub, **arguments: Any) -> Any:
        """Call the stub with b"x", or a stream of two of it."""
        return getattr(stub, self.method)(iter([b"x", b"x"]) if self.request_is_stream else b"x", **arguments)

    async def finish(self, call: Any) -> list[bytes]:
        """Return all responses."""
        return [message async for message in call] if self.response_is_stream else [await call]

    @property
    def responses(self) -> list[bytes]:
        """What the echo server answers."""
        return {
            "UnaryUnary": [b"x"],
            "UnaryStream": [b"x"] * 3,
            "StreamUnary": [b"xx"],
            "StreamStream": [b"x"] * 2,
        }[self.method]


ARITIES = [
    Arity(method="UnaryUnary", request_is_stream=False, response_is_stream=False),
    Arity(method="UnaryStream", request_is_stream=False, response_is_stream=True),
    Arity(method="StreamUnary", request_is_stream=True, response_is_stream=False),
    Arity(method="StreamStream", request_is_stream=True, response_is_stream=True),
]


@pytest.fixture(params=ARITIES, ids=lambda arity: arity.method)
def arity(request: pytest.FixtureRequest) -> Arity:
    """Give each of the four."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped


@pytest.fixture(
    params=[arity for arity in ARITIES if not arity.request_is_stream], ids=lambda arity: arity.method
)
def replayable(request: pytest.FixtureRequest) -> Arity:
    """Give each of the two whose request can be sent again."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped


@pytest.fixture(
    params=[arity for arity in ARITIES if arity.request_is_stream], ids=lambda arity: arity.method
)
def not_replayable(request: pytest.FixtureRequest) -> Arity:
    """Give each of the two whose request cannot be sent again."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped
