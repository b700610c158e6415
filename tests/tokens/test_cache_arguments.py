"""The arguments of a cache: what is refused, what is passed on, what is closed."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from aio_authgrpc import AiohttpRequest, ConfigurationError, TokenRequest
from aio_authgrpc.testing import FakeClock
from aio_authgrpc.tokens import TokenCache

from .scripted_source import ScriptedSource


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"source": "a str"}, "source"),
        ({"audience": None}, "audience"),
        ({"request": "a str"}, "request"),
        ({"refresh_timeout": "soon"}, "refresh_timeout"),
        ({"refresh_timeout": 0}, "refresh_timeout"),
        ({"refresh_timeout": float("nan")}, "refresh_timeout"),
        ({"close_timeout": "soon"}, "close_timeout"),
        ({"close_timeout": 0.0}, "close_timeout"),
        ({"close_timeout": float("inf")}, "close_timeout"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": 1.0}, "attempts"),
    ],
)
def test_a_mistaken_argument_is_named(
    scripted: ScriptedSource, arguments: dict[str, Any], field: str
) -> None:
    """The constructor raises."""
    with pytest.raises(ConfigurationError) as caught:
        TokenCache(**({"source": scripted} | arguments))
    assert caught.value.field == field


def test_the_defaults_are_what_the_pages_say() -> None:
    """Three attempts in a minute, and 2 s for a cancelled refresh to end."""
    parameters = inspect.signature(TokenCache).parameters
    defaults = {name: parameters[name].default for name in ("attempts", "refresh_timeout", "close_timeout")}
    assert defaults == {"attempts": 3, "refresh_timeout": 60.0, "close_timeout": 2.0}


async def test_another_source_gets_a_cache_with_the_same_transport_clock_and_audience(
    scripted: ScriptedSource, clock: FakeClock
) -> None:
    """Or with an audience of its own; closing it leaves the transport open."""
    other = ScriptedSource(clock)
    async with (
        AiohttpRequest() as http,
        TokenCache(scripted, audience="a", request=http, clock=clock) as cache,
    ):
        for audience, expected in ((None, "a"), ("b", "b")):
            async with cache.of_another(other, audience=audience) as another:
                await another.get()
                assert another.source is other
            asked = other.requests[-1]
            assert asked.http is http
            assert asked.audience == expected
            assert asked.time == clock.time() - 0.5
        assert http.session() is not None


async def test_a_transport_of_its_own_is_closed_with_the_cache(
    scripted_cache: TokenCache, scripted: ScriptedSource
) -> None:
    """The cache made it, so the cache closes it."""
    await scripted_cache.get()
    http = scripted.requests[0].http
    await scripted_cache.aclose()
    with pytest.raises(Exception, match="was closed"):
        http.session()


async def test_loading_lets_the_source_read_its_files(clock: FakeClock) -> None:
    """The source is told the audience, and is asked for no token."""

    class Loadable(ScriptedSource):
        loaded: list[TokenRequest]

        async def load(self, request: TokenRequest) -> None:
            self.loaded = [request]

    source = Loadable(clock)
    async with TokenCache(source, audience="aud", clock=clock) as cache:
        await cache.load()
    assert [request.audience for request in source.loaded] == ["aud"]
    assert source.requests == []
