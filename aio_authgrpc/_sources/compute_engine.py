"""The service account of this machine, whose tokens the metadata server gives."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc._sources.files.kind import IdTokenRequest
from aio_authgrpc._sources.google_auth import GoogleCredentialsSource
from aio_authgrpc._sources.lazy import LazyCredentialsSource
from aio_authgrpc._sources.options import CredentialOptions, checked_options
from aio_authgrpc.errors import ConfigurationError


def compute_engine(
    *, scopes: Sequence[str] | None = None, quota_project_id: str | None = None
) -> LazyCredentialsSource:
    """Act as the default service account of this machine, or Cloud Run service, or GKE workload (seed 003).

    The metadata server gives the tokens. Whether there is one is not looked up: `default()` does that.

    Args:
        scopes: OAuth 2.0 scopes, where the platform lets one choose them (Cloud Run does).
        quota_project_id: The project that pays, sent as `x-goog-user-project`.

    Raises:
        ConfigurationError: An argument has the wrong type.
    """
    options = checked_options(scopes, quota_project_id)

    def make() -> GoogleCredentialsSource:
        return GoogleCredentialsSource(compute_engine_credentials(options))

    return LazyCredentialsSource("compute_engine()", lambda _: run_in_thread(make))


def compute_engine_credentials(options: CredentialOptions) -> Any:
    """Return google-auth's credential. In a worker thread: it may import it."""
    from google.auth.compute_engine import Credentials  # noqa: PLC0415 - in a worker thread

    return Credentials(scopes=options.scopes, quota_project_id=options.quota_project_id)


def compute_engine_id_token(own: Any, request: IdTokenRequest) -> Any:
    """Return the credential for the ID tokens of google-auth's `compute_engine.Credentials`."""
    from google.auth.compute_engine import IDTokenCredentials  # noqa: PLC0415 - the credential has loaded it

    if own.service_account_email != "default" and own.token is None:
        raise ConfigurationError(
            "google-auth asks the metadata server for ID tokens of the default account only.",
            field="credentials",
            hint=f"Pass target_principal={own.service_account_email!r} to impersonate the other one.",
        )
    make: Any = functools.partial(
        IDTokenCredentials,
        target_audience=request.audience,
        use_metadata_identity_endpoint=True,
        quota_project_id=own.quota_project_id,
    )
    try:
        return make(None)  # with a request, the constructor would use it
    except TypeError:  # older versions call it unconditionally
        return make(request.http)
