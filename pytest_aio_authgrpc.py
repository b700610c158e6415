"""The pytest plugin of aio_authgrpc: servers for tests, and a watch for calls that block the event loop.

pytest loads it at its start, by the entry point. It is outside of the package because importing the package
imports grpc: here that waits for the first test that takes one of the fixtures.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

if TYPE_CHECKING:
    from aio_authgrpc.testing import Authority, BookstoreServer, EchoServer, FakeClock, GoogleCloud

_MARKER = "authgrpc_blockbuster"


class _Server(Protocol):
    async def __aenter__(self) -> object: ...
    async def aclose(self) -> None: ...


S = TypeVar("S", bound=_Server)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(*modules): fail the test if the event loop is blocked by code that aio_authgrpc calls, "
        "such as a token source, or by code of these modules. It needs the package blockbuster.",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Load the watch if a test has the marker."""
    if any(item.get_closest_marker(_MARKER) for item in items):
        from aio_authgrpc.testing.blocking_calls import BlockingCalls  # noqa: PLC0415 - imports grpc

        config.pluginmanager.register(BlockingCalls(_MARKER))


# Fixtures. They are synchronous, and run the loop of the test themselves: so they are the same under every
# plugin that runs coroutines, and on a loop of any scope.


@pytest.fixture
def authgrpc_clock() -> FakeClock:
    """Give a clock that only the test moves. The other fixtures use the machine's clock."""
    from aio_authgrpc.testing import FakeClock  # noqa: PLC0415 - imports grpc

    return FakeClock()


@pytest.fixture
def authgrpc_authority(request: pytest.FixtureRequest) -> Authority:
    """Give an open `Authority`."""
    from aio_authgrpc.testing import Authority  # noqa: PLC0415 - imports grpc

    return _opened(request, Authority())


@pytest.fixture
def authgrpc_bookstore_server(
    request: pytest.FixtureRequest, authgrpc_authority: Authority
) -> BookstoreServer:
    """Give an open `BookstoreServer`, with TLS, that accepts the tokens of `authgrpc_authority`."""
    from aio_authgrpc.testing import BookstoreServer  # noqa: PLC0415 - imports grpc

    return _opened(request, BookstoreServer(authgrpc_authority))


@pytest.fixture
def authgrpc_echo_server(request: pytest.FixtureRequest) -> EchoServer:
    """Give an open `EchoServer`, with TLS."""
    from aio_authgrpc.testing import EchoServer  # noqa: PLC0415 - imports grpc

    return _opened(request, EchoServer())


@pytest.fixture
def authgrpc_google_cloud(
    request: pytest.FixtureRequest,
    authgrpc_authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> GoogleCloud:
    """Give an open `GoogleCloud` of `authgrpc_authority`; the environment of the process leads there."""
    from aio_authgrpc.testing import GoogleCloud  # noqa: PLC0415 - imports grpc

    cloud = _opened(request, GoogleCloud(authgrpc_authority))
    for name, value in cloud.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return cloud


def _opened(request: pytest.FixtureRequest, server: S) -> S:
    """Open a server on the loop of the test, and close it there after the test."""
    loop: asyncio.AbstractEventLoop = request.getfixturevalue(_loop_fixture(request))
    loop.run_until_complete(server.__aenter__())
    request.addfinalizer(lambda: loop.run_until_complete(server.aclose()))
    return server


def _loop_fixture(request: pytest.FixtureRequest) -> str:
    """Return the name of the fixture that gives the loop of the test."""
    if "anyio_backend" in request.fixturenames:
        backend = request.getfixturevalue("anyio_backend")
        if (backend if isinstance(backend, str) else backend[0]) != "asyncio":
            raise pytest.UsageError(
                f"The fixture {request.fixturename} needs asyncio: let the fixture anyio_backend return it."
            )
        return "_authgrpc_anyio_loop"
    if not request.config.pluginmanager.has_plugin("asyncio"):
        raise pytest.UsageError(
            f"The fixture {request.fixturename} needs an event loop: install pytest-asyncio, or mark the "
            "test with `pytest.mark.anyio`."
        )
    marker: pytest.Mark | None = request.node.get_closest_marker("asyncio")
    scope = None if marker is None else marker.kwargs.get("loop_scope") or marker.kwargs.get("scope")
    return f"_authgrpc_{scope or request.config.getini('asyncio_default_test_loop_scope')}_loop"


@pytest.fixture
async def _authgrpc_anyio_loop() -> AsyncGenerator[asyncio.AbstractEventLoop]:
    # A generator, because anyio closes its loop when no fixture is left to be ended.
    yield asyncio.get_running_loop()  # noqa: PT022 - see above


def _loop_of_scope(scope: Any) -> Any:
    import pytest_asyncio  # noqa: PLC0415 - where it is installed

    @pytest_asyncio.fixture(loop_scope=scope, name=f"_authgrpc_{scope}_loop")
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    return loop


if importlib.util.find_spec("pytest_asyncio") is not None:
    for _scope in ("function", "class", "module", "package", "session"):
        globals()[f"_{_scope}_loop"] = _loop_of_scope(_scope)
