"""Any google-auth credential as a token source: sync ones over the bridge, google.auth.aio natively."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.pickling import NotPickled
from aio_authgrpc._http.bridge import bridge_to_thread
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._http.token_errors import token_error
from aio_authgrpc._loop.threads import import_off_loop
from aio_authgrpc._sources import google_auth_gaps as corrections
from aio_authgrpc._tokens.metadata import is_metadata_text
from aio_authgrpc._tokens.source import CacheKey, TokenRequest
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import ConfigurationError

if TYPE_CHECKING:
    import google.auth.aio.credentials
    import google.auth.credentials


class GoogleCredentialsSource(NotPickled):
    """A `google.auth.credentials.Credentials`, refreshed in a worker thread over the aiohttp session.

    A token that the credential already has is used without a request, unless it is the one to replace.
    The object is otherwise refreshed in place, as google-auth does it; where its tokens are for one
    audience, a copy for each is kept here.

    Args:
        credentials: Any of google-auth's; it stays the caller's.
        sign_without_scopes: Whether a service account without scopes signs a JWT for `https://<host>/`
            (https://google.aip.dev/auth/4111), as google-auth's plugin does where it is told the host.
    """

    def __init__(
        self, credentials: google.auth.credentials.Credentials, *, sign_without_scopes: bool = True
    ) -> None:
        self.credentials = credentials
        self._is_for_one = sign_without_scopes and corrections.needs_audience(credentials)
        self._of_audience: dict[str, google.auth.credentials.Credentials] = {}

    def cache_key(self, audience: str) -> CacheKey:
        """Return the key of the tokens: the credential's, for one audience or for many."""
        if not self._is_for_one:
            audience = corrections.GOOGLE_APIS if corrections.is_google_api(audience) else ""
        return CacheKey(self.credentials, audience)

    async def load(self, request: TokenRequest) -> None:
        """Check that there is an audience, where the credential's tokens are for one.

        Raises:
            ConfigurationError: The target has no host name, and no audience was given.
        """
        if self._is_for_one:
            check_audience(request.audience)

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the credential's token, refreshed if need be. Cancelling it abandons the thread."""
        await self.load(request)
        audience = request.audience
        credentials = self._copy_for(audience) if self._is_for_one else self.credentials
        return await obtain_token(credentials, request)

    def _copy_for(self, audience: str) -> google.auth.credentials.Credentials:
        if audience not in self._of_audience:
            made = corrections.for_audience(self.credentials, audience)
            assert made is not None, "__init__ found that there is one"
            self._of_audience[audience] = made
        return self._of_audience[audience]

    def __repr__(self) -> str:
        return f"<GoogleCredentialsSource of {type(self.credentials).__name__}>"


class GoogleAioCredentialsSource(NotPickled):
    """A `google.auth.aio.credentials.Credentials`, awaited on the loop.

    Args:
        credentials: A static or anonymous one of google.auth.aio, or a subclass with a `refresh`; one
            that has an `expiry` (naive UTC, as in google-auth) is refreshed when that has come.
    """

    def __init__(self, credentials: google.auth.aio.credentials.Credentials) -> None:
        self.credentials = credentials

    def cache_key(self, audience: str) -> CacheKey:
        """Return the key of the tokens: the credential's, for each audience."""
        return CacheKey(self.credentials, audience)

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the credential's token, refreshed if it has none that was not used yet."""
        from google.auth.aio.credentials import AnonymousCredentials  # noqa: PLC0415 - it is loaded

        credentials = self.credentials
        if isinstance(credentials, AnonymousCredentials):
            return Token("")
        expiry = self._expiry()
        outdated = expiry is not None and _timestamp(expiry) <= request.time
        unwanted = None if request.unwanted is None else request.unwanted.value
        if credentials.token is None or credentials.token == unwanted or outdated:
            await self._refresh(request.http)
        headers: dict[str, str] = {}
        await credentials.apply(headers)
        return _token_from(headers, self._expiry())

    def _expiry(self) -> datetime.datetime | None:
        expiry: object = getattr(self.credentials, "expiry", None)
        return expiry if isinstance(expiry, datetime.datetime) else None

    async def _refresh(self, http: AiohttpRequest) -> None:
        from google.auth.aio.credentials import StaticCredentials  # noqa: PLC0415 - it is loaded

        if isinstance(self.credentials, StaticCredentials):
            return  # it has the one token and no other
        await import_off_loop("google.auth.aio.transport.aiohttp")
        from google.auth.aio.transport import aiohttp as transport  # noqa: PLC0415 - loaded off the loop

        await self.credentials.refresh(transport.Request(http.session()))

    def __repr__(self) -> str:
        return f"<GoogleAioCredentialsSource of {type(self.credentials).__name__}>"


def is_google_credentials(given: object, module: str = "google.auth.credentials") -> bool:
    """Whether it is a `Credentials` of the module; whoever has one has imported that."""
    return module in sys.modules and isinstance(given, sys.modules[module].Credentials)


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


def checked_quota_project(quota_project_id: str | None) -> str | None:
    """Return a quota project.

    Raises:
        ConfigurationError: It is no text that metadata can carry.
    """
    check_type("quota_project_id", quota_project_id, str, type(None))
    if quota_project_id is not None and (not quota_project_id or not is_metadata_text(quota_project_id)):
        raise ConfigurationError("it is empty, or not printable ASCII text.", field="quota_project_id")
    return quota_project_id


def check_audience(audience: str) -> None:
    """Refuse to make a token for nobody.

    Raises:
        ConfigurationError: There is no audience: the target has no host name.
    """
    if not audience:
        raise ConfigurationError(
            "the target has no host to make one from.", field="audience", hint="Pass audience='https://...'."
        )


async def obtain_token(credentials: google.auth.credentials.Credentials, request: TokenRequest) -> Token:
    """Return the token that a credential has, if it is good and not the one to replace, or a new one.

    All of it happens in a worker thread, the HTTP on the loop. Cancelling it abandons the thread.

    Raises:
        AuthRpcError: What google-auth raised, translated with the endpoint's last status in view.
    """
    sender = await corrections.thread_request(credentials, request.http)

    def obtain() -> Token:
        if _needs_refresh(credentials, request.unwanted):
            corrections.refresh(credentials, sender)
        corrections.look_up_allowed_locations(credentials, sender, request.audience)
        headers: dict[str, str] = {}
        credentials.apply(headers)
        return _token_from(headers, credentials.expiry)

    try:
        return await bridge_to_thread(obtain, sender)
    except Exception as error:  # noqa: BLE001 - third parties' credentials raise anything
        translated = token_error(error, http_status=sender.status)
    raise translated  # outside of the handler: the original, which may show a secret, is no context


def _needs_refresh(credentials: Any, unwanted: Token | None) -> bool:
    from google.auth.credentials import AnonymousCredentials, TokenState  # noqa: PLC0415 - it is loaded

    if isinstance(credentials, AnonymousCredentials):
        return False
    if credentials.token is None or (unwanted is not None and _text(credentials.token) == unwanted.value):
        return True
    # A user's with_quota_project() keeps the token and drops its expiry: it may be over.
    lost_its_expiry = credentials.expiry is None and getattr(credentials, "refresh_token", None) is not None
    return lost_its_expiry or credentials.token_state is not TokenState.FRESH


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
