"""Secrets are cut out of texts, and other texts stay as they are."""

from __future__ import annotations

import pytest

from aio_authgrpc._checks.secrets import redacted

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJtZSJ9.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "text",
    [
        JWT,
        f"Bearer {JWT[:20]}",
        "Authorization: Bearer abcdef",
        "ya29.a0AfH6SMBx-abc_def",
        "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEvQ (cut",
        "{'access_token': 'abc'}",
        '{"refresh_token":"abc"}',
        '{"id_token": "abc", "x": 1}',
        "{'client_secret': 'abc'}",
        "{'accessToken': 'abc'}",
        "grant_type=x&assertion=abc&y=1",
        "refresh_token=1//abcdefgh",
    ],
)
def test_redacted_cuts_a_secret_out(text: str) -> None:
    """The guard on every test looks for secrets with this function, which must find each form."""
    assert "[redacted]" in redacted(text)
    assert not any(secret in redacted(text) for secret in ("abc", "MIIEvQ", "eyJ", "ya29.a"))


@pytest.mark.parametrize(
    "text",
    ["token endpoint refused: invalid_grant", "https://host/token", "_Entry(token=Token(expires_at=None))"],
)
def test_redacted_leaves_other_text_alone(text: str) -> None:
    """A message that names tokens without showing one stays readable."""
    assert redacted(text) == text
