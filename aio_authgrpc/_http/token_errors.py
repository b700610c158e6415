"""What a token source raised, translated to an error of this package."""

from __future__ import annotations

import re
from typing import cast

import aiohttp
import google.auth.exceptions

from aio_authgrpc._checks.frames import links_of, without_frames
from aio_authgrpc._http.sent import redacted_answer
from aio_authgrpc.errors import (
    AuthRpcError,
    ConfigurationError,
    TokenRefusedError,
    TokenUnavailableError,
)

# The beginning of a server's error page is enough for a message, and searching more of it for secrets would
# hold the loop.
_MAX_DESCRIPTION = 500
_MAX_SEARCHED = 2_000

# The words of the refusal, most specific first.
_HINTS = {
    "Invalid JWT Signature": "The key is not one of the account's: it may have been deleted or disabled. "
    "Create a new JSON key.",
    "iat and exp": "The assertion's times are refused: set this machine's clock.",
    "account not found": "The token endpoint does not know the account: check its email, and that it was not "
    "revoked or deleted.",
    "expired or revoked": "The refresh token is no longer good: log in again, for example with 'gcloud auth "
    "application-default login'.",
    "invalid_grant": "The assertion or the refresh token was refused: check that the key or the grant was "
    "not revoked, that the account exists, and that this machine's clock is right.",
    "invalid_scope": "Ask for scopes that exist, such as https://www.googleapis.com/auth/cloud-platform.",
    "unauthorized_client": "The account may not act for this subject or client: check the delegation.",
    "invalid_client": "The client id or its secret was refused: create the credentials anew.",
}
_ENDPOINT_FAILED = (
    "The token endpoint is out of reach or overloaded; a later call tries again. If it lasts, check its "
    "address, the network and HTTPS_PROXY."
)
_SOURCE_FAILED = "A later call asks the source again."


def token_error(error: BaseException, *, http_status: int | None = None) -> AuthRpcError:
    """Return the error of this package for what a token source raised, which becomes its `__cause__`.

    It has no frames: those of a request hold what was sent.
    """
    if isinstance(error, AuthRpcError) and not _shows_secret(error):
        if error.__cause__ is not None:
            error.__cause__ = _cause(error.__cause__, _describe(error.__cause__))
        return without_frames(error)
    description = _describe(error)
    text = f"{description} {_oauth_error(error)}"
    hint = next((hint for code, hint in _HINTS.items() if code in text), "")
    if isinstance(error, AuthRpcError):
        retryable = error.retryable
    elif http_status is None:
        retryable = _is_retryable(error)
    elif http_status == 200:
        # OK without a token: an error page of a proxy, or half an answer. But a refusal may come with 200.
        retryable = not hint and not isinstance(error, ConfigurationError)
    else:
        retryable = is_retryable_status(http_status)
    if retryable:
        translated: AuthRpcError = TokenUnavailableError(
            f"No token could be fetched: {description}",
            hint=_ENDPOINT_FAILED if http_status is not None or _is_of_http(error) else _SOURCE_FAILED,
        )
    else:
        translated = TokenRefusedError(f"No token could be fetched: {description}", hint=hint)
    translated.__cause__ = _cause(error, description)
    return translated


def is_retryable_status(status: int) -> bool:
    return status in (408, 429) or status >= 500


def _is_retryable(error: BaseException) -> bool:
    """Decide without a response. google-auth wraps transport errors, so the causes count too."""
    network = (google.auth.exceptions.TransportError, aiohttp.ClientError, OSError, TimeoutError)
    for link in chain_of(error):
        if isinstance(link, ConfigurationError):
            return False
        if isinstance(link, network) or (
            isinstance(link, google.auth.exceptions.GoogleAuthError) and link.retryable
        ):
            return True
    return False


def _is_of_http(error: BaseException) -> bool:
    kinds = (google.auth.exceptions.GoogleAuthError, aiohttp.ClientError)
    return any(isinstance(link, kinds) for link in chain_of(error))


def chain_of(error: BaseException) -> list[BaseException]:
    """Return the error and its causes, each once: `raise error from error` makes a ring."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _describe(error: BaseException) -> str:
    """Describe an error: google-auth's first argument is the message, the second the whole response."""
    message = str(error.args[0])[:_MAX_SEARCHED] if error.args else ""
    named = message if isinstance(error, google.auth.exceptions.GoogleAuthError) and message else None
    text = named or f"{type(error).__name__}: {message}".rstrip(": ")
    if code := re.fullmatch("([a-z_]+): None", text):  # google-auth formats a description that is not there
        return f"the token endpoint answered {code[1]!r}."
    return " ".join(redacted_answer(text).split())[:_MAX_DESCRIPTION]


def _oauth_error(error: BaseException) -> str:
    """Return the OAuth error code of the response that google-auth's errors carry; "" without one."""
    response = error.args[1] if len(error.args) > 1 else None
    code: object = cast("dict[str, object]", response).get("error") if isinstance(response, dict) else None
    return code if isinstance(code, str) else ""


def _cause(error: BaseException, description: str) -> BaseException:
    """Return the error itself, without frames, or its type and text where it, or a link, shows a secret."""
    if any(map(_shows_secret, links_of(error))):
        return google.auth.exceptions.GoogleAuthError(f"{type(error).__name__}: {description}")
    return without_frames(error)


def _shows_secret(error: BaseException) -> bool:
    shown = f"{error!r} {error} {getattr(error, '__notes__', '')}"
    holds_more = isinstance(error, UnicodeError)  # the whole text that could not be converted
    return holds_more or len(shown) > _MAX_SEARCHED or redacted_answer(shown) != shown
