"""Tokens that the user brings: a fixed one, an API key, or the result of a coroutine function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._tokens.metadata import checked_header
from aio_authgrpc._tokens.source import TokenRequest, TokenSource
from aio_authgrpc._tokens.token import ANONYMOUS, Token
from aio_authgrpc.errors import ConfigurationError

_ASYNC_HINT = "Write 'async def', and await asyncio.to_thread(...) in it for blocking code."


class FixedTokenSource:
    """A source with one token, for ever."""

    def __init__(self, token: Token, name: str) -> None:
        self.token = token
        self._name = name

    async def fetch(self, request: TokenRequest) -> Token:
        return self.token

    def __repr__(self) -> str:
        return self._name


class AnonymousTokenSource(FixedTokenSource):
    """What `anonymous()` returns: its token puts nothing into the metadata."""

    def __init__(self) -> None:
        super().__init__(ANONYMOUS, "anonymous()")


class ApiKeySource(FixedTokenSource):
    """What `api_key()` returns: a source whose `header` is where the key goes."""

    def __init__(self, key: str, header: str) -> None:
        super().__init__(Token(key, scheme=""), f"api_key(..., header={header!r})")
        self.header = header


class _CallableTokenSource:
    def __init__(self, function: Callable[[], Awaitable[str | Token]]) -> None:
        self._function = function
        named = _unbound(function)
        self.function_name = f"{getattr(named, '__module__', '')}.{_name_of(named)}"

    async def fetch(self, request: TokenRequest) -> Token:
        asked: object = self._function()
        if not inspect.isawaitable(asked):
            raise ConfigurationError(
                f"the function returned {type(asked).__name__}, which cannot be awaited.",
                field="async_callable",
                hint=_ASYNC_HINT,
            )
        token = await asked
        return token if isinstance(token, Token) else Token(token)

    def __repr__(self) -> str:
        return f"token_source({_name_of(self._function)})"


def anonymous() -> TokenSource:
    """Send no token: for emulators and open services. No credentials are looked up.

    google-auth's `AnonymousCredentials` mean the same. A plaintext channel to another host does not warn,
    because it carries no secret.
    """
    return AnonymousTokenSource()


@hiding_arguments
def static_token(token: str | Token) -> TokenSource:
    """Use one token for ever, such as seed 001's `--auth_token`, or one that gcloud printed.

    Args:
        token: The bearer token, or a `Token` with an expiry. A bare str counts as never expiring.

    Raises:
        ConfigurationError: It is empty, or has characters that a header cannot carry.
    """
    made = token if isinstance(token, Token) else Token(token)
    if not made.value:
        raise ConfigurationError("the token is empty.", field="token", hint="Use anonymous() to send none.")
    return FixedTokenSource(made, "static_token(...)")


def token_source(async_callable: Callable[[], Awaitable[str | Token]]) -> TokenSource:
    """Ask a coroutine function for the token: once however many calls wait, again before it expires.

    Args:
        async_callable: Takes nothing and returns a `Token`, or a str that counts as never expiring. It
            runs in a task of its own, which closing the channel cancels. Its exceptions become the
            error of the waiting calls: retryable for `OSError`, time-outs and aiohttp's, else not;
            an `AuthRpcError` of this package is raised as it is.

    Raises:
        ConfigurationError: It is not a coroutine function, or takes arguments.
    """
    function: object = async_callable
    if not callable(function) or isinstance(function, type):
        raise ConfigurationError(
            f"expected a coroutine function, not {type(function).__name__}.",
            field="async_callable",
            hint="Use static_token(...) for a token.",
        )
    if _is_plain(function):
        raise ConfigurationError(
            f"{_name_of(function)} is not a coroutine function.", field="async_callable", hint=_ASYNC_HINT
        )
    if problem := _arguments_problem(function):
        raise ConfigurationError(
            f"{_name_of(function)} is called without arguments: {problem}.",
            field="async_callable",
            hint="Bind them with functools.partial(...). A TokenSource of your own is told the audience.",
        )
    return _CallableTokenSource(async_callable)


def _is_plain(function: Callable[..., object]) -> bool:
    """Return whether it is a function that was written without `async`; a lambda may call one with."""
    function = _unbound(function)
    is_written = inspect.isfunction(function) or inspect.ismethod(function)
    return is_written and not inspect.iscoroutinefunction(function) and function.__name__ != "<lambda>"


def _unbound(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function to which `functools.partial` binds arguments, or the function itself."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _arguments_problem(function: Callable[..., object]) -> str:
    """Say which argument is missing where a function cannot be called without any; else ""."""
    try:
        inspect.signature(function).bind()
    except ValueError:  # it is written in C, and tells no signature
        return ""
    except TypeError as error:
        return str(error)
    return ""


def _name_of(function: object) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


@hiding_arguments
def api_key(key: str, *, header: str = "x-api-key") -> ApiKeySource:
    """Authenticate with an API key only (seed 001's `--api_key`).

    For a key *beside* a token pass `api_key="..."` to `connect`.

    Args:
        key: The key.
        header: `x-api-key` for Cloud Endpoints, `x-goog-api-key` for Google's own APIs.

    Raises:
        ConfigurationError: The key is empty or not printable, or the header is not a metadata key.
    """
    check_type("api_key", key, str)
    if not key:
        raise ConfigurationError(
            "the key is empty.", field="api_key", hint="Check where it is read from; anonymous() sends none."
        )
    return ApiKeySource(key, checked_header(header))
