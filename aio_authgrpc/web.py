"""What a web application needs of gRPC: HTTP statuses for its errors, and the bearer of a request."""

from __future__ import annotations

import json
import logging
import re
from collections import OrderedDict

import grpc
import grpc.aio

from aio_authgrpc import AuthGrpcError, AuthRpcError, TokenSource, static_token
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc.errors import TokenUnavailableError

_log = logging.getLogger("aio_authgrpc")

_STATUSES = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
}
_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    429: "Too Many Requests",
    499: "Client Closed Request",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
# Whose bearers a service sees in turn; as many as a channel keeps tokens of.
_MOST_BEARERS = 128
_BEARER = r"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9._~+/-]+=*)"


class Problem:
    """An HTTP answer to a gRPC error, of the type `application/problem+json` (RFC 9457).

    Attributes:
        status: The HTTP status.
        body: `type`, `title`, `status`, `code`, and for mistakes of the caller's `detail`.
        headers: `WWW-Authenticate` for 401, `Retry-After` where the error says when.
    """

    content_type = "application/problem+json"

    def __init__(self, status: int, body: dict[str, str | int], headers: dict[str, str]) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    @property
    def text(self) -> str:
        """The body as JSON."""
        return json.dumps(self.body)


def http_status(code: grpc.StatusCode) -> int:
    """Return the HTTP status that google/rpc/code.proto documents for a gRPC code.

    https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
    """
    return _STATUSES.get(code, 500)


def problem_of(error: grpc.aio.AioRpcError, *, on_behalf_of_caller: bool = False) -> Problem:
    """Return the HTTP answer to a gRPC error.

    The details of a 4xx status speak to the caller, and become `detail`; what looks like a secret is cut out.
    Those of a 5xx status stay in the application's log. The identity of the application is not the caller's:
    where it is refused, or cannot be had (`AuthRpcError`), the answer is 500, and a `PERMISSION_DENIED` has
    no `detail`.

    Args:
        error: What the RPC raised.
        on_behalf_of_caller: Whether the RPC carried the caller's own token.
    """
    code = error.code()
    status = http_status(code)
    of_application = not on_behalf_of_caller and code is grpc.StatusCode.UNAUTHENTICATED
    if (isinstance(error, AuthRpcError) or of_application) and status < 500:
        status = 500
    tells = status < 500 and (on_behalf_of_caller or code is not grpc.StatusCode.PERMISSION_DENIED)
    body: dict[str, str | int] = {
        "type": "about:blank",
        "title": _TITLES.get(status, "OK"),
        "status": status,
        "code": code.name,
    }
    headers: dict[str, str] = {}
    if tells and error.details():
        body["detail"] = redacted(error.details() or "")
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TokenUnavailableError) and error.retry_after is not None:
        headers["Retry-After"] = str(round(error.retry_after))
    return Problem(status, body, headers)


def log_problem(problem: Problem, error: grpc.aio.AioRpcError, path: str) -> None:
    """Log an error that the caller is not told about."""
    if "detail" not in problem.body:
        _log.error("%s was answered with %d: %s", path, problem.status, redacted(repr(error)))


def no_bearer() -> Problem:
    """Return the answer to a request without a usable bearer token (RFC 6750, section 3)."""
    body: dict[str, str | int] = {
        "type": "about:blank",
        "title": _TITLES[401],
        "status": 401,
        "code": grpc.StatusCode.UNAUTHENTICATED.name,
        "detail": "The Authorization header must be 'Bearer' and a token.",
    }
    return Problem(401, body, {"WWW-Authenticate": "Bearer"})


def not_ready(error: AuthGrpcError) -> Problem:
    """Return the answer to a readiness probe while the token or the connection is missing."""
    body: dict[str, str | int] = {
        "type": "about:blank",
        "title": _TITLES[503],
        "status": 503,
        "code": grpc.StatusCode.UNAVAILABLE.name,
        "detail": f"{type(error).__name__}: see the log.",
    }
    return Problem(503, body, {})


class CallersTokens:
    """Makes a token source of each caller's bearer, and keeps the last 128: a channel knows them again."""

    def __init__(self) -> None:
        self._sources: OrderedDict[str, TokenSource] = OrderedDict()

    def source(self, authorization: str | None) -> TokenSource | None:
        """Return the source of an `Authorization` header's bearer (RFC 6750); None without a bearer in it."""
        found = re.fullmatch(_BEARER, authorization or "")
        if found is None:
            return None
        token = found[1]
        source = self._sources.setdefault(token, static_token(token))
        self._sources.move_to_end(token)
        if len(self._sources) > _MOST_BEARERS:
            self._sources.popitem(last=False)
        return source

    def __repr__(self) -> str:
        return f"<CallersTokens of {len(self._sources)} callers>"
