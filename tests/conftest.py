"""What guards every test: no blocking call on the loop, nothing left running, no secret in sight."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from blockbuster import blockbuster_ctx

from aio_authgrpc.errors import redacted

pytest_plugins = ["aio_authgrpc.testing.pytest_plugin"]


@pytest.fixture(scope="session", autouse=True)
def imported_objects_are_not_searched() -> None:
    """Take what the imports made out of the collector's sight: no_secret_in_sight looks at the rest."""
    gc.collect()
    gc.freeze()


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

    Every log record is read, and the `repr`, `str` and causes of every object of this package and of
    every exception that is alive at the end. That the patterns find what they look for is tested in
    test_errors.py.
    """
    records, logger, level = _Records(), logging.getLogger(), logging.getLogger().level
    logger.addHandler(records)
    for name in ("aio_authgrpc", "aiohttp", "google"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    gc.collect()
    gc.disable()  # so that exceptions in cycles stay to be looked at
    try:
        yield
        texts = records.texts + [text for thing in gc.get_objects() for text in _shown_by(thing)]
    finally:
        gc.enable()
        logger.removeHandler(records)
        logger.setLevel(level)
    assert [text for text in texts if redacted(text) != text] == []


def _shown_by(thing: object) -> Iterator[str]:
    module = type(thing).__module__
    if isinstance(thing, BaseException):
        if not isinstance(thing, AssertionError | pytest.fail.Exception):
            yield from (repr(thing), str(thing), repr(thing.__cause__))
    elif module.startswith("aio_authgrpc") and not module.startswith("aio_authgrpc.testing"):
        yield from (repr(thing), str(thing))


@pytest.fixture
def threads_before() -> int:
    """Give the number of threads at the start of the test."""
    return threading.active_count()
