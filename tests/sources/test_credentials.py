"""Mistakes in `credentials=`, and in the functions for tokens that users bring."""

from __future__ import annotations

from typing import Any

import google.auth.aio.credentials
import google.auth.api_key
import google.auth.credentials
import google.auth.jwt
import google.oauth2.credentials
import google.oauth2.service_account
import pytest

from aio_authgrpc import (
    ConfigurationError,
    Token,
    api_key,
    static_token,
    token_source,
)
from aio_authgrpc._sources.credentials import as_token_source


@pytest.mark.parametrize(
    ("make", "field"),
    [
        pytest.param(lambda: as_token_source("eyJhbGciOi"), "credentials", id="a-token-as-text"),  # type: ignore[arg-type]  # the mistake
        pytest.param(lambda: as_token_source(Token("abc")), "credentials", id="a-token"),  # type: ignore[arg-type]  # the mistake
        pytest.param(
            lambda: as_token_source(google.oauth2.credentials.Credentials), "credentials", id="a-class"
        ),  # type: ignore[arg-type]  # the mistake
        pytest.param(lambda: as_token_source({}), "credentials", id="a-dict"),  # type: ignore[arg-type]  # the mistake
        pytest.param(lambda: static_token(""), "token", id="an-empty-token"),
        pytest.param(lambda: static_token(None), "token", id="no-token"),  # type: ignore[arg-type]  # the mistake
        pytest.param(lambda: static_token("abc\n"), "token", id="a-line-end"),
        pytest.param(lambda: token_source("abc"), "async_callable", id="text-for-a-function"),  # type: ignore[arg-type]  # the mistake
        pytest.param(
            lambda: token_source(test_a_mistake_is_an_error_that_names_its_field),
            "async_callable",
            id="a-sync-function",
        ),  # type: ignore[arg-type]  # the mistake
        pytest.param(lambda: api_key(""), "api_key", id="an-empty-key"),
        pytest.param(lambda: api_key("key", header="x y"), "header", id="a-blank-in-the-header"),
        pytest.param(lambda: api_key("key", header="x-bin"), "header", id="a-binary-header"),
        pytest.param(lambda: api_key("key", header="grpc-x"), "header", id="grpcs-own-header"),
    ],
)
def test_a_mistake_is_an_error_that_names_its_field(make: Any, field: str) -> None:
    """At the call that makes it, without showing a possible token."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert caught.value.field == field
    assert "eyJ" not in str(caught.value)
