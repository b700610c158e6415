"""The error tree: what callers catch, which errors are retryable, and that none holds a secret."""

from __future__ import annotations

import pickle

import aiohttp
import google.auth.exceptions
import grpc
import grpc.aio
import pytest

import aio_authgrpc
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
    assert error.code() is kind.status
    assert error.details() == "what happened"
    assert list(error.trailing_metadata() or ()) == []


@pytest.mark.parametrize("kind", ALL)
def test_an_rpc_error_that_is_pickled_comes_back_the_same(kind: type[aio_authgrpc.AuthRpcError]) -> None:
    """Errors cross process boundaries, as they do in a worker pool."""
    error = kind("what happened", hint="what to do")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.hint == "what to do"


@pytest.mark.parametrize("kind", ALL)
def test_an_rpc_error_has_no_public_message(kind: type[aio_authgrpc.AuthRpcError]) -> None:
    """google-api-core prints the `code` and `message` of errors that have both: here `code` is a method."""
    assert not hasattr(kind("what happened"), "message")


def test_a_pickled_error_keeps_its_retry_after() -> None:
    """A copy keeps it as well."""
    error = aio_authgrpc.errors.TokenUnavailableError("busy", hint="wait", retry_after=5.0)
    for again in (pickle.loads(pickle.dumps(error)), error.copy()):
        assert again.retry_after == 5.0
        assert str(again) == str(error)


@pytest.mark.parametrize(
    "kind", [aio_authgrpc.errors.TlsArgumentsError, aio_authgrpc.errors.ClientCertificateError]
)
def test_a_pickled_tls_error_keeps_its_type(kind: type[aio_authgrpc.ConfigurationError]) -> None:
    """It is one of google-auth's errors, too."""
    error = pickle.loads(pickle.dumps(kind("is odd.", field="client_cert_callback")))
    assert type(error) is kind
    assert error.field == "client_cert_callback"


def test_a_configuration_error_is_a_value_error_that_names_its_field() -> None:
    """Code that validates arguments catches ValueError; the text has the field and the hint."""
    error = pickle.loads(
        pickle.dumps(aio_authgrpc.ConfigurationError("is odd.", field="target", hint="Write 'host'."))
    )
    assert isinstance(error, ValueError)
    assert error.field == "target"
    assert str(error) == "target: is odd. Write 'host'."


def test_a_copy_is_another_exception_with_the_same_cause() -> None:
    """Many callers get one failure; each raises its own object, or tracebacks would pile up."""
    cause = OSError("unreachable")
    error = token_error(cause)
    copy = error.copy()
    assert copy is not error
    assert str(copy) == str(error)
    assert copy.__cause__ is cause


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
    assert translated.retryable is retryable
    assert translated.code() is code


def test_a_wrapped_transport_error_is_retryable() -> None:
    """The metadata server's client wraps TransportError in RefreshError; the cause decides."""
    error = google.auth.exceptions.RefreshError("failed")
    error.__cause__ = google.auth.exceptions.TransportError("unreachable")
    assert token_error(error).retryable


@pytest.mark.parametrize(
    ("description", "hint"),
    [
        ("Invalid JWT Signature.", "Create a new JSON key"),
        ("Invalid JWT: ... Check your iat and exp values in the JWT claim.", "this machine's clock"),
        ("Invalid grant: account not found", "does not know the account"),
        ("Token has been expired or revoked.", "log in again"),
        ("Bad Request", "that this machine's clock is right"),
    ],
)
def test_invalid_grant_says_what_to_check(description: str, hint: str) -> None:
    """One cause where Google's words name it, else all of them."""
    error = google.auth.exceptions.RefreshError(
        f"invalid_grant: {description}", {"error": "invalid_grant", "error_description": description}
    )
    translated = token_error(error, http_status=400)
    assert hint in translated.hint
    assert ("clock" in translated.hint) == ("clock" in hint)


def test_a_refusal_without_a_description_reads_as_words() -> None:
    """As of an endpoint that sends the code alone: google-auth formats the description that is not there."""
    error = google.auth.exceptions.RefreshError("invalid_grant: None", {"error": "invalid_grant"})
    translated = token_error(error, http_status=400)
    assert translated.details() == "No token could be fetched: the token endpoint answered 'invalid_grant'."
    assert translated.hint


@pytest.mark.parametrize(
    ("error", "http_status", "blames_endpoint"),
    [
        pytest.param(google.auth.exceptions.TransportError("reset"), None, True, id="transport"),
        pytest.param(aiohttp.ServerDisconnectedError(), None, True, id="aiohttp"),
        pytest.param(google.auth.exceptions.RefreshError("x"), 503, True, id="503"),
        pytest.param(OSError(24, "Too many open files"), None, False, id="os"),
        pytest.param(TimeoutError("the source returned no token within 60 s"), None, False, id="source"),
    ],
)
def test_a_failure_blames_the_token_endpoint_only_if_it_was_asked(
    error: Exception, http_status: int | None, blames_endpoint: bool
) -> None:
    """A source may be a function that reads a file."""
    translated = token_error(error, http_status=http_status)
    assert ("token endpoint" in translated.hint) == blames_endpoint
    assert "later call" in translated.hint


def test_a_secret_in_google_auths_error_reaches_neither_text_nor_cause() -> None:
    """google-auth attaches the endpoint's whole response to its errors."""
    error = google.auth.exceptions.RefreshError("No access token in response.", {"id_token": JWT})
    translated = token_error(error)
    assert "No access token" in str(translated)
    assert JWT not in repr(translated) + repr(translated.__cause__)


def test_a_long_error_page_is_cut() -> None:
    """An HTML page from a proxy does not fill the log."""
    assert len(str(token_error(google.auth.exceptions.RefreshError("<p>" * 10_000)))) < 1_000
