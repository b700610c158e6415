"""Tokens that users bring: fixed ones, functions, API keys."""

from __future__ import annotations

import pickle

import pytest

from aio_authgrpc import (
    Token,
    TokenRequest,
    TokenSource,
    api_key,
    static_token,
    token_source,
)


async def test_a_static_token_is_returned_as_it_is(token_request: TokenRequest) -> None:
    """As text, or as a Token with an expiry."""
    made = Token("abc", expires_at=5.0)
    assert await static_token("abc").fetch(token_request) == Token("abc")
    assert await static_token(made).fetch(token_request) is made


async def test_a_function_is_asked_for_the_token(token_request: TokenRequest) -> None:
    """It returns text or a Token."""

    async def text() -> str:
        return "abc"

    async def token() -> Token:
        return Token("def", expires_at=5.0)

    assert await token_source(text).fetch(token_request) == Token("abc")
    assert (await token_source(token).fetch(token_request)).expires_at == 5.0


async def test_an_api_key_has_a_header_of_its_own(token_request: TokenRequest) -> None:
    """x-api-key for Endpoints, another where asked."""
    source = api_key("key", header="X-Goog-Api-Key")
    token = await source.fetch(token_request)
    assert token.as_metadata(source.header) == (("x-goog-api-key", "key"),)


@pytest.mark.parametrize(
    "source", [static_token("s3cr3t"), api_key("s3cr3t")], ids=["static_token", "api_key"]
)
def test_a_source_shows_no_secret_and_is_not_pickled(source: TokenSource) -> None:
    """Neither printed nor stored by accident."""
    assert "s3cr3t" not in repr(source) + str(source)
    with pytest.raises(TypeError):
        pickle.dumps(source)
