"""From an identity to google-auth's credential for its ID tokens, by type. In worker threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aio_authgrpc._sources.google_auth_gaps import module_of
from aio_authgrpc.errors import ConfigurationError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from aio_authgrpc._http.bridge import ThreadRequest

_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


def id_token_credentials(
    own: Credentials, audience: str, request: ThreadRequest, *, audience_is_given: bool
) -> Credentials:
    """Return the credential for the ID tokens of an identity.

    Args:
        own: Whose tokens they are.
        audience: For whom they are.
        request: Sends what a constructor of google-auth's sends.
        audience_is_given: Whether the user chose it; a login's ID token is for the login's client.

    Raises:
        ConfigurationError: It has none.
    """
    untyped: Any = own
    if hasattr(untyped, "with_target_audience"):  # it is one already
        made: Credentials = untyped.with_target_audience(audience)
        return made if audience_is_given or not getattr(untyped, "_target_audience", None) else own
    if getattr(untyped, "_subject", None) is not None:
        raise ConfigurationError(
            "whoever acts for a user has no ID tokens of the user's.",
            field="credentials",
            hint="Leave the subject out for those of the service account.",
        )
    if module_of("google.oauth2.credentials", own):
        return _of_user(own, audience if audience_is_given else None)
    if module_of("google.auth.compute_engine.credentials", own):
        return _of_compute_engine(own, audience, request)
    for module, make in _MAKERS.items():
        if module_of(module, own):
            return make(own, audience)
    raise ConfigurationError(
        f"{type(own).__module__}.{type(own).__name__} has no ID tokens.",
        field="credentials",
        hint="Pass target_principal='<service account email>', whose tokens this identity may create; "
        "or another identity.",
    )


def impersonated(own: Credentials, principal: str, delegates: Sequence[str], audience: str) -> Credentials:
    """Return the credential for the ID tokens of a service account that an identity impersonates."""
    from google.auth import impersonated_credentials  # noqa: PLC0415 - loaded off the loop

    if module_of("google.oauth2.gdch_credentials", own):
        raise ConfigurationError(
            "an identity of Google Distributed Cloud cannot impersonate.", field="target_principal"
        )
    target = impersonated_credentials.Credentials(
        source_credentials=own,
        target_principal=principal,
        target_scopes=[_CLOUD_PLATFORM],
        delegates=list(delegates) or None,
    )
    return _of_impersonated(target, audience)


def self_signed(own: Credentials, audience: str) -> Credentials:
    """Return the credential for tokens that an identity signs with its own key.

    Raises:
        ConfigurationError: It has no key.
    """
    from google.auth import credentials, crypt, iam, jwt  # noqa: PLC0415 - loaded off the loop

    untyped: Any = own
    signer = untyped.signer if isinstance(own, credentials.Signing) else None
    if not isinstance(signer, crypt.Signer) or isinstance(signer, iam.Signer) or not untyped.signer_email:
        raise ConfigurationError(
            f"{type(own).__name__} has no key to sign with.", field="self_signed", hint="Leave it out."
        )
    made: Credentials = jwt.Credentials.from_signing_credentials(
        untyped, audience, additional_claims={"email": untyped.signer_email}
    )
    return made


def _of_service_account(own: Any, audience: str) -> Credentials:
    from google.oauth2 import service_account  # noqa: PLC0415 - the credential has loaded it

    return service_account.IDTokenCredentials(
        own.signer,
        service_account_email=own.service_account_email,
        token_uri=own._token_uri,  # google-auth has no public name
        target_audience=audience,
        quota_project_id=own.quota_project_id,
        universe_domain=own.universe_domain,
    )


def _of_compute_engine(own: Any, audience: str, request: ThreadRequest) -> Credentials:
    from google.auth.compute_engine import IDTokenCredentials  # noqa: PLC0415 - the credential has loaded it

    if own.service_account_email != "default" and own.token is None:
        raise ConfigurationError(
            "google-auth asks the metadata server for ID tokens of the default account alone.",
            field="credentials",
            hint=f"Pass target_principal={own.service_account_email!r} to impersonate the other one.",
        )
    make: Any = functools.partial(
        IDTokenCredentials,
        target_audience=audience,
        use_metadata_identity_endpoint=True,
        quota_project_id=own.quota_project_id,
    )
    try:
        made: Credentials = make(None)  # with a request, the constructor would use it
    except TypeError:  # older ones call it whatever it is
        made = make(request)
    return made


def _of_impersonated(own: Any, audience: str) -> Credentials:
    from google.auth.impersonated_credentials import IDTokenCredentials  # noqa: PLC0415 - loaded off the loop

    quota_project_id = own.quota_project_id
    return IDTokenCredentials(
        own, target_audience=audience, include_email=True, quota_project_id=quota_project_id
    )


def _of_external_account(own: Any, audience: str) -> Credentials:
    """The impersonation that is inside of an external account is asked for another kind of token."""
    if not own.service_account_email:
        raise ConfigurationError(
            "this external account impersonates no service account, and so has no ID tokens.",
            field="credentials",
            hint="Its configuration needs a service_account_impersonation_url; or pass target_principal=.",
        )
    return _of_impersonated(own._initialize_impersonated_credentials(), audience)  # no public name


def _of_user(own: Any, audience: str | None) -> Credentials:
    from aio_authgrpc._sources.user_id_token import UserIdTokenCredentials  # noqa: PLC0415 - off the loop

    return UserIdTokenCredentials(own, audience)


_MAKERS: dict[str, Callable[[Credentials, str], Credentials]] = {
    "google.oauth2.service_account": _of_service_account,
    "google.auth.impersonated_credentials": _of_impersonated,
    "google.auth.external_account": _of_external_account,
    "google.auth.jwt": self_signed,
}
