"""The service account of this machine, whose tokens the metadata server gives: whether there is one."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.auth.exceptions import TransportError

from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._loop.threads import run_in_thread
from aio_authgrpc._sources.files.kind import CredentialOptions, IdTokenRequest, checked_options
from aio_authgrpc._sources.google_auth import GoogleCredentialsSource, LazyCredentialsSource
from aio_authgrpc.errors import ConfigurationError

# An address, not a name: resolving an unknown name can take 20 s.
_ADDRESS = "169.254.169.254"
_FLAVOR = {"Metadata-Flavor": "Google"}
# One lost packet must not cost a short budget as a whole.
_ATTEMPT_TIMEOUT = 2.0
# Without a marker of Google Cloud: google-auth's number of attempts.
_ATTEMPTS_WITHOUT_MARKER = 3
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0

# What Google's platforms set: https://cloud.google.com/run/docs/container-contract#env-vars and App Engine's.
_MARKERS = (
    "GCE_METADATA_HOST",
    "GCE_METADATA_ROOT",
    "K_SERVICE",
    "CLOUD_RUN_JOB",
    "FUNCTION_TARGET",
    "GAE_ENV",
)
# The firmware's name of the machine, which containers see too; google-auth reads it as well.
_PRODUCT_NAME = Path("/sys/class/dmi/id/product_name")


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
    from google.auth.compute_engine import Credentials  # noqa: PLC0415 - in a worker thread

    return Credentials(scopes=options.scopes, quota_project_id=options.quota_project_id)


def compute_engine_id_token(own: Any, request: IdTokenRequest) -> Any:
    from google.auth.compute_engine import IDTokenCredentials  # noqa: PLC0415 - the credential has loaded it

    if own.service_account_email != "default" and own.token is None:
        raise ConfigurationError(
            "google-auth asks the metadata server for ID tokens of the default account only.",
            field="credentials",
            hint=f"Pass target_principal={own.service_account_email!r} to impersonate the other one.",
        )
    options: dict[str, Any] = {
        "target_audience": request.audience,
        "use_metadata_identity_endpoint": True,
        "quota_project_id": own.quota_project_id,
    }
    try:
        return IDTokenCredentials(None, **options)  # with a request, the constructor would use it
    except TypeError:  # older versions call it unconditionally
        return IDTokenCredentials(request.http, **options)


def google_cloud_marker(
    environment: Mapping[str, str] = os.environ, product_name: Path = _PRODUCT_NAME
) -> str | None:
    """Return the variable or file that shows that this is Google Cloud; then a metadata server will start."""
    if (name := next(filter(environment.get, _MARKERS), None)) is not None:
        return name
    try:
        is_google = product_name.read_bytes().startswith(b"Google")
    except OSError:
        return None
    return str(product_name) if is_google else None


def metadata_server_url() -> str:
    variables = ("GCE_METADATA_IP", "GCE_METADATA_HOST", "GCE_METADATA_ROOT")
    return f"http://{next(filter(None, map(os.environ.get, variables)), _ADDRESS)}/"


async def default_account_email(http: AiohttpRequest) -> str:
    """Return the email of this machine's service account, which may change while the machine runs.

    It is asked for as google-auth does. A pod of GKE that has no account gets the name of its pool.

    Raises:
        TransportError: The metadata server does not say.
    """
    url = f"{metadata_server_url()}computeMetadata/v1/instance/service-accounts/default/?recursive=true"
    response = await http.send(url, headers=_FLAVOR, timeout=_ATTEMPT_TIMEOUT)
    with suppress(ValueError, LookupError, TypeError):
        if response.status == 200:
            return str(json.loads(response.data)["email"])
    raise TransportError(f"The metadata server answered {response.status}, and no account.")


async def wait_for_metadata_server(http: AiohttpRequest, *, patient: bool) -> str:
    """Return "" once the metadata server answers, or why it was given up; with `patient` it never is."""
    pause = _FIRST_PAUSE
    attempts_left = math.inf if patient else _ATTEMPTS_WITHOUT_MARKER
    while problem := await _ask(http):
        attempts_left -= 1
        if not attempts_left:
            break
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return problem


async def _ask(http: AiohttpRequest) -> str:
    try:
        response = await http.send(metadata_server_url(), headers=_FLAVOR, timeout=_ATTEMPT_TIMEOUT)
    except TransportError as error:
        return str(error)
    if response.headers.get("Metadata-Flavor") == "Google":
        return "" if response.status == 200 else f"it answered {response.status}"
    return "another server answered there, not a metadata server"
