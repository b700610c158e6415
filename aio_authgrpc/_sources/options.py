"""Scopes, quota project and audience, as the functions for Google's credentials take them."""

from __future__ import annotations

from collections.abc import Sequence

from aio_authgrpc._checks.arguments import check_type
from aio_authgrpc._checks.values import FrozenValue
from aio_authgrpc._tokens.metadata import is_metadata_text
from aio_authgrpc.errors import ConfigurationError


class CredentialOptions(FrozenValue):
    """What the user chose beside a credential file.

    Attributes:
        scopes: OAuth 2.0 scopes; None for the credential's own.
        quota_project_id: The project that pays; None for the file's.
        by_default: Whether `default()` found the file: it keeps scopes that are fixed by a login, or
            named by an impersonation, as google-auth's `default()` does.
    """

    scopes: tuple[str, ...] | None = None
    quota_project_id: str | None = None
    by_default: bool = False


def checked_options(
    scopes: Sequence[str] | None = None, quota_project_id: str | None = None, *, by_default: bool = False
) -> CredentialOptions:
    """Return options, or raise the ConfigurationError for a wrong one."""
    given: object = scopes
    if isinstance(given, str):  # it would be taken letter by letter
        raise ConfigurationError(
            "expected a list of str, not one str.", field="scopes", hint=f"Write [{given!r}]."
        )
    if not isinstance(given, Sequence | None) or not all(isinstance(scope, str) for scope in given or ()):
        raise ConfigurationError("expected a list of str.", field="scopes")
    check_type("quota_project_id", quota_project_id, str, type(None))
    if quota_project_id is not None and (not quota_project_id or not is_metadata_text(quota_project_id)):
        raise ConfigurationError("expected printable ASCII text, not empty.", field="quota_project_id")
    asked = tuple(scopes or ()) or None  # google-auth takes an empty list for scopes that were asked for
    return CredentialOptions(scopes=asked, quota_project_id=quota_project_id, by_default=by_default)


def check_audience(audience: str) -> None:
    """Raise the ConfigurationError for a target that has no host to make an audience of."""
    if not audience:
        raise ConfigurationError(
            "the target has no host to make one from.", field="audience", hint="Pass audience='https://...'."
        )
