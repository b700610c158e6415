"""Secrets are cut out of texts, and other texts stay as they are."""

from __future__ import annotations

import urllib.parse

import pytest

from aio_authgrpc._checks.known_secrets import KnownSecrets
from aio_authgrpc._checks.secrets import redacted, shown

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
        "{'access_token': ['abc']}",
        "&quot;refresh_token&quot;:&quot;abc&quot;",
        "%22access_token%22%3A%20%22abc%22",
        r"{\"x\": \"{\\\"id_token\\\": \\\"abc\\\"}\"}",
        "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JSUV2UUlCQURBTkJn",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQabc",
        "abcX3f9Qk27LmZp8Tw6Yb1",
    ],
)
def test_redacted_cuts_a_secret_out(text: str) -> None:
    """The guard on every test looks for secrets with this function, which must find each form."""
    assert "[redacted]" in redacted(text)
    assert not any(secret in redacted(text) for secret in ("abc", "MIIEvQ", "eyJ", "ya29.a"))


@pytest.mark.parametrize(
    "text",
    [
        "token endpoint refused: invalid_grant",
        "https://host/token",
        "_Entry(token=Token(expires_at=None))",
        "request 5f2b0c1e-8d6a-4f6e-9c3b-2a7d1e0f4b5c",
        "/home/JohnDoe2/Projects3/serviceAccountKey2024Production.json",
        "MIGRATION_OF_EVERYTHING_IN_PROGRESS",
        "100%25 of a & b, and \\n",
    ],
)
def test_redacted_leaves_other_text_alone(text: str) -> None:
    """A message that names tokens without showing one stays readable."""
    assert redacted(text) == text


SECRET = "correct-horse+battery/staple"


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        (f"no {SECRET}!", "no [redacted]!"),
        (f"no {SECRET[:9]}…", "no [redacted]…"),
        (f"no {SECRET.upper()} é", "no [redacted] é"),
        ("no correct-", "no [redacted]"),
        ("no correct", "no correct"),
        (f"é{urllib.parse.quote(SECRET)}é", "é[redacted]é"),
    ],
)
def test_a_known_secret_is_cut_out_whole_or_in_part(text: str, cut: str) -> None:
    """Eight characters are the shortest part; what stands around it stays."""
    assert redacted(text, KnownSecrets([SECRET])) == cut


def test_what_a_secret_has_in_common_with_public_values_stays() -> None:
    """A subject token of AWS has the audience in it, which a message names."""
    known = KnownSecrets(["https://host/audience and s3cr3t-of-it"], public=["https://host/audience"])
    assert (
        redacted("for https://host/audience: s3cr3t-of-it", known) == "for https://host/audience: [redacted]"
    )


def test_a_short_secret_is_cut_out_as_a_word() -> None:
    """It may be a part of other words."""
    assert redacted("pass: compass, PASS%21", KnownSecrets(["pass"])) == "[redacted]: compass, [redacted]%21"


@pytest.mark.parametrize(
    "text", ["", "ab", "%", "\\", "&#;", "&#99999999;", "\ud800", "%u{}", "=", "%25" * 2000]
)
def test_odd_texts_are_searched(text: str) -> None:
    """An endpoint may answer anything."""
    assert "secret" not in redacted(text + SECRET, KnownSecrets([SECRET]))


@pytest.mark.parametrize(
    "given", ["ya29.x", "1//x", "AIzax", "GOCSPX-x", "-----BEGIN x", "eyJx", "M" + "II" * 60]
)
def test_a_secret_in_the_place_of_a_path_is_not_shown(given: str) -> None:
    """A path is."""
    assert shown(given) == "[a text that looks like a secret]"
    assert shown("MIIKey.json") == "MIIKey.json"
