"""Any google-auth credential as a token source: sync ones over the bridge, google.auth.aio natively."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from aio_authgrpc.errors import ConfigurationError, token_error
from aio_authgrpc.http import AiohttpRequest, ThreadRequest, bridge_to_thread, import_off_loop
from aio_authgrpc.token import Token, TokenRequest

if TYPE_CHECKING:
    import google.auth.aio.credentials
    import google.auth.credentials


class GoogleCredentialsSource:
    """A `google.auth.credentials.Credentials`, refreshed in a worker thread over the aiohttp session.

    A token that the credential already has, and that this source has not handed out, is used without
    a request. The object is otherwise refreshed in place, as google-auth does it.

    A service account without scopes gets no token from Google's endpoint; a JWT for `https://<host>/`
    is signed instead (https://google.aip.dev/auth/4111, as google-auth's plugin does where it is told
    the host), by a credential of this source's own for each audience.

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
        self._handed_out: dict[str, str] = {}

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the credential's token, refreshed if need be. Cancelling it abandons the thread."""
        credentials = self._for_audience(request.audience)
        if self._needs_refresh(credentials, request.audience):
            await refresh(credentials, request.http)
        token = _token_of(credentials)
        self._handed_out[request.audience] = token.value
        return token

    def _needs_refresh(self, credentials: google.auth.credentials.Credentials, audience: str) -> bool:
        from google.auth.credentials import AnonymousCredentials, TokenState  # noqa: PLC0415 - it is loaded

        if isinstance(credentials, AnonymousCredentials):
            return False
        if credentials.token is None or _text(credentials.token) == self._handed_out.get(audience):
            return True
        return credentials.token_state is not TokenState.FRESH

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
        # Who acts for another (google-auth has no public name for the subject) has to ask the endpoint.
        acts_for_another = getattr(credentials, "_subject", None) is not None
        if credentials.scopes or credentials.default_scopes or acts_for_another:
            return credentials
        if audience not in self._signing:
            from google.auth import jwt  # noqa: PLC0415 - service_account has loaded it

            self._signing[audience] = jwt.Credentials.from_signing_credentials(
                credentials, f"{audience}/", quota_project_id=credentials.quota_project_id
            )
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
        from google.auth.aio.credentials import AnonymousCredentials  # noqa: PLC0415 - it is loaded

        credentials = self._credentials
        if isinstance(credentials, AnonymousCredentials):
            return Token("")
        expiry = self._expiry()
        outdated = expiry is not None and _timestamp(expiry) <= request.time
        if credentials.token is None or credentials.token == self._handed_out or outdated:
            await self._refresh(request.http)
        headers: dict[str, str] = {}
        await credentials.apply(headers)
        token = _token_from(headers, self._expiry())
        self._handed_out = token.value
        return token

    def _expiry(self) -> datetime.datetime | None:
        expiry: object = getattr(self._credentials, "expiry", None)
        return expiry if isinstance(expiry, datetime.datetime) else None

    async def _refresh(self, http: AiohttpRequest) -> None:
        from google.auth.aio.credentials import StaticCredentials  # noqa: PLC0415 - it is loaded

        if isinstance(self._credentials, StaticCredentials):
            return  # it has the one token and no other
        await import_off_loop("google.auth.aio.transport.aiohttp")
        from google.auth.aio.transport import aiohttp as transport  # noqa: PLC0415 - loaded off the loop

        await self._credentials.refresh(transport.Request(http.session()))

    def __repr__(self) -> str:
        return f"<GoogleAioCredentialsSource of {type(self._credentials).__name__}>"


def checked_scopes(scopes: Sequence[str] | None) -> tuple[str, ...]:
    """Return scopes as a tuple.

    Raises:
        ConfigurationError: They are one str, which would be taken letter by letter, or no str at all.
    """
    given: object = scopes
    if isinstance(given, str):
        raise ConfigurationError(
            "expected a list of str, not one str.", field="scopes", hint=f"Write [{given!r}]."
        )
    if not isinstance(given, Sequence | None) or not all(isinstance(scope, str) for scope in given or ()):
        raise ConfigurationError("expected a list of str.", field="scopes")
    return tuple(scopes or ())


async def refresh(credentials: google.auth.credentials.Credentials, http: AiohttpRequest) -> None:
    """Call `credentials.refresh` in a worker thread, its HTTP on the loop.

    Raises:
        AuthRpcError: What google-auth raised, translated with the endpoint's last status in view.
    """
    request = await _thread_request(credentials, http)
    untyped_credentials: Any = credentials
    try:
        await bridge_to_thread(partial(untyped_credentials.refresh, request), request)
        return
    except Exception as error:  # noqa: BLE001 - third parties' credentials raise anything
        translated = token_error(error, http_status=request.status)
    raise translated  # outside of the handler: the original, which may show a secret, is no context


async def _thread_request(
    credentials: google.auth.credentials.Credentials, http: AiohttpRequest
) -> ThreadRequest:
    """Return the request for a refresh; GDCH's insists on a `google.auth.transport.requests.Request`."""
    if type(credentials).__module__ != "google.oauth2.gdch_credentials":
        return ThreadRequest(http)
    await import_off_loop("google.auth.transport.requests")
    from google.auth.transport import requests  # noqa: PLC0415 - 100 ms, loaded off the loop

    # Without that class's __init__ and __del__, which make and close a session of requests.
    class GdchRequest(ThreadRequest, requests.Request):
        def __del__(self) -> None:
            pass

    return GdchRequest(http)


def _token_of(credentials: google.auth.credentials.Credentials) -> Token:
    headers: dict[str, str] = {}
    credentials.apply(headers)
    return _token_from(headers, credentials.expiry)


def _token_from(headers: dict[str, str], expiry: datetime.datetime | None) -> Token:
    """Make a token of what `apply` put into the headers.

    An API key, and an anonymous credential, put nothing into `authorization`: then the rest is all.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    scheme, _, value = headers.pop("authorization", "").rpartition(" ")
    return Token(
        value,
        scheme=scheme,
        expires_at=None if expiry is None else _timestamp(expiry),
        metadata=tuple(headers.items()),
    )


def _timestamp(expiry: datetime.datetime) -> float:
    """google-auth's expiry is UTC without saying so."""
    return (expiry if expiry.tzinfo else expiry.replace(tzinfo=datetime.UTC)).timestamp()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
