"""Whatever is done to a call, in whatever order: one that waits for its token behaves as a real one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .pair import MetadataEchoServer, Pair
from .script import scripts


@pytest.fixture(scope="module")
def runner():  # type: ignore[no-untyped-def]  # a fixture
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def server(runner: asyncio.Runner):  # type: ignore[no-untyped-def]  # a fixture
    server = MetadataEchoServer(tls=False)
    runner.run(server.__aenter__())
    yield server
    runner.run(server.aclose())


@settings(max_examples=settings.default.max_examples // 2, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_deferred_call_behaves_as_a_real_one(
    runner: asyncio.Runner, server: MetadataEchoServer, arity: Any, data: st.DataObject
) -> None:
    """The same steps bring the same outcomes, in all four arities."""
    script = data.draw(scripts(arity))
    assert runner.run(Pair(server, arity, script).play()) == []


@settings(max_examples=settings.default.max_examples // 10, suppress_health_check=list(HealthCheck))
@given(data=st.data(), timeout=st.sampled_from([0.0, 0.05]))
def test_a_deferred_call_out_of_time_behaves_as_a_real_one(
    runner: asyncio.Runner, server: MetadataEchoServer, arity: Any, data: st.DataObject, timeout: float
) -> None:
    """Whether the time ran out before the token came, or while the server had the call."""
    script = data.draw(scripts(arity))
    assert runner.run(Pair(server, arity, script, timeout).play()) == []
