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
from elsewhere are searched for secrets first.
"""

from __future__ import annotations

from typing import ClassVar, Self

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
