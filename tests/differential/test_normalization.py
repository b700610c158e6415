"""The comparison leaves out dates, and nothing else."""

from __future__ import annotations

import base64
import json
import urllib.parse
from typing import Any

import jwt
import pytest

from aio_authgrpc.testing import RecordedRequest

from .normalization import IGNORED_HEADERS, normalized, normalized_value

KEY = "x" * 32


def signed(**claims: Any) -> str:
    return jwt.encode({"iss": "me", "iat": 100, "exp": 3700} | claims, KEY)


def request(**changes: Any) -> RecordedRequest:
    parts: dict[str, Any] = {"method": "POST", "path": "/token", "query": {}, "headers": {}, "body": b"a=1"}
    return RecordedRequest(**parts | changes)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(lambda token: token, id="assertion"),
        pytest.param(lambda token: f"Bearer {token}", id="bearer"),
        pytest.param(
            lambda token: base64.b64encode(token.rpartition(".")[0].encode()).decode(), id="to-be-signed"
        ),
    ],
)
def test_a_jwt_is_the_same_at_another_time_and_no_other(shape: Any) -> None:
    """Its claims, and how long it lasts, are compared."""
    one = normalized_value(shape(signed()))
    assert one == normalized_value(shape(signed(iat=200, exp=3800)))
    assert one != normalized_value(shape(signed(exp=3701)))
    assert one != normalized_value(shape(signed(sub="you")))


def test_a_token_of_the_authority_is_compared_to_the_letter() -> None:
    """Its clock stands still."""
    one, other = (signed(iss="http://127.0.0.1:1", iat=at, exp=at + 60) for at in (100, 101))
    assert normalized_value(one) != normalized_value(other)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        pytest.param({"x-amz-date": "20270101T000000Z"}, True, id="date"),
        pytest.param({"host": "sts.elsewhere.amazonaws.com"}, False, id="host"),
        pytest.param(
            {"Authorization": "AWS4-HMAC-SHA256 Credential=A/20270101/r/sts, Signature=ef"},
            True,
            id="signature",
        ),
        pytest.param(
            {"Authorization": "AWS4-HMAC-SHA256 Credential=B/20260101/r/sts, Signature=ab"}, False, id="key"
        ),
    ],
)
def test_an_aws_request_is_the_same_but_for_its_date_and_signature(
    change: dict[str, str], same: bool
) -> None:
    """Its owner and its destination are compared."""

    def quoted(headers: dict[str, str]) -> str:
        pairs = [{"key": key, "value": value} for key, value in headers.items()]
        return urllib.parse.quote(json.dumps({"url": "u", "headers": pairs}))

    headers = {
        "x-amz-date": "20260101T000000Z",
        "host": "sts.region.amazonaws.com",
        "Authorization": "AWS4-HMAC-SHA256 Credential=A/20260101/r/sts, Signature=ab",
    }
    assert (normalized_value(quoted(headers)) == normalized_value(quoted(headers | change))) is same


@pytest.mark.parametrize(
    "change",
    [
        {"method": "GET"},
        {"path": "/other"},
        {"query": {"a": "1"}},
        {"body": b"a=2"},
        {"headers": {"Host": "elsewhere"}},
        {"headers": {"Content-Type": "text/plain"}},
        {"headers": {"X-Goog-User-Project": "payer"}},
    ],
    ids=str,
)
def test_a_request_with_another_part_is_another(change: dict[str, Any]) -> None:
    """Method, path, query, body and headers."""
    assert normalized(request(**change)) != normalized(request())


@pytest.mark.parametrize("name", IGNORED_HEADERS)
def test_a_header_that_is_ignored_makes_no_difference(name: str) -> None:
    """The list has a reason for each."""
    assert normalized(request(headers={name.title(): "x"})) == normalized(request())
