"""google-auth's credentials as token sources: sync ones over the bridge, google.auth.aio natively."""

from __future__ import annotations

import copy
import datetime
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from aio_authgrpc._checks.frames import without_frames
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._http.bridge import ThreadRequest, bridge_to_thread
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._http.sent import remembering_what_is_sent
from aio_authgrpc._http.token_errors import token_error
from aio_authgrpc._loop.threads import import_off_loop, run_in_thread
from aio_authgrpc._sources.credential_urls import check_urls
from aio_authgrpc._sources.google_auth_gaps import (
    ALLOWED_LOCATIONS,
    GOOGLE_APIS,
    for_audience,
    is_google_api,
    is_of,
    look_up_allowed_locations,
    refresh,
    thread_request,
)
from aio_authgrpc._sources.logins import lock_of, newest_refresh_token
from aio_authgrpc._tokens.source import CacheKey, TokenRequest
from aio_authgrpc._tokens.token import Token, is_token_text
from aio_authgrpc.errors import AuthGrpcError, ConfigurationError, TokenRefusedError

if TYPE_CHECKING:
    from google.auth.aio.credentials import Credentials as AioCredentials
    from google.auth.credentials import Credentials

T = TypeVar("T")

GOOGLE_AUTH = "google.auth.credentials"
GOOGLE_AUTH_AIO = "google.auth.aio.credentials"
# Servers behind changing addresses are new audiences each time; what was made for the old ones holds a token.
_MOST_AUDIENCES = 128


class GoogleCredentialsSource(NotPickled):
    """A credential of google-auth's, refreshed in a worker thread over the aiohttp session.

    A token that the credential already has is used without a request, unless it is the one to replace.
    Else the object is refreshed in place, as google-auth does it; where its tokens are for one audience,
    a copy for each is kept here. With `sign_without_scopes` a service account without scopes signs a JWT
    for `https://<host>/` (https://google.aip.dev/auth/4111), as google-auth's plugin does.
    """

    def __init__(self, credentials: Credentials, *, sign_without_scopes: bool = True) -> None:
        self.credentials = credentials
        check_urls(credentials)
        self._is_for_one = sign_without_scopes and for_audience(credentials, "https://any") is not None
        self._of_audience: OrderedDict[str, Credentials] = OrderedDict()

    def cache_key(self, audience: str) -> CacheKey:
        if not self._is_for_one:
            audience = GOOGLE_APIS if is_google_api(audience) else ""
        return CacheKey(self.credentials, audience)

    async def load(self, request: TokenRequest) -> None:
        if self._is_for_one:
            checked_audience(request)

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the credential's token, refreshed if need be. Cancelling it abandons the thread."""
        await self.load(request)
        credentials = self._credentials_for(request.audience)
        return await token_of(credentials, request, await thread_request(credentials, request.http))

    def current_token(self, request: TokenRequest) -> Token | None:
        """Return the token that the credential has, if it can be used."""
        return held_token(self._credentials_for(request.audience), request)

    def _credentials_for(self, audience: str) -> Credentials:
        if not self._is_for_one:
            return self.credentials
        credentials = self.credentials
        made = self._of_audience.get(audience) or for_audience(credentials, audience) or credentials
        return remembered(self._of_audience, audience, made)

    def __repr__(self) -> str:
        return f"<GoogleCredentialsSource of {type(self.credentials).__name__}>"


