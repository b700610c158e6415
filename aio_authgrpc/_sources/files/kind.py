"""From a checked credential file to google-auth's credential, one function for each type. For worker threads.

google-auth's own loaders that find out the type by themselves are deprecated, because they make whatever
a file says. These make what was asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc._loop.threads import import_off_loop
from aio_authgrpc._sources.files.content import CredentialInfo, checked_info
from aio_authgrpc._sources.files.private_key import HEAVY_MODULES, ServiceAccountKey
from aio_authgrpc.errors import ConfigurationError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

_AWS_TOKEN_TYPE = "urn:ietf:params:aws:token-type:aws4_request"  # noqa: S105 - the name of a kind
# What google-auth takes as the first identity of an impersonation.
_IMPERSONATORS = ("authorized_user", "service_account", "external_account_authorized_user")
_MODULES = {
    "service_account": HEAVY_MODULES,
    "authorized_user": ("google.oauth2.credentials",),
    "external_account": ("google.auth.aws", "google.auth.identity_pool", "google.auth.pluggable"),
    "external_account_authorized_user": ("google.auth.external_account_authorized_user",),
    "impersonated_service_account": (
        *HEAVY_MODULES,
        "google.auth.impersonated_credentials",
        "google.auth.external_account_authorized_user",
        "google.oauth2.credentials",
    ),
    "gdch_service_account": ("google.oauth2.gdch_credentials", "google.auth.transport.requests"),
}


async def import_type(kind: str) -> None:
    """Import what a type of credential needs, off the loop."""
    await import_off_loop(*_MODULES[kind])


def make_credentials(
    info: CredentialInfo,
    scopes: Sequence[str] | None = None,
    quota_project_id: str | None = None,
    *,
    always_scoped: bool = False,
) -> Credentials:
    """Return google-auth's credential for a checked file, in a worker thread.

    Args:
        info: The file.
        scopes: OAuth 2.0 scopes; where the type has them fixed (users), only with `always_scoped`.
        quota_project_id: The project that pays; None leaves the file's.
        always_scoped: Whether scopes are for users too. Application Default Credentials leave those as
            they are, as google-auth does.

    Raises:
        ConfigurationError: google-auth refuses the content.
    """
    fields = dict(info.fields)
    if quota_project_id is not None:
        # Not with_quota_project(): a user's copy keeps its token and loses its expiry.
        fields["quota_project_id"] = quota_project_id
    elif info.kind == "service_account":
        fields.pop("quota_project_id", None)  # google-auth does not read it there
    if info.kind == "impersonated_service_account" and fields.get("scopes") and not always_scoped:
        scopes = None  # the file's are kept, as by google-auth's default()
    granted = (
        list(scopes) if scopes and (always_scoped or not info.kind.endswith("authorized_user")) else None
    )
    try:
        return _MAKERS[info.kind](dataclasses.replace(info, fields=fields), granted)
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 - on malformed content google-auth raises anything
        known = isinstance(error, ValueError) and len(error.args) == 1
        problem = redacted(str(error))[:200].rstrip(".") if known else type(error).__name__
    # Outside of the handler: that error can hold the content.
    field = "credential_source" if info.kind == "external_account" else "file_or_info"
    raise info.error(f"is refused by google-auth: {problem}", field=field)


def _service_account(info: CredentialInfo, scopes: list[str] | None) -> Credentials:
    return service_account_credentials(
        ServiceAccountKey(info), scopes=scopes, quota_project_id=info.text("quota_project_id")
    )


def service_account_credentials(
    key: ServiceAccountKey,
    *,
    scopes: Sequence[str] | None = None,
    subject: str | None = None,
    quota_project_id: str | None = None,
    self_signed: bool = False,
) -> Credentials:
    """Return a service account's credential, made of a key that was parsed already."""
    from google.oauth2 import service_account  # noqa: PLC0415 - loaded off the loop, with the key

    made: Credentials = service_account.Credentials(
        key.signer,
        service_account_email=key.email,
        token_uri=key.token_uri,
        scopes=scopes,
        subject=subject,
        project_id=key.project_id,
        quota_project_id=quota_project_id,
        universe_domain=key.universe_domain,
        always_use_jwt_access=self_signed,
    )
    return made


def _authorized_user(info: CredentialInfo, scopes: list[str] | None) -> Credentials:
    from google.oauth2 import credentials  # noqa: PLC0415 - loaded off the loop

    made: Credentials = credentials.Credentials.from_authorized_user_info(info.fields, scopes)
    return made


def _external_account(info: CredentialInfo, scopes: list[str] | None) -> Credentials:
    from google.auth import aws, identity_pool, pluggable  # noqa: PLC0415 - loaded off the loop

    source: Any = info.fields["credential_source"]
    kind: Any = identity_pool
    if info.fields["subject_token_type"] == _AWS_TOKEN_TYPE:
        kind = aws
    elif source.get("executable") is not None:
        kind = pluggable
    made: Credentials = kind.Credentials.from_info(info.fields, scopes=scopes)
    return made


def _external_account_authorized_user(info: CredentialInfo, scopes: list[str] | None) -> Credentials:
    from google.auth import external_account_authorized_user  # noqa: PLC0415 - loaded off the loop

    fields: Any = info.fields if scopes is None else {**info.fields, "scopes": scopes}
    made: Credentials = external_account_authorized_user.Credentials.from_info(fields)
    return made


def _impersonated_service_account(info: CredentialInfo, scopes: list[str] | None) -> Credentials:
    from google.auth import impersonated_credentials  # noqa: PLC0415 - loaded off the loop

    fields: Any = info.fields
    source = checked_info(
        fields["source_credentials"], info.origin, _IMPERSONATORS, prefix="source_credentials."
    )
    url = str(fields["service_account_impersonation_url"])
    # Not from_impersonated_service_account_info(): it parses a key in the way that holds the GIL.
    made: Credentials = impersonated_credentials.Credentials(
        source_credentials=make_credentials(source),
        target_principal=url.rpartition("/")[2].partition(":generateAccessToken")[0],
        target_scopes=scopes or fields.get("scopes"),
        delegates=fields.get("delegates"),
        quota_project_id=info.text("quota_project_id"),
    )
    return made


def _gdch_service_account(info: CredentialInfo, scopes: list[str] | None) -> Credentials:
    from google.oauth2 import gdch_credentials  # noqa: PLC0415 - loaded off the loop

    del scopes  # it has an audience instead
    made: Credentials = gdch_credentials.ServiceAccountCredentials.from_service_account_info(info.fields)
    return made


_MAKERS: dict[str, Callable[[CredentialInfo, list[str] | None], Credentials]] = {
    "service_account": _service_account,
    "authorized_user": _authorized_user,
    "external_account": _external_account,
    "external_account_authorized_user": _external_account_authorized_user,
    "impersonated_service_account": _impersonated_service_account,
    "gdch_service_account": _gdch_service_account,
}
