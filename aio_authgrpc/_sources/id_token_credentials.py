"""From an identity's credential to the one for its ID tokens. In worker threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aio_authgrpc._sources.compute_engine import compute_engine_id_token
from aio_authgrpc._sources.files.impersonated_service_account import impersonated_id_token
from aio_authgrpc._sources.files.registry import credential_kinds
from aio_authgrpc._sources.google_auth_gaps import module_of, resolve_universe
from aio_authgrpc.errors import ConfigurationError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from aio_authgrpc._http.bridge import ThreadRequest

_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdTokenRequest:
    """Which ID tokens are wanted.

    Attributes:
        audience: For whom they are.
        audience_is_given: Whether the user chose it; a login's ID token is for the login's client.
        http: Sends what a constructor of google-auth's sends.
    """

    audience: str
    audience_is_given: bool
    http: ThreadRequest


def id_token_credentials(own: Credentials, request: IdTokenRequest) -> Credentials:
    """Return the credential for an identity's ID tokens; a ConfigurationError where it has none."""
    untyped: Any = own
    if hasattr(untyped, "with_target_audience"):  # it is one already
        keeps_its_own = not request.audience_is_given and getattr(untyped, "_target_audience", None)
        made: Credentials = own if keeps_its_own else untyped.with_target_audience(request.audience)
        return made
    if getattr(untyped, "_subject", None) is not None:
        raise ConfigurationError(
            "a service account that acts for a user has no ID tokens of the user's.",
            field="credentials",
            hint="Leave the subject out for those of the service account.",
        )
    makers = {kind.google_auth_module: kind.make_id_token for kind in credential_kinds()} | {
        "google.auth.compute_engine.credentials": compute_engine_id_token,
        "google.auth.jwt": self_signed_id_token,
    }
    for module, make in makers.items():
        if make is not None and module_of(module, own):
            return make(own, request)
    raise ConfigurationError(
        f"{type(own).__module__}.{type(own).__name__} has no ID tokens.",
        field="credentials",
        hint="Pass target_principal='<service account email>', whose tokens this identity may create; "
        "or another identity.",
    )


def principals_id_token(
    own: Credentials, request: IdTokenRequest, principal: str, delegates: Sequence[str]
) -> Credentials:
    """Return the credential for the ID tokens of a service account that an identity impersonates."""
    from google.auth import impersonated_credentials  # noqa: PLC0415 - in a worker thread

    if module_of("google.oauth2.gdch_credentials", own):
        raise ConfigurationError(
            "an identity of Google Distributed Cloud cannot impersonate.", field="target_principal"
        )
    resolve_universe(own, request.http)  # google-auth's constructor would ask for it, past this request
    target = impersonated_credentials.Credentials(
        source_credentials=own,
        target_principal=principal,
        target_scopes=[_CLOUD_PLATFORM],
        delegates=list(delegates) or None,
    )
    return impersonated_id_token(target, request)


def self_signed_id_token(own: Any, request: IdTokenRequest) -> Credentials:
    """Return the credential for tokens that an identity signs; a ConfigurationError where it has no key."""
    from google.auth import crypt, iam, jwt  # noqa: PLC0415 - in a worker thread

    signer: object = getattr(own, "signer", None)
    if not isinstance(signer, crypt.Signer) or isinstance(signer, iam.Signer) or not own.signer_email:
        raise ConfigurationError(
            f"{type(own).__name__} has no key to sign with.", field="self_signed", hint="Leave it out."
        )
    made: Credentials = jwt.Credentials.from_signing_credentials(
        own, request.audience, additional_claims={"email": own.signer_email}
    )
    return made