class LazyCredentialsSource(NotPickled):
    """What the functions for Google's credentials return: makes its credential once, at the first need.

    One object may serve any number of channels. Those with the same audience share one cached token, and
    so do all where the token is good for every audience.

    Args:
        name: Its `repr`.
        make: Makes the credential; its blocking parts run in a worker thread.
    """

    def __init__(self, name: str, make: Callable[[TokenRequest], Awaitable[GoogleCredentialsSource]]) -> None:
        self._name = name
        self._make = make
        self._made: GoogleCredentialsSource | None = None
        self._failures = 0
        self._last_failure: AuthGrpcError | None = None

    def cache_key(self, audience: str) -> CacheKey:
        """Return the key of the tokens. Its owner must not change when the credential is made."""
        return CacheKey(self, audience if self._made is None else self._made.cache_key(audience).audience)

    async def google_credentials(self, request: TokenRequest) -> Credentials:
        """Return google-auth's credential, made at the first call."""
        return (await self._source(request)).credentials

    async def load(self, request: TokenRequest) -> None:
        """Read and check what the credential is made of. Cancelling it leaves nothing behind."""
        await (await self._source(request)).load(request)

    async def fetch(self, request: TokenRequest) -> Token:
        """Return the credential's token, refreshed if need be."""
        return await (await self._source(request)).fetch(request)

    def current_token(self, request: TokenRequest) -> Token | None:
        """Return the token that the credential has, if it can be used."""
        return None if self._made is None else self._made.current_token(request)

    async def _source(self, request: TokenRequest) -> GoogleCredentialsSource:
        failures = self._failures
        if request.http.closed:  # this caller's own mistake, which the others must not be told
            raise ConfigurationError(
                "it was closed.", field="request", hint="Close it after the channels that use it."
            )
        async with lock_of(self).held():
            if self._made is not None:
                return self._made
            if self._last_failure is not None and self._failures > failures:
                failure = copy.copy(self._last_failure)  # of the attempt that this call waited for
                raise failure from self._last_failure.__cause__
            try:
                self._made = await self._make(request)
            except AuthGrpcError as error:
                self._failures += 1
                self._last_failure = copy.copy(error)  # without the traceback
                self._last_failure.__cause__ = error.__cause__
                raise
            return self._made

    def __repr__(self) -> str:
        return self._name


class GoogleAioCredentialsSource(NotPickled):
    """A credential of google.auth.aio, awaited on the loop.

    It is a static one, or a subclass with a `refresh`, which is called again once its `expiry` (naive UTC,
    as in google-auth) has come.
    """

    def __init__(self, credentials: AioCredentials) -> None:
        self.credentials = credentials
        check_urls(credentials)

    def cache_key(self, audience: str) -> CacheKey:
        return CacheKey(self.credentials, audience)

    async def fetch(self, request: TokenRequest) -> Token:
        async with lock_of(self.credentials).held():
            return await self._fetch(request)

    async def _fetch(self, request: TokenRequest) -> Token:
        credentials: Any = self.credentials
        expiry = self._expiry()
        outdated = expiry is not None and _timestamp(expiry) <= request.time
        unwanted = None if request.unwanted is None else request.unwanted.value
        if outdated or credentials.token == unwanted or not _is_usable(credentials.token):
            await self._refresh(request.http)
        headers: dict[str, str] = {}
        await credentials.apply(headers)
        return _token_from(headers, self._expiry(), request.audience)

    def _expiry(self) -> datetime.datetime | None:
        expiry: object = getattr(self.credentials, "expiry", None)
        return expiry if isinstance(expiry, datetime.datetime) else None

    async def _refresh(self, http: AiohttpRequest) -> None:
        if is_of(self.credentials, GOOGLE_AUTH_AIO, "StaticCredentials"):
            return  # its one token cannot be replaced
        await import_off_loop("aio_authgrpc._http.aio_request")
        from aio_authgrpc._http.aio_request import AioRequest  # noqa: PLC0415 - loaded off the loop

        await self.credentials.refresh(AioRequest(http))

    def __repr__(self) -> str:
        return f"<GoogleAioCredentialsSource of {type(self.credentials).__name__}>"


def remembered(of_audience: OrderedDict[str, T], audience: str, made: T) -> T:
    """Keep what was made for an audience, and forget what was made first for one of too many others."""
    of_audience[audience] = made
    while len(of_audience) > _MOST_AUDIENCES:
        of_audience.popitem(last=False)
    return made


def checked_audience(request: TokenRequest, given: str | None = None) -> str:
    """Return the audience that the user named, or the target's, which is empty for one without a host."""
    audience = request.audience if given is None else given
    if not audience:
        raise ConfigurationError(
            "the target has no host to make one from.", field="audience", hint="Pass audience='https://...'."
        )
    return audience


