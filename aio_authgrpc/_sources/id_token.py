"""ID tokens: who the caller is, signed by Google, for one audience (seed 002, AIP-4116)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from aio_authgrpc._checks.arguments import check_optional_text, check_type
from aio_authgrpc._checks.values import NotPickled
from aio_authgrpc._http.bridge import ThreadRequest
from aio_authgrpc._sources import google_auth
from aio_authgrpc._sources.credential_urls import check_urls
from aio_authgrpc._sources.default import default
from aio_authgrpc._sources.files.kind import IdTokenRequest
from aio_authgrpc._sources.google_auth import GOOGLE_AUTH, LazyCredentialsSource, over_bridge
from aio_authgrpc._sources.google_auth_gaps import is_of
from aio_authgrpc._sources.logins import lock_of
from aio_authgrpc._tokens.source import CacheKey, TokenRequest
from aio_authgrpc._tokens.token import Token
from aio_authgrpc.errors import ConfigurationError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    IdTokenCredentials = Credentials | LazyCredentialsSource | None
    """What `id_token(credentials=)` takes: google-auth's, a source of this package for one, or None."""
else:
    IdTokenCredentials = object


class IdTokenSource(NotPickled):
    """What `id_token()` returns."""

    def __init__(
        self,
        audience: str | None,
        credentials: Credentials | LazyCredentialsSource,
        make: Callable[[Any, IdTokenRequest], Any],
    ) -> None:
        self._audience = audience
        self._credentials = credentials
        self._make = make
        self._of_audience: OrderedDict[str, Any] = OrderedDict()

    def cache_key(self, audience: str) -> CacheKey:
        """Return the key of the tokens: a given audience stands in place of the target's."""
        return CacheKey(self, audience if self._audience is None else "")

    async def load(self, request: TokenRequest) -> None:
        """Make the credential for the ID tokens, or raise as `default()` does. No token is asked for."""
        wanted = self._wanted(request)
        if wanted.audience not in self._of_audience:
            own = await self._own_credentials(request)
            # Without its lock: opening a channel does not wait for the refresh of another.
            await over_bridge(lambda: self._made(own, wanted), wanted.http)

    async def fetch(self, request: TokenRequest) -> Token:
        """Return an ID token, which is good until its own `exp`. Cancelling it abandons the thread."""
        wanted, own = self._wanted(request), await self._own_credentials(request)
        made = self._of_audience.get(wanted.audience)
        if made is not None:
            return await google_auth.token_of(made, request, wanted.http)

        def obtain() -> Token:
            return google_auth.blocking_token(self._made(own, wanted), request, wanted.http)

        return await over_bridge(obtain, wanted.http, lock_of(own).run_in_thread)

    def current_token(self, request: TokenRequest) -> Token | None:
        """Return the ID token of an earlier request, if it can still be used."""
        made = self._of_audience.get(self._wanted(request).audience)
        return None if made is None else google_auth.held_token(made, request)

    async def google_credentials(self, request: TokenRequest) -> tuple[Credentials, Any]:
        """Return google-auth's credential of the identity, and the one for its ID tokens."""
        await self.load(request)
        return await self._own_credentials(request), self._of_audience[self._wanted(request).audience]

    def _wanted(self, request: TokenRequest) -> IdTokenRequest:
        return IdTokenRequest(
            audience=google_auth.checked_audience(request, self._audience),
            audience_is_given=self._audience is not None,
            http=ThreadRequest(request.http),
        )

    async def _own_credentials(self, request: TokenRequest) -> Credentials:
        given = self._credentials
        return await given.google_credentials(request) if isinstance(given, LazyCredentialsSource) else given

    def _made(self, own: Credentials, wanted: IdTokenRequest) -> Any:
        """Return the credential of an audience, in a worker thread; made once for each of the last ones."""
        made = self._of_audience.get(wanted.audience) or self._make(own, wanted)
        return google_auth.remembered(self._of_audience, wanted.audience, made)

    def __repr__(self) -> str:
        return f"id_token({'' if self._audience is None else repr(self._audience)})"


def id_token(
    audience: str | None = None,
    *,
    credentials: IdTokenCredentials = None,
    target_principal: str | None = None,
    delegates: Sequence[str] = (),
    self_signed: bool = False,
) -> IdTokenSource:
    """Prove who the caller is, to Cloud Run, Cloud Functions, IAP and others that take Google's ID tokens.

    Unlike google-auth's `fetch_id_token`, it also knows gcloud's login, external accounts and
    impersonation, and never becomes the machine's identity where another was meant.

    Args:
        audience: For whom the token is: `https://<host>` of the target if None (port 443 dropped,
            another kept), the OAuth client's id for IAP, or a custom audience of the service. If None,
            google-auth's credentials for ID tokens keep the audience that they have.
        credentials: Whose token it is: a google-auth credential, or what `service_account()`,
            `external_account()`, … return. None looks for the default ones (see `default()`).
        target_principal: The email of a service account to impersonate, whose ID tokens the identity
            may create (`roles/iam.serviceAccountOpenIdTokenCreator`). For users this is the only way
            to choose the audience: their own token is for the client that they logged in with.
        delegates: The chain of service accounts between the two, if any.
        self_signed: Let a service account sign the token with its own key, without a request; for IAP
            and others that take such JWTs. Cloud Run does not.

    Raises:
        ConfigurationError: An argument has the wrong type, or two exclude each other. An identity
            without ID tokens is refused when the channel is opened.
    """
    for field, value in (("audience", audience), ("target_principal", target_principal)):
        check_optional_text(field, value)
    check_type("self_signed", self_signed, bool)
    check_type("delegates", delegates, list, tuple)
    given: object = default() if credentials is None else credentials
    if not isinstance(given, LazyCredentialsSource) and not is_of(given, GOOGLE_AUTH):
        raise ConfigurationError(
            f"expected a google-auth credential or a source for one, not {type(given).__name__}.",
            field="credentials",
            hint="Pass service_account(...), say; None means default().",
        )
    check_urls(given)
    if self_signed and target_principal is not None:
        raise ConfigurationError(
            "it cannot be used with target_principal.", field="self_signed", hint="Leave one of them out."
        )
    if delegates and target_principal is None:
        raise ConfigurationError(
            "they need a target_principal.", field="delegates", hint="Pass target_principal='<its email>'."
        )
    chain = tuple(delegates)

    def make(own: Any, wanted: IdTokenRequest) -> Any:
        from aio_authgrpc._sources import id_token_credentials as made  # noqa: PLC0415 - in a worker thread

        if target_principal is not None:
            return made.principals_id_token(own, wanted, target_principal, chain)
        return (
            made.self_signed_id_token(own, wanted) if self_signed else made.id_token_credentials(own, wanted)
        )

    return IdTokenSource(audience, cast("Credentials | LazyCredentialsSource", given), make)
