"""The errors of this package, as a tree; each with the gRPC status code that it carries.

```
AuthGrpcError                            everything below: `hint`, `retryable`
├── ConfigurationError (ValueError)      no status: a bad argument, raised where
│   │                                    it was passed; or a file or the
│   │                                    environment, raised on opening, before
│   │                                    any RPC; `field`
│   ├── TlsArgumentsError                arguments that exclude each other; also
│   │                                    google-auth's `MalformedError`
│   └── ClientCertificateError           it is missing, or cannot be used; also
│                                        google-auth's `MutualTLSChannelError`
└── AuthRpcError (grpc.aio.AioRpcError)  raised by an RPC; `code()`,
    │                                    `details()`, `__cause__`
    ├── TokenUnavailableError            UNAVAILABLE: no token now, and a later
    │                                    call may get one; retryable
    ├── TokenRefusedError                UNAUTHENTICATED: the token endpoint, or
    │                                    the source, refused
    ├── TokenDeadlineExceededError       DEADLINE_EXCEEDED: the RPC's time was
    │                                    spent waiting for its token; retryable
    ├── ConnectionNotReadyError          UNAVAILABLE: the server could not be
    │                                    reached, in `ready_timeout` or by an
    │                                    RPC; the details are gRPC's words;
    │                                    retryable
    ├── ChannelNotOpenedError            FAILED_PRECONDITION: a channel that
    │                                    opens itself could not; the cause is
    │                                    the ConfigurationError
    ├── ChannelClosedError               CANCELLED: the channel, or its token
    │                                    cache, was closed
    └── WrongEventLoopError              FAILED_PRECONDITION: used on another
                                         loop, or after a fork
```

`except grpc.aio.AioRpcError` therefore catches every failure of a call, and `except AuthGrpcError` those
that this package found. No error carries a secret: secrets are cut out of texts from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Self

import google.auth.exceptions
import grpc
import grpc.aio


class AuthGrpcError(Exception):
    """Base of every error of this package.

    Attributes:
        hint: What to do about it, in one or two sentences; may be empty.
        retryable: Whether the same call may succeed later, with nothing changed.
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
        self._message = message
        self.field = field
        self.hint = hint

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        return partial(type(self), self._message, field=self.field, hint=self.hint), ()


# `retryable` is an attribute of ours and a property of google-auth's; ours comes first, and is False.
class TlsArgumentsError(  # pyright: ignore[reportIncompatibleVariableOverride] - see above
    ConfigurationError, google.auth.exceptions.MalformedError
):
    """Two arguments for TLS exclude each other; also google-auth's `MalformedError`."""


class ClientCertificateError(  # pyright: ignore[reportIncompatibleVariableOverride] - as above
    ConfigurationError, google.auth.exceptions.MutualTLSChannelError
):
    """The client certificate is missing, or cannot be used; also google-auth's `MutualTLSChannelError`.

    Raised on opening, before any RPC; the `__cause__` says why. A channel is never opened without the
    certificate that it was asked to use.
    """


class AuthRpcError(AuthGrpcError, grpc.aio.AioRpcError):
    """An RPC that could not be sent, or not be authenticated, as the `grpc.aio.AioRpcError` that users catch.

    Attributes:
        status: The code of this class; `code()` returns it.
    """

    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(self, details: str, *, hint: str = "") -> None:
        grpc.aio.AioRpcError.__init__(
            self, self.status, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details
        )
        # Private: google-api-core prints `code` and `message` of errors that have both, as texts.
        self._message = details
        self.hint = hint

    def details(self) -> str:
        """Return what happened, without the code and the hint."""
        return self._message

    def copy(self) -> Self:
        """Return an equal exception with the same cause.

        Many calls may fail for one reason. Each raises its own object: an exception that is raised again
        collects the tracebacks of all of them.
        """
        copy = self.__reduce__()[0]()
        copy.__cause__ = self.__cause__
        return copy

    def __str__(self) -> str:
        return f"{self.status.name}: {self._message}" + (f" ({self.hint})" if self.hint else "")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        return partial(type(self), self._message, hint=self.hint), ()


class TokenUnavailableError(AuthRpcError):
    """No usable token, and none could be fetched now: network, time-out, HTTP 408, 429 or 5xx. Worth a retry.

    Attributes:
        retry_after: Seconds for which the token endpoint asks to be left alone (`Retry-After`, RFC 9110);
            None where it did not ask.
    """

    status = grpc.StatusCode.UNAVAILABLE
    retryable = True

    def __init__(self, details: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(details, hint=hint)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        return partial(type(self), self._message, hint=self.hint, retry_after=self.retry_after), ()


class TokenRefusedError(AuthRpcError):
    """The token endpoint, or the source itself, refused; the same request will be refused again."""

    status = grpc.StatusCode.UNAUTHENTICATED


class TokenDeadlineExceededError(AuthRpcError):
    """The call's `timeout` was spent while it waited for a token; the RPC was never sent."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    retryable = True


class ConnectionNotReadyError(AuthRpcError):
    """The server could not be reached within `ready_timeout`, or by an RPC; the hint says what to do."""

    status = grpc.StatusCode.UNAVAILABLE
    retryable = True


class ChannelNotOpenedError(AuthRpcError):
    """A `LazyChannel` could not be opened for the RPC; its `__cause__` is the `ConfigurationError`."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class ChannelClosedError(AuthRpcError):
    """The channel was closed before the call, or while the call waited for its token."""

    status = grpc.StatusCode.CANCELLED


class WrongEventLoopError(AuthRpcError):
    """The channel belongs to another event loop, or to the process that forked this one."""

    status = grpc.StatusCode.FAILED_PRECONDITION
