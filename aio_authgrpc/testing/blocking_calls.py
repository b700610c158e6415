"""The marker of the pytest plugin that fails a test in which something blocks the event loop."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Generator
from contextlib import contextmanager

import pytest

_SEEN: pytest.StashKey[list[str]] = pytest.StashKey()
# The caller of the blocking function, and its callers: the last frames are of blockbuster and of this module.
_FRAMES = slice(-6, -2)


class BlockingCalls:
    """Watch the tests that have a marker, with blockbuster.

    blockbuster raises an error where something blocks. The code around may catch it, or take it for a token
    that cannot be had; so every such error fails the test, in the end.

    Args:
        marker: The name of the marker. Its arguments are modules to watch beside `aio_authgrpc`.

    Raises:
        pytest.UsageError: blockbuster is not installed.
    """

    def __init__(self, marker: str) -> None:
        if importlib.util.find_spec("blockbuster") is None:
            raise pytest.UsageError(f"The marker {marker} needs blockbuster: pip install blockbuster")
        self._marker = marker

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Watch a test, its fixtures included."""
        marker = item.get_closest_marker(self._marker)
        if marker is None:
            return (yield)
        with watched(*marker.args) as seen:
            item.stash[_SEEN] = seen
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """Fail in the phase in which something blocked."""
        return (yield from _checked(item))

    pytest_runtest_call = pytest_runtest_teardown = pytest_runtest_setup


def _checked(item: pytest.Item) -> Generator[None, None, None]:
    nothing: list[str] = []
    seen = item.stash.get(_SEEN, nothing)
    try:
        yield
    except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
        raise
    except BaseException:  # skipping, too, is an exception
        if not seen:
            raise
    if seen:
        calls, seen[:] = "\n".join(seen), []
        pytest.fail(calls, pytrace=False)


@contextmanager
def watched(*modules: str) -> Generator[list[str]]:
    """Yield a list that gets the blocking calls of `aio_authgrpc`, of what it calls, and of `modules`."""
    import blockbuster  # noqa: PLC0415 - only for a marked test

    seen: list[str] = []

    class BlockingError(blockbuster.BlockingError):
        def __init__(self, func: str) -> None:
            super().__init__(func)
            frames = traceback.format_list(traceback.extract_stack()[_FRAMES])
            seen.append(f"Blocking call to {func} on the event loop:\n{''.join(frames)}")

    with (
        pytest.MonkeyPatch.context() as patched,
        blockbuster.blockbuster_ctx(
            ["aio_authgrpc", *modules], excluded_modules=["aio_authgrpc.testing"]
        ) as watch,
    ):
        for function in watch.functions.values():
            function.can_block_in("logging/__init__.py", "callHandlers")  # pytest's handlers write files
        # blockbuster tells of a blocking call by raising this, and in no other way.
        patched.setattr("blockbuster.blockbuster.BlockingError", BlockingError)
        yield seen
