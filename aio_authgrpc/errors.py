"""The errors of this package, as a tree; each with the gRPC status code that it carries.

```
AuthGrpcError                           everything below: `hint`, `retryable`
├── ConfigurationError (ValueError)     no status: raised by the call that was given bad arguments, or on
│   │                                   entry for a file or the environment, before any RPC; `field`
│   ├── TlsArgumentsError               arguments that exclude each other, such as `ssl_credentials` beside
│   │                                   `client_cert_callback`; also google-auth's `MalformedError`
│   └── ClientCertificateError          no client certificate is to be had, or it cannot be used; also
│                                       google-auth's `MutualTLSChannelError`
└── AuthRpcError (grpc.aio.AioRpcError) raised by an RPC; `code()`, `details()`, `__cause__`
    ├── TokenUnavailableError           UNAVAILABLE: no token now, a later attempt may get one; retryable
    ├── TokenRefusedError               UNAUTHENTICATED: the token endpoint or the source said no
    ├── TokenDeadlineExceededError      DEADLINE_EXCEEDED: the RPC's time was spent waiting for its token
    ├── ConnectionNotReadyError         UNAVAILABLE: the server could not be reached, in `ready_timeout`
    │                                   or by an RPC; what to do about it is in the details
    ├── ChannelClosedError              CANCELLED: the channel, or its token cache, was closed
    └── WrongEventLoopError             FAILED_PRECONDITION: used on another loop, or after a fork
```

`except grpc.aio.AioRpcError` therefore catches whatever goes wrong after a stub was called, and
`except AuthGrpcError` what this package has to say about it. No error carries a secret: texts
from elsewhere pass `redacted()` first.
"""

from __future__ import annotations

import functools
import re
from typing import ClassVar, Self, cast

import aiohttp
import google.auth.exceptions
import grpc
import grpc.aio


class AuthGrpcError(Exception):
    """Base of every error of this package.

    Attributes:
        hint: What to do about it, one or two sentences; empty where there is nothing to add.
        retryable: Whether the same call may succeed later without a change by its author.
    """

    retryable: bool = False
    hint: str = ""


class ConfigurationError(AuthGrpcError, ValueError):
    """An argument, a file or the environment cannot be used; raised before any RPC is made.

    Attributes:
        field: The argument, or the field of a file, that is wrong, such as `"target"` or `"private_key"`.
    """

    def __init__(self, message: str, *, field: str, hint: str = "") -> None:
        super().__init__(f"{field}: {message}" + (f" {hint}" if hint else ""))
        self.message = message
        self.field = field
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _restore_configuration_error, (type(self), self.message, self.field, self.hint)


# Both bases say `retryable`, one as an attribute and one as a property: ours comes first, and is False.
class TlsArgumentsError(  # pyright: ignore[reportIncompatibleVariableOverride]
    ConfigurationError, google.auth.exceptions.MalformedError
):
    """Arguments for TLS were given that exclude each other; also what google-auth raises there."""


class ClientCertificateError(  # pyright: ignore[reportIncompatibleVariableOverride] - as above
    ConfigurationError, google.auth.exceptions.MutualTLSChannelError
):
    """There is no client certificate to be had, or it cannot be used; also google-auth's error for that.

    Raised on opening, before any RPC; the `__cause__` says why. A channel never goes on without the
    certificate that was asked for.
    """


class AuthRpcError(AuthGrpcError, grpc.aio.AioRpcError):
    """An RPC that could not be made, or not be authenticated, in the shape that gRPC users catch."""

    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(self, details: str, *, hint: str = "") -> None:
        grpc.aio.AioRpcError.__init__(
            self, self.status, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details
        )
        self.message = details
        self.hint = hint

    def copy(self) -> Self:
        """Return a new exception that says the same and shares the cause.

        Many calls may fail for one reason; each raises its own object, so that tracebacks do not pile up.
        """
        copy = type(self)(self.message, hint=self.hint)
        copy.__cause__ = self.__cause__
        return copy

    def __str__(self) -> str:
        return f"{self.status.name}: {self.message}" + (f" ({self.hint})" if self.hint else "")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore_rpc_error, (type(self), self.message, self.hint)