async def over_bridge(
    function: Callable[[], T],
    http: ThreadRequest,
    run: Callable[[Callable[[], T]], Awaitable[T]] = run_in_thread,
) -> T:
    """Run a blocking function of google-auth's; translate its errors with the endpoint's status in view."""
    with remembering_what_is_sent():
        try:
            return await bridge_to_thread(function, http, run)
        except ConfigurationError as error:
            without_frames(error)
            raise
        except Exception as error:  # noqa: BLE001 - third parties' credentials raise anything
            translated = token_error(error, http_status=http.status)
    raise translated  # outside of the handler: the original may show a secret, and must not be the context


async def token_of(credentials: Credentials, request: TokenRequest, http: ThreadRequest) -> Token:
    """Return the credential's own token, refreshed if need be, while nothing else touches the credential."""
    had: object = credentials.token
    lock = lock_of(credentials)
    return await over_bridge(
        lambda: blocking_token(credentials, request, http, had), http, lock.run_in_thread
    )


def blocking_token(
    credentials: Credentials, request: TokenRequest, http: ThreadRequest, had: object = None
) -> Token:
    """Return the credential's own token if it is good and not the one to replace, else a new one.

    Another token than the credential `had` before its lock was free is as good as new. Needs the lock.
    """
    if _needs_refresh(credentials, request.unwanted, had):
        with newest_refresh_token(credentials):
            refresh(credentials, http)
    look_up_allowed_locations(credentials, http, request.audience)
    return _own_token(credentials, credentials.expiry, request)


def held_token(credentials: Credentials, request: TokenRequest) -> Token | None:
    """Return the credential's own token if it can be used, although it may be due. Sends nothing."""
    from google.auth.credentials import TokenState  # noqa: PLC0415 - it is loaded

    expiry = credentials.expiry  # before the token: a refresh in another thread sets the token first
    if expiry is None or credentials.token_state is TokenState.INVALID:
        return None
    return _own_token(credentials, expiry, request)


def _needs_refresh(credentials: Any, unwanted: Token | None, had: object) -> bool:
    from google.auth.credentials import TokenState  # noqa: PLC0415 - it is loaded

    token = credentials.token.decode() if isinstance(credentials.token, bytes) else credentials.token
    if not _is_usable(token) or (unwanted is not None and token == unwanted.value):
        return True
    if credentials.token != had:
        return credentials.token_state is TokenState.INVALID
    # A user's with_quota_project() keeps the token and drops its expiry: it may be over.
    lost_its_expiry = credentials.expiry is None and getattr(credentials, "refresh_token", None) is not None
    return lost_its_expiry or credentials.token_state is not TokenState.FRESH


def _is_usable(token: object) -> bool:
    """Return whether a header can carry a credential's token. google-auth keeps what an endpoint sent."""
    return bool(token) and is_token_text(token)


def _own_token(credentials: Credentials, expiry: datetime.datetime | None, request: TokenRequest) -> Token:
    headers: dict[str, str] = {}
    credentials.apply(headers)
    return _token_from(headers, expiry, request.audience)


def _token_from(headers: dict[str, str], expiry: datetime.datetime | None, audience: str) -> Token:
    """Make a token of the headers that `apply` wrote; an API key's credential writes no `authorization`."""
    headers = {name.lower(): value for name, value in headers.items()}
    if not is_google_api(audience):  # the credential knows its boundary once any channel has asked for it
        headers.pop(ALLOWED_LOCATIONS, None)
    # At the first blank: a token with a blank must be refused, not shown as a scheme.
    scheme, blank, value = headers.pop("authorization", "").partition(" ")
    if not blank:
        scheme, value = "", scheme
    if not is_token_text(value):
        raise TokenRefusedError(
            "The token that was issued holds a blank, or another character that a header cannot carry.",
            hint="It is the token endpoint that sends it so.",
        )
    return Token(
        value,
        scheme=scheme,
        expires_at=None if expiry is None else _timestamp(expiry),
        metadata=tuple(headers.items()),
    )


def _timestamp(expiry: datetime.datetime) -> float:
    """Return the Unix time of google-auth's expiry, a naive UTC datetime."""
    return (expiry if expiry.tzinfo else expiry.replace(tzinfo=datetime.UTC)).timestamp()
