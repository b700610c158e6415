"""Any google-auth credential as a token source: sync ones over the bridge, google.auth.aio natively."""

from __future__ import annotations

import datetime
import sys
from functools import partial
from typing import Any

import google.auth.aio.credentials
import google.auth.credentials
import google.auth.transport
from google.auth.credentials import TokenState as GoogleTokenState

from aio_authgrpc.errors import token_error
from aio_authgrpc.http import AiohttpRequest, HttpResponse, bridge_to_thread, import_off_loop
from aio_authgrpc.token import Token, TokenRequest


class GoogleCredentialsSource:
    """A `google.auth.credentials.Credentials`, refreshed in a worker thread over the aiohttp session.

    A token that the credential already has, and that this source has not handed out, is used without
    a request. The object is otherwise refreshed in place, as google-auth does it.

    A service account without scopes gets no token from Google's endpoint; as google-auth's plugin
    does (https://google.aip.dev/auth/4111), a JWT for `https://<host>/` is signed instead, by a
    credential of this source's own for each audience.

    Args:
        credentials: Any of google-auth's; it stays the caller's.
        sign_without_scopes: Whether a service account without scopes signs, as said above.
    """

    def __init__(
        self, credentials: google.auth.credentials.Credentials, *, sign_without_scopes: bool = True
    ) -> None:
        self._credentials = credentials
        self._sign_without_scopes = sign_without_scopes
        self._signing: dict[str, google.auth.credentials.Credentials] = {}
        self._handed_out: str | None = None

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the credential's token, refreshed if need be. Cancelling it abandons the thread."""
        credentials = self._for_audience(request.audience)
        if self._needs_refresh(credentials):
            await refresh(credentials, request.http)
        token = _token_of(credentials)
        self._handed_out = token.value
        return token

    def _needs_refresh(self, credentials: google.auth.credentials.Credentials) -> bool:
        if isinstance(credentials, google.auth.credentials.AnonymousCredentials):
            return False
        if credentials.token is None or _text(credentials.token) == self._handed_out:
            return True
        return credentials.token_state is not GoogleTokenState.FRESH

    def _for_audience(self, audience: str) -> google.auth.credentials.Credentials:
        credentials = self._credentials
        if not (audience and self._sign_without_scopes):
            return credentials
        # Not imported for this: whoever has such a credential has imported its module.
        if "google.oauth2.service_account" not in sys.modules:
            return credentials
        from google.oauth2 import service_account  # noqa: PLC0415 - see above

        if not isinstance(credentials, service_account.Credentials):
            return credentials
        if credentials.scopes or credentials.default_scopes:
            return credentials
        if audience not in self._signing:
            from google.auth import jwt  # noqa: PLC0415 - service_account has loaded it

            self._signing[audience] = jwt.Credentials.from_signing_credentials(credentials, f"{audience}/")
        return self._signing[audience]

    def __repr__(self) -> str:
        return f"<GoogleCredentialsSource of {type(self._credentials).__name__}>"


class GoogleAioCredentialsSource:
    """A `google.auth.aio.credentials.Credentials`, awaited on the loop.

    Args:
        credentials: A static or anonymous one of google.auth.aio, or a subclass with a `refresh`; one
            that has an `expiry` (naive UTC, as in google-auth) is refreshed when that has come.
    """

    def __init__(self, credentials: google.auth.aio.credentials.Credentials) -> None:
        self._credentials = credentials
        self._handed_out: str | None = None

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the credential's token, refreshed if it has none that was not used yet."""
        credentials = self._credentials
        if isinstance(credentials, google.auth.aio.credentials.AnonymousCredentials):
            return Token("")
        expiry = self._expiry()
        outdated = expiry is not None and _timestamp(expiry) <= request.time
        if credentials.token is None or credentials.token == self._handed_out or outdated:
            await self._refresh(request.http)
        headers: dict[str, str] = {}
        await credentials.apply(headers)
        token = _token_from(headers, credentials.token, self._expiry())
        self._handed_out = token.value
        return token

    def _expiry(self) -> datetime.datetime | None:
        expiry: object = getattr(self._credentials, "expiry", None)
        return expiry if isinstance(expiry, datetime.datetime) else None

    async def _refresh(self, http: AiohttpRequest) -> None:
        if isinstance(self._credentials, google.auth.aio.credentials.StaticCredentials):
            return  # it has the one token and no other
        await import_off_loop("google.auth.aio.transport.aiohttp")
        from google.auth.aio.transport import aiohttp as transport  # noqa: PLC0415 - loaded off the loop

        await self._credentials.refresh(transport.Request(http.session()))

    def __repr__(self) -> str:
        return f"<GoogleAioCredentialsSource of {type(self._credentials).__name__}>"


async def refresh(credentials: google.auth.credentials.Credentials, http: AiohttpRequest) -> None:
    """Call `credentials.refresh` in a worker thread, its HTTP on the loop.

    Raises:
        AuthRpcError: What google-auth raised, translated with the endpoint's last status in view.
    """
    observed = _ObservedRequest(http)
    try:
        untyped_credentials: Any = credentials
        await bridge_to_thread(partial(untyped_credentials.refresh, observed), http)
    except Exception as error:
        raise token_error(error, http_status=observed.status) from error


class _ObservedRequest(google.auth.transport.Request):
    """Passes requests on and remembers the last status, which google-auth's exceptions do not tell."""

    def __init__(self, request: AiohttpRequest) -> None:
        self._request = request
        self.status: int | None = None

    def __call__(self, *args: object, **kwargs: object) -> HttpResponse:
        self.status = None  # no response is no status, whatever came before
        response = self._request(*args, **kwargs)  # type: ignore[arg-type]  # google-auth's own arguments
        self.status = response.status
        return response

    def __deepcopy__(self, memo: object) -> _ObservedRequest:
        return self


def _token_of(credentials: google.auth.credentials.Credentials) -> Token:
    headers: dict[str, str] = {}
    credentials.apply(headers)
    return _token_from(headers, credentials.token, credentials.expiry)


def _token_from(
    headers: dict[str, str], value: str | bytes | None, expiry: datetime.datetime | None
) -> Token:
    """Make a token of what `apply` put into the headers.

    An API key, and an anonymous credential, put nothing into `authorization`: then the rest is all.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    bearer = headers.pop("authorization", None)
    return Token(
        _text(value) if bearer is not None and value else "",
        expires_at=None if expiry is None else _timestamp(expiry),
        metadata=tuple(headers.items()),
    )


def _timestamp(expiry: datetime.datetime) -> float:
    """google-auth's expiry is UTC without saying so."""
    return (expiry if expiry.tzinfo else expiry.replace(tzinfo=datetime.UTC)).timestamp()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
