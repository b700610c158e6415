"""Scopes and quota projects: wrong ones are refused at the call."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from aio_authgrpc import ConfigurationError, default, id_token, service_account, service_account_jwt
from aio_authgrpc.credentials import external_account, gdch_service_account


@pytest.mark.parametrize("scopes", ["https://scope", [5], 5])
def test_scopes_that_are_no_list_of_text_are_refused(scopes: Any) -> None:
    """For the default credentials as for a service account."""
    with pytest.raises(ConfigurationError, match="scopes"):
        default(scopes)


def test_a_scope_that_is_text_is_an_error() -> None:
    """It would be taken letter by letter."""
    with pytest.raises(ConfigurationError, match=r"Write \['https://scope'\]"):
        service_account("key.json", scopes="https://scope")


@pytest.mark.parametrize("argument", [{"scopes": "https://scope"}, {"quota_project_id": 5}])
def test_arguments_of_a_wrong_type_are_refused(argument: dict[str, Any]) -> None:
    """At the call."""
    with pytest.raises(ConfigurationError) as caught:
        external_account("account.json", **argument)
    assert caught.value.field == next(iter(argument))


@pytest.mark.parametrize(
    "make", [id_token, partial(service_account_jwt, "key.json"), partial(gdch_service_account, "key.json")]
)
def test_an_empty_audience_is_refused_at_the_call(make: Any) -> None:
    """It is neither an audience nor left out; the error used to blame the target."""
    with pytest.raises(ConfigurationError, match="an empty str was given") as caught:
        make(audience="")
    assert caught.value.field == "audience"
