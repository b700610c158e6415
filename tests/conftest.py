"""What guards every test: no blocking call on the loop, nothing left running, no secret in sight."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc.aio
import hypothesis
import pytest
import pytest_asyncio
import pytest_timeout
from blockbuster import blockbuster_ctx

from aio_authgrpc import AuthorizedChannel
from aio_authgrpc.testing import EchoServer, EchoStub, FakeClock, ScriptedTokens
from aio_authgrpc.tokens import TokenCache

from .support.arity import ARITIES, NOT_REPLAYABLE, REPLAYABLE, Arity
from .support.patience import patience
from .support.secrets_in_sight import Records, secrets_in_sight

pytest_plugins = ["aio_authgrpc.testing.pytest_plugin"]

# In the suite, property tests draw the same few examples each time. By hand they draw as many as they are
# told to, each time others; CONTRIBUTING.md says how.
# How long an example takes to draw says how busy the machine is.
COMMON: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}
hypothesis.settings.register_profile("suite", max_examples=100, derandomize=True, **COMMON)
EXAMPLES = os.environ.get("AIO_AUTHGRPC_EXAMPLES")
if EXAMPLES is not None:
    hypothesis.settings.register_profile("by hand", max_examples=int(EXAMPLES), **COMMON)
hypothesis.settings.load_profile("suite" if EXAMPLES is None else "by hand")

# Property tests are bounded by their number of examples. Hypothesis takes a time limit that strikes inside an
# example for a flaky example, so the limit of such a test ends the process: it is for what hangs.
PROPERTY_HANGS_AFTER = 300.0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Let `-n auto` start one process more than the machine has cores: tests wait for servers, too."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> bool:
    """Let a test take longer on a machine that is busy."""
    if item.get_closest_marker("hypothesis"):
        settings = settings._replace(timeout=PROPERTY_HANGS_AFTER, method="thread")
    scaled = settings._replace(timeout=patience(settings.timeout))
    return bool(pytest_timeout.pytest_timeout_set_timer(item, scaled))


@pytest.fixture(scope="session", autouse=True)
def no_secret_in_sight_at_the_end() -> Iterator[None]:
    """Look once more at everything when all tests are over: each test looks at what it made itself."""
    yield
    gc.unfreeze()
    gc.collect()
    assert secrets_in_sight([]) == []


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


@pytest.fixture(autouse=True)
def no_secret_in_sight() -> Iterator[None]:
    """Fail a test that logged a token, a key or an assertion, or left an object that shows one.

    Every log record is read, and at the end the `repr` and `str` of every object of this package, with
    all causes of its exceptions, and of every other exception that is still alive. That the patterns
    find what they look for is tested in test_errors.py.
    """
    records, logger, level = Records(), logging.getLogger(), logging.getLogger().level
    logger.addHandler(records)
    for name in ("aio_authgrpc", "aiohttp", "google"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    gc.collect()
    gc.freeze()  # what there is already was looked at when it was made: to look again takes half a second
    gc.disable()  # so that exceptions in cycles stay to be looked at
    try:
        yield
        shown = secrets_in_sight(records.texts)
    finally:
        gc.enable()
        logger.removeHandler(records)
        logger.setLevel(level)
    assert shown == []


@pytest.fixture
def threads_before() -> int:
    """Give the number of threads at the start of the test."""
    return threading.active_count()


@pytest.fixture
async def tokens() -> ScriptedTokens:
    """Give the source of the `cache` and `channel` fixtures."""
    return ScriptedTokens()


@pytest.fixture
async def cache(fake_clock: FakeClock, tokens: ScriptedTokens) -> AsyncIterator[TokenCache]:
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


@pytest.fixture(params=ARITIES, ids=lambda arity: arity.method)
def arity(request: pytest.FixtureRequest) -> Arity:
    """Give each of the four."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped


@pytest.fixture(params=REPLAYABLE, ids=lambda arity: arity.method)
def replayable(request: pytest.FixtureRequest) -> Arity:
    """Give each of the two whose request can be sent again."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped


@pytest.fixture(params=NOT_REPLAYABLE, ids=lambda arity: arity.method)
def not_replayable(request: pytest.FixtureRequest) -> Arity:
    """Give each of the two whose request cannot be sent again."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped
