"""Optional parts of a token source: its header, its cache key, and its files."""

from __future__ import annotations

from typing import Any

import pytest

from aio_authgrpc import AiohttpRequest, ConfigurationError, TokenRequest, api_key, static_token
from aio_authgrpc._tokens.source import CacheKey, cache_key, check_source, header_of, load
from aio_authgrpc.testing import ScriptedTokens


class Loadable(ScriptedTokens):
    """Notes the requests of `load`."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.loads: list[TokenRequest] = []
        self._error = error

    async def load(self, request: TokenRequest) -> None:
        """Note the request, and raise the error."""
        self.loads.append(request)
        if self._error is not None:
            raise self._error


class Keyed(ScriptedTokens):
    """Has the same tokens for every audience."""

    def cache_key(self, audience: str) -> CacheKey:
        """Return a key without the audience."""
        return CacheKey(self, "")


@pytest.mark.parametrize(
    ("source", "named", "header"),
    [
        pytest.param(static_token("t"), None, None, id="neither-names-one"),
        pytest.param(static_token("t"), "X-Token", "x-token", id="the-user-names-one"),
        pytest.param(api_key("k"), None, "x-api-key", id="the-source-names-one"),
        pytest.param(api_key("k"), "X-API-Key", "x-api-key", id="both-name-the-same"),
    ],
)
def test_the_header_is_the_one_that_is_named(source: Any, named: str | None, header: str | None) -> None:
    """In lower case, as gRPC requires."""
    assert header_of(source, named) == header


def test_two_different_headers_are_refused() -> None:
    """The user's would be dropped in silence otherwise."""
    with pytest.raises(ConfigurationError, match="'x-api-key', not 'x-goog-api-key'") as caught:
        header_of(api_key("k"), "x-goog-api-key")
    assert caught.value.field == "header"


@pytest.mark.parametrize("named", ["", "grpc-status", "key-bin", 5])
def test_a_header_that_cannot_carry_text_is_refused(named: Any) -> None:
    """The error names the argument."""
    with pytest.raises(ConfigurationError) as caught:
        header_of(static_token("t"), named)
    assert caught.value.field == "header"


def test_a_source_without_a_key_has_tokens_for_one_audience() -> None:
    """The source itself owns them."""
    source = ScriptedTokens()
    key = cache_key(source, "a")
    assert key.owner is source
    assert key.audience == "a"


def test_a_sources_own_key_counts() -> None:
    """Here it shares its tokens between all audiences."""
    assert cache_key(Keyed(), "a").audience == ""


async def test_loading_calls_the_sources_load_with_the_audience() -> None:
    """The HTTP transport that is made for it is closed again."""
    source = Loadable()
    await load(source, "a", None)
    assert [request.audience for request in source.loads] == ["a"]
    assert source.loads[0].http.closed


async def test_loading_leaves_a_given_transport_open() -> None:
    """It is the caller's, also where loading fails."""
    source = Loadable(ConfigurationError("is missing.", field="file"))
    async with AiohttpRequest() as http:
        with pytest.raises(ConfigurationError, match="is missing"):
            await load(source, "a", http)
        assert source.loads[0].http is http
        assert not http.closed


async def test_loading_a_source_without_files_does_nothing() -> None:
    """It is not asked for a token."""
    source = ScriptedTokens()
    await load(source, "a", None)
    assert source.fetches == 0


def test_an_object_without_fetch_is_not_a_source() -> None:
    """The error names its type."""
    with pytest.raises(ConfigurationError, match="expected a TokenSource, not str"):
        check_source("a token")


def test_keys_with_the_same_owner_and_audience_are_equal() -> None:
    """An equal owner is another one; it need not be hashable."""
    owner: list[int] = []
    assert CacheKey(owner, "a") == CacheKey(owner, "a")
    assert hash(CacheKey(owner, "a")) == hash(CacheKey(owner, "a"))
    assert CacheKey(owner, "a") != CacheKey([], "a")
    assert CacheKey(owner, "a") != CacheKey(owner, "b")
