"""From an identity's credential to the one for its ID tokens. Imported in a worker thread."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import Any

import google.auth.credentials
from google.auth import crypt, iam, impersonated_credentials, jwt

from aio_authgrpc._http.bridge import ThreadRequest
from aio_authgrpc._sources.compute_engine import compute_engine_id_token
from aio_authgrpc._sources.files.impersonated_service_account import impersonated_id_token
from aio_authgrpc._sources.files.kind import IdTokenRequest
from aio_authgrpc._sources.files.registry import credential_kinds
from aio_authgrpc._sources.google_auth_gaps import is_gdch, naive_utc, resolve_universe
from aio_authgrpc.errors import ConfigurationError, TokenRefusedError

_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
# Seconds. An ID token that is this near to its end is replaced: the call has to arrive, and clocks differ.
_USABLE = 30.0


def id_token_credentials(own: Any, request: IdTokenRequest) -> Any:
    if hasattr(own, "with_target_audience"):  # it is one already
        keeps_its_own = not request.audience_is_given and getattr(own, "_target_audience", None)
        if keeps_its_own:
            return own
        made = own.with_target_audience(request.audience)
        made.token = None  # a third party's copy may bring the token that is for its first audience
        return made
    if getattr(own, "_subject", None) is not None:
        raise ConfigurationError(
            "a service account that acts for a user has no ID tokens of the user's.",
            field="credentials",
            hint="Leave the subject out for those of the service account.",
        )
    family = {kind.__module__ for kind in type(own).__mro__}
    makers = {kind.google_auth_module: kind.make_id_token for kind in credential_kinds()} | {
        "google.auth.compute_engine.credentials": compute_engine_id_token,
        "google.auth.jwt": self_signed_id_token,
    }
    for module, make in makers.items():
        if make is not None and module in family:
            return make(own, request)
    raise ConfigurationError(
        f"{type(own).__module__}.{type(own).__name__} has no ID tokens.",
        field="credentials",
        hint="Pass target_principal='<service account email>', whose tokens this identity may create; "
        "or another identity.",
    )


def principals_id_token(own: Any, request: IdTokenRequest, principal: str, delegates: Sequence[str]) -> Any:
    if is_gdch(own):
        raise ConfigurationError(
            "an identity of Google Distributed Cloud cannot impersonate.",
            field="target_principal",
            hint="Leave it out.",
        )
    resolve_universe(own, request.http)  # google-auth's constructor would ask for it, past this request
    target: Any = impersonated_credentials.Credentials(
        source_credentials=own,
        target_principal=principal,
        target_scopes=[_CLOUD_PLATFORM],
        delegates=list(delegates) or None,
    )
    if not isinstance(own, google.auth.credentials.Scoped):
        # google-auth takes a copy: each audience would refresh a login of its own.
        target._source_credentials = own  # no public name
    return impersonated_id_token(target, request)


def self_signed_id_token(own: Any, request: IdTokenRequest) -> Any:
    signer: object = getattr(own, "signer", None)
    if not isinstance(signer, crypt.Signer) or isinstance(signer, iam.Signer) or not own.signer_email:
        raise ConfigurationError(
            f"{type(own).__name__} has no key to sign with.", field="self_signed", hint="Leave it out."
        )
    return jwt.Credentials.from_signing_credentials(
        own, request.audience, additional_claims={"email": own.signer_email}
    )


class UserIdTokenCredentials(google.auth.credentials.Credentials):
    """The `id_token` that comes with a user's refreshed access token.

    Its audience is always the client that the user logged in with; any other `audience` is refused.
    """

    def __init__(self, user: Any, audience: str | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # google-auth is typed in parts
        self._source_credentials = user  # as in an impersonation, see root_of()
        self._audience = audience
        self._quota_project_id = user.quota_project_id

    def refresh(self, request: ThreadRequest) -> None:
        user = self._source_credentials
        # A channel that refreshed the login for its access token has brought the next ID token along.
        if user.id_token == self.token or _seconds_left(user.id_token) < _USABLE:
            user.refresh(request)
        if not user.id_token:
            raise TokenRefusedError(
                "The login gives no ID token: its scopes lack 'openid'.",
                hint="Log in with that scope, or pass target_principal= to id_token().",
            )
        claims = jwt.decode(user.id_token, verify=False)
        if self._audience is not None and claims.get("aud") != self._audience:
            raise TokenRefusedError(
                f"A user's ID token is for the client of the login, {claims.get('aud')!r}, not for "
                f"{self._audience!r}.",
                hint="Leave the audience out, or pass target_principal= to id_token().",
            )
        self.token = user.id_token
        self.expiry = naive_utc(float(claims["exp"]))


def _seconds_left(id_token: str | None) -> float:
    try:
        return float(jwt.decode(id_token, verify=False)["exp"]) - time()
    except (KeyError, TypeError, ValueError):
        return 0.0