class TokenUnavailableError(AuthRpcError):
    """There is no usable token and none could be fetched: network, 5xx, 429, time-out. Worth a retry.

    Attributes:
        retry_after: Seconds that the token endpoint wants to be left alone (`Retry-After`, RFC 9110);
            None where it did not say.
    """

    status = grpc.StatusCode.UNAVAILABLE
    retryable = True

    def __init__(self, details: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(details, hint=hint)
        self.retry_after = retry_after

    def copy(self) -> Self:
        """See `AuthRpcError.copy`."""
        copy = super().copy()
        copy.retry_after = self.retry_after
        return copy

    def __reduce__(self) -> tuple[object, ...]:
        return _restore_unavailable, (type(self), self.message, self.hint, self.retry_after)


class TokenRefusedError(AuthRpcError):
    """The token endpoint, or the source itself, refused; the same request will be refused again."""

    status = grpc.StatusCode.UNAUTHENTICATED


class TokenDeadlineExceededError(AuthRpcError):
    """The call's `timeout` was spent while it waited for a token; the RPC was never sent."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    retryable = True


class ConnectionNotReadyError(AuthRpcError):
    """The server could not be reached: within `ready_timeout`, or by an RPC, for a reason that is known."""

    status = grpc.StatusCode.UNAVAILABLE
    retryable = True


class ChannelClosedError(AuthRpcError):
    """The channel was closed before the call, or while the call waited for its token."""

    status = grpc.StatusCode.CANCELLED


class WrongEventLoopError(AuthRpcError):
    """The channel belongs to another event loop, or to the process that forked this one."""

    status = grpc.StatusCode.FAILED_PRECONDITION


def check_type(field: str, value: object, *kinds: type, hint: str = "") -> None:
    """Check an argument's type where a mistake would show late, or never.

    Raises:
        ConfigurationError: It is of none of these types. A bool is no number here.
    """
    wrong_bool = isinstance(value, bool) and bool not in kinds
    if wrong_bool or not isinstance(value, kinds):
        expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ConfigurationError(f"expected {expected}, not {type(value).__name__}.", field=field, hint=hint)


def token_error(error: Exception, *, http_status: int | None = None) -> AuthRpcError:
    """Translate what a token source raised; the one place where that is decided.

    Args:
        error: What `TokenSource.fetch` raised. It becomes the `__cause__`.
        http_status: The status of the last response of the token endpoint, where one came.

    Returns:
        An error of this module, to be raised by the caller. An `AuthRpcError` is returned as it is.
    """
    if isinstance(error, AuthRpcError):
        return error
    description = _describe(error)
    hint = _hint(f"{description} {_oauth_error(error)}")
    if http_status is None:
        retryable = _is_retryable(error)
    elif http_status == 200:
        # It said OK and gave no token: an error page of a proxy, half an answer. But a refusal is one.
        retryable = not hint and not isinstance(error, ConfigurationError)
    else:
        retryable = is_retryable_status(http_status)
    if retryable:
        translated: AuthRpcError = TokenUnavailableError(
            f"No token could be fetched: {description}",
            hint="The token endpoint is out of reach or overloaded; a later call tries again by itself.",
        )
    else:
        translated = TokenRefusedError(f"No token could be fetched: {description}", hint=hint)
    translated.__cause__ = _without_secrets(error, description)
    return translated


def redacted(text: str) -> str:
    """Return `text` with everything that looks like a token, a key or an assertion cut out."""
    return _secrets().sub(
        lambda found: (found[found.lastgroup] if found.lastgroup else "") + "[redacted]", text
    )


@functools.cache  # compiled when first needed: at import it would be a tenth of the package's time
def _secrets() -> re.Pattern[str]:
    """Match JWTs (also cut short), opaque tokens and keys of known shapes, PEM blocks, headers, and fields.

    The fields are those in which OAuth and its kin carry secrets: in JSON, also quoted once more, in a
    Python dict, in a form, also quoted.
    """
    name = r"(?:\w*token|\w*secret\w*|\w*password|assertion|private_?key|signed_?(?:jwt|blob)|api_?key)"
    return re.compile(
        r"(?P<userinfo>://)[^\s/@'\"]+(?=@)"
        r"|(?P<segments>segments in token: )\S+"
        r"|eyJ[\w-]{8,}(?:\.[\w-]*){0,2}"
        r"|ya29\.[\w.-]+|1//[\w-]{8,}|AIza[\w-]{20,}|GOCSPX-[\w-]+"
        r"|-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)"
        r"|(?P<header>\b(?:bearer|basic) )(?!realm=)[\w.~+/-]{6,}=*"
        rf"|(?P<quoted>\\?[\"']{name}\\?[\"']\s*:\s*b?\\?[\"'])[^\"']+"
        rf"|(?P<form>(?:^|[&?\s\"']){name}(?:=|%3D))[^&\s\"'\[(]+",
        re.DOTALL | re.IGNORECASE,
    )


# A message is for people: of what a server sends as an error page the beginning is enough, and more
# would hold the loop while it is searched for secrets.
_MAX_DESCRIPTION = 500
_MAX_SEARCHED = 4_000

_HINTS = {
    "invalid_grant": "The assertion or the refresh token was refused: check that the key or the grant was "
    "not revoked, that the account exists, and that this machine's clock is right.",
    "invalid_scope": "Ask for scopes that exist, such as https://www.googleapis.com/auth/cloud-platform.",
    "unauthorized_client": "The account may not act for this subject or client: check the delegation.",
    "invalid_client": "The client id or its secret was refused: create the credentials anew.",
}


def is_retryable_status(status: int) -> bool:
    """Return whether an HTTP status asks to try again: time-out, too many requests, the server's trouble."""
    return status in (408, 429) or status >= 500


def _is_retryable(error: Exception) -> bool:
    """Decide without a response. google-auth wraps transport errors, so the causes are asked too."""
    network = (google.auth.exceptions.TransportError, aiohttp.ClientError, OSError, TimeoutError)
    for link in _chain(error):
        if isinstance(link, ConfigurationError):
            return False
        if isinstance(link, network) or (
            isinstance(link, google.auth.exceptions.GoogleAuthError) and link.retryable
        ):
            return True
    return False


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and what it came from, each once: `raise error from error` makes a ring."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _describe(error: Exception) -> str:
    """Say what happened: google-auth's first argument is the message, the second the whole response."""
    message = str(error.args[0])[:_MAX_SEARCHED] if error.args else ""
    named = message if isinstance(error, google.auth.exceptions.GoogleAuthError) and message else None
    text = named or f"{type(error).__name__}: {message}".rstrip(": ")
    return redacted(" ".join(text.split()))[:_MAX_DESCRIPTION]


def _oauth_error(error: Exception) -> str:
    """Return the OAuth error code of the response that google-auth's errors carry; "" without one."""
    response = error.args[1] if len(error.args) > 1 else None
    code: object = cast("dict[str, object]", response).get("error") if isinstance(response, dict) else None
    return code if isinstance(code, str) else ""


def _hint(description: str) -> str:
    return next((hint for code, hint in _HINTS.items() if code in description), "")


def _without_secrets(error: Exception, description: str) -> BaseException:
    """Return the error itself as a cause, or a copy of its text where it, or its cause, shows a secret."""
    for link in _chain(error):
        shown = repr(link) + str(link)
        holds_more = isinstance(link, UnicodeError)  # all of what could not be converted
        if holds_more or len(shown) > _MAX_SEARCHED or redacted(shown) != shown:
            return google.auth.exceptions.GoogleAuthError(f"{type(error).__name__}: {description}")
    return error


def _restore_configuration_error(
    kind: type[ConfigurationError], message: str, field: str, hint: str
) -> ConfigurationError:
    return kind(message, field=field, hint=hint)


def _restore_rpc_error(kind: type[AuthRpcError], message: str, hint: str) -> AuthRpcError:
    return kind(message, hint=hint)


def _restore_unavailable(
    kind: type[TokenUnavailableError], message: str, hint: str, retry_after: float | None
) -> TokenUnavailableError:
    return kind(message, hint=hint, retry_after=retry_after)
