"""Caches over a source that the test answers by hand, and over one with given outcomes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache

from .gated_source import GatedSource
from .scripted_source import ScriptedSource


@pytest.fixture
def clock() -> FakeClock:
    """Give a clock that the test moves."""
    return FakeClock()


@pytest.fixture
async def source(clock: FakeClock) -> GatedSource:
    """Give the source of the `gated_cache` fixture."""
    return GatedSource(clock)


@pytest.fixture
async def gated_cache(clock: FakeClock, source: GatedSource) -> AsyncIterator[TokenCache]:
    """Give an empty cache whose refreshes ask once."""
    async with TokenCache(
        source, audience="https://host", clock=clock, rng=random.Random(1), attempts=1
    ) as cache:
        yield cache


@pytest.fixture
def scripted(clock: FakeClock) -> ScriptedSource:
    """Give the source of the `scripted_cache` fixture."""
    return ScriptedSource(clock)


@pytest.fixture
async def scripted_cache(clock: FakeClock, scripted: ScriptedSource) -> AsyncIterator[TokenCache]:
    """Give an empty cache whose refreshes ask once."""
    async with TokenCache(scripted, audience="aud", clock=clock, rng=random.Random(3), attempts=1) as cache:
        yield cache
