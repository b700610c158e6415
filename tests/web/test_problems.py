"""HTTP answers to gRPC errors, and the bearers of requests."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from aio_authgrpc.errors import (
    AuthRpcError,
    TokenDeadlineExceededError,
    TokenRefusedError,
    TokenUnavailableError,
)
from aio_authgrpc.web import CallersTokens, http_status, problem_of

# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
DOCUMENTED = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}


def rpc_error(code: grpc.StatusCode, details: str = "the details") -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


@pytest.mark.parametrize("code", grpc.StatusCode, ids=lambda code: code.name)
def test_each_code_has_its_documented_status(code: grpc.StatusCode) -> None:
    """A code that gRPC adds shows here."""
    assert http_status(code) == DOCUMENTED[code.name]


@pytest.mark.parametrize("code", sorted(set(grpc.StatusCode) - {grpc.StatusCode.OK}, key=str), ids=str)
def test_the_details_are_told_for_the_callers_mistakes_alone(code: grpc.StatusCode) -> None:
    """A 5xx status speaks of the service's inside."""
    problem = problem_of(rpc_error(code), on_behalf_of_caller=True)
    assert ("detail" in problem.body) == (problem.status < 500)
    assert problem.body["code"] == code.name
    assert problem.body["status"] == problem.status


def test_a_secret_in_the_details_is_cut_out() -> None:
    """A server may quote the token that it refuses."""
    error = rpc_error(grpc.StatusCode.UNAUTHENTICATED, "bad token eyJhbGciOiJSUzI1NiJ9.eyJh.c2ln")
    problem = problem_of(error, on_behalf_of_caller=True)
    assert "eyJ" not in problem.text
    assert problem.body["detail"] == "bad token [redacted]"


def test_a_refused_caller_is_asked_for_a_bearer() -> None:
    """RFC 9110, section 15.5.2: a 401 names the scheme."""
    problem = problem_of(rpc_error(grpc.StatusCode.UNAUTHENTICATED), on_behalf_of_caller=True)
    assert problem.status == 401
    assert problem.headers == {"WWW-Authenticate": "Bearer"}


def test_a_refused_application_is_not_the_callers_fault() -> None:
    """Its own token was refused: the caller can do nothing, and is not told why."""
    problem = problem_of(rpc_error(grpc.StatusCode.UNAUTHENTICATED, "Jwt is expired"))
    assert problem.status == 500
    assert problem.headers == {}
    assert "detail" not in problem.body
    denied = problem_of(rpc_error(grpc.StatusCode.PERMISSION_DENIED, "Audiences in Jwt are not allowed"))
    assert denied.status == 403
    assert "detail" not in denied.body


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TokenRefusedError("invalid_grant"), 500),
        (TokenUnavailableError("down"), 503),
        (TokenDeadlineExceededError("late"), 504),
    ],
    ids=["refused", "unavailable", "late"],
)
def test_the_services_own_identity_is_never_the_callers_fault(error: AuthRpcError, status: int) -> None:
    """The caller cannot mend it, and is not told about it."""
    problem = problem_of(error)
    assert problem.status == status
    assert "detail" not in problem.body


def test_the_time_to_wait_is_passed_on() -> None:
    """From the token endpoint's `Retry-After`."""
    assert problem_of(TokenUnavailableError("busy", retry_after=7.4)).headers == {"Retry-After": "7"}


@pytest.mark.parametrize("header", ["Bearer x", "bearer x", "BEARER x", "Bearer a.b-c_d~e+f/g=="])
def test_a_bearer_is_taken(header: str) -> None:
    """The scheme's case does not count (RFC 9110, section 11.1)."""
    assert CallersTokens().source(header) is not None


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer  x", " Bearer x", "Bearer x ", "Bearer x y", "Basic eDp5", "x",
     "Bearer x\n", "Bearer é"],
)  # fmt: skip
def test_what_is_no_bearer_is_none(header: str | None) -> None:
    """RFC 6750, section 2.1: one blank, and a token of the allowed characters."""
    assert CallersTokens().source(header) is None


def test_a_caller_is_known_again_among_the_last_128() -> None:
    """One source for each bearer, so that the channel finds its tokens again."""
    callers = CallersTokens()
    first = callers.source("Bearer 0")
    assert callers.source("bearer 0") is first
    for number in range(1, 129):
        callers.source(f"Bearer {number}")
    assert callers.source("Bearer 0") is not first
    assert repr(callers) == "<CallersTokens of 128 callers>"
