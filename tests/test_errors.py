"""The error tree: what callers catch, what is retryable, and that no secret gets into it."""

from __future__ import annotations

import pickle

import aiohttp
import google.auth.exceptions
import grpc
import grpc.aio
import pytest

import aio_authgrpc
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc._http.token_errors import token_error

ALL = [
    aio_authgrpc.errors.TokenUnavailableError,
    aio_authgrpc.errors.TokenRefusedError,
    aio_authgrpc.errors.TokenDeadlineExceededError,
    aio_authgrpc.errors.ConnectionNotReadyError,
    aio_authgrpc.errors.ChannelClosedError,
    aio_authgrpc.errors.WrongEventLoopError,
]
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJtZSJ9.c2lnbmF0dXJl"


@pytest.mark.parametrize("kind", ALL)
def test_an_rpc_error_is_caught_as_grpcs_and_as_ours(kind: type[aio_authgrpc.AuthRpcError]) -> None:
    """Each error of an RPC is an AioRpcError with its class's code, and an AuthGrpcError."""
    error = kind("what happened", hint="what to do")
    assert isinstance(error, grpc.aio.AioRpcError)
    assert isinstance(error, aio_authgrpc.AuthGrpcError)
    assert (error.code(), error.details()) == (kind.status, "what happened")
    assert list(error.trailing_metadata() or ()) == []


@pytest.mark.parametrize("kind", ALL)
def test_an_rpc_error_that_is_pickled_comes_back_the_same(kind: type[aio_authgrpc.AuthRpcError]) -> None:
    """Errors cross process boundaries, as they do in a worker pool."""
    error = pickle.loads(pickle.dumps(kind("what happened", hint="what to do")))
    assert (type(error), str(error), error.hint) == (
        kind,
        str(kind("what happened", hint="what to do")),
        "what to do",
    )


def test_a_configuration_error_is_a_value_error_that_names_its_field() -> None:
    """Whoever validates arguments catches ValueError; the field and the next step are in the text."""
    error = pickle.loads(
        pickle.dumps(aio_authgrpc.ConfigurationError("is odd.", field="target", hint="Write 'host'."))
    )
    assert isinstance(error, ValueError)
    assert (error.field, str(error)) == ("target", "target: is odd. Write 'host'.")


def test_a_copy_is_another_exception_with_the_same_cause() -> None:
    """Many callers get one failure: each raises its own object, or tracebacks would pile up."""
    cause = OSError("unreachable")
    error = token_error(cause)
    copy = error.copy()
    assert copy is not error
    assert (str(copy), copy.__cause__) == (str(error), cause)


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [
        pytest.param(google.auth.exceptions.TransportError("reset"), None, True, id="transport"),
        pytest.param(aiohttp.ServerDisconnectedError(), None, True, id="aiohttp"),
        pytest.param(TimeoutError("slow"), None, True, id="time-out"),
        pytest.param(ConnectionRefusedError("refused"), None, True, id="os"),
        pytest.param(
            google.auth.exceptions.RefreshError("busy", retryable=True), None, True, id="google-says-so"
        ),
        pytest.param(google.auth.exceptions.RefreshError("invalid_grant"), None, False, id="google-says-not"),
        pytest.param(google.auth.exceptions.RefreshError("x"), 503, True, id="503"),
        pytest.param(google.auth.exceptions.OAuthError("x"), 502, True, id="502-from-sts"),
        pytest.param(google.auth.exceptions.RefreshError("x"), 429, True, id="429"),
        pytest.param(google.auth.exceptions.RefreshError("x"), 408, True, id="408"),
        pytest.param(google.auth.exceptions.RefreshError("x", retryable=True), 400, False, id="400"),
        pytest.param(google.auth.exceptions.RefreshError("x"), 200, True, id="200-with-nothing-in-it"),
        pytest.param(
            google.auth.exceptions.RefreshError("No access token", {"error": "invalid_grant"}),
            200,
            False,
            id="200-with-a-refusal",
        ),
        pytest.param(aio_authgrpc.ConfigurationError("x", field="y"), 200, False, id="200-and-a-bad-token"),
        pytest.param(aio_authgrpc.ConfigurationError("gone", field="file"), None, False, id="configuration"),
        pytest.param(KeyError("bug"), None, False, id="a-bug-in-a-source"),
    ],
)
def test_a_failed_refresh_is_retryable_or_refused(
    error: Exception, status: int | None, retryable: bool
) -> None:
    """Network, 5xx, 408 and 429 are UNAVAILABLE; the rest is UNAUTHENTICATED."""
    translated = token_error(error, http_status=status)
    code = grpc.StatusCode.UNAVAILABLE if retryable else grpc.StatusCode.UNAUTHENTICATED
    assert (translated.retryable, translated.code()) == (retryable, code)


def test_a_wrapped_transport_error_is_retryable() -> None:
    """The metadata server's client wraps TransportError in RefreshError; the cause decides."""
    error = google.auth.exceptions.RefreshError("failed")
    error.__cause__ = google.auth.exceptions.TransportError("unreachable")
    assert token_error(error).retryable


def test_invalid_grant_says_what_to_check() -> None:
    """A refused assertion comes with a hint."""
    error = google.auth.exceptions.RefreshError(
        "invalid_grant: Invalid JWT Signature.", {"error": "invalid_grant"}
    )
    assert "clock" in token_error(error, http_status=400).hint


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
    """This is what the guard on every test looks with: it must find each form."""
    assert "[redacted]" in redacted(text)
    assert not any(secret in redacted(text) for secret in ("abc", "MIIEvQ", "eyJ", "ya29.a"))


@pytest.mark.parametrize(
    "text",
    ["token endpoint refused: invalid_grant", "https://host/token", "_Entry(token=Token(expires_at=None))"],
)
def test_redacted_leaves_other_text_alone(text: str) -> None:
    """A message that names tokens without showing one stays readable."""
    assert redacted(text) == text


def test_a_secret_in_google_auths_error_reaches_neither_text_nor_cause() -> None:
    """google-auth attaches the endpoint's whole response to its errors."""
    error = google.auth.exceptions.RefreshError("No access token in response.", {"id_token": JWT})
    translated = token_error(error)
    assert "No access token" in str(translated)
    assert JWT not in repr(translated) + repr(translated.__cause__)


def test_a_long_error_page_is_cut() -> None:
    """An HTML page from a proxy does not fill the log."""
    assert len(str(token_error(google.auth.exceptions.RefreshError("<p>" * 10_000)))) < 1_000
