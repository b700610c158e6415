"""What google-auth's credentials need behind another transport. Most of it runs in worker threads.

Private names of google-auth are read with a default: a version without them is left as it is.
"""

from __future__ import annotations

import copy
import datetime
import json
import sys
import urllib.parse
from typing import TYPE_CHECKING, Any

from google.auth.exceptions import RefreshError

from aio_authgrpc._http.bridge import ThreadRequest
from aio_authgrpc._http.request import AiohttpRequest
from aio_authgrpc._loop.threads import import_off_loop

if TYPE_CHECKING:
    from google.auth.credentials import Credentials


_ID_TOKEN_URL = "https://iamcredentials.{universe}/v1/projects/-/serviceAccounts/{email}:generateIdToken"  # noqa: S105 - a URL


def is_of(given: object, module: str, name: str = "Credentials") -> bool:
    """Return whether it is an instance of a class of google-auth, which then was imported already."""
    return isinstance(given, getattr(sys.modules.get(module), name, ()))


def is_gdch(credentials: object) -> bool:
    return is_of(credentials, "google.oauth2.gdch_credentials", "ServiceAccountCredentials")


def for_audience(credentials: Credentials, audience: str) -> Credentials | None:
    """Return a credential for this audience only, where google-auth's tokens depend on it; else None.

    - A service account without scopes gets no token from Google's endpoint: it signs a JWT for
      `https://<host>/` (https://google.aip.dev/auth/4111). google-auth keeps the first host's in the
      object and sends it to every other host (`google/auth/transport/grpc.py`).
    - `google.auth.jwt.OnDemandCredentials` signs for each URL; here, for the host.
    - A GDCH credential without an audience asks for one that the endpoint does not know.
    """
    untyped: Any = credentials
    if is_gdch(credentials) and not getattr(untyped, "_audience", True):
        asked: Credentials = untyped.with_gdch_audience(audience)
        return asked
    signs = is_of(credentials, "google.auth.jwt", "OnDemandCredentials") or (
        is_of(credentials, "google.oauth2.service_account")
        # Only the endpoint gives tokens for a subject, which has no public name.
        and not (untyped.scopes or untyped.default_scopes or getattr(untyped, "_subject", None))
    )
    if not signs:
        return None
    from google.auth import jwt  # noqa: PLC0415 - the credential's own module has loaded it

    signing: Credentials = jwt.Credentials.from_signing_credentials(
        untyped, f"{audience}/", quota_project_id=untyped.quota_project_id
    )
    return signing


ALLOWED_LOCATIONS = "x-allowed-locations"
GOOGLE_APIS = "https://googleapis.com"
"""The audience that stands for all of Google's APIs, to which access tokens and boundaries are the same."""


def is_google_api(audience: str) -> bool:
    """Return whether an audience reads `x-allowed-locations`: a Google API, not a regional endpoint."""
    host = urllib.parse.urlsplit(audience).hostname or ""
    return audience == GOOGLE_APIS or (host.endswith(".googleapis.com") and ".rep." not in host)


async def thread_request(credentials: Credentials, http: AiohttpRequest) -> ThreadRequest:
    """Return the request for a credential; GDCH's insists on a `google.auth.transport.requests.Request`."""
    if is_gdch(credentials):
        await import_off_loop("google.auth.transport.requests")
        from google.auth.transport import requests  # noqa: PLC0415 - 100 ms, loaded off the loop

        requests.Request.register(ThreadRequest)
    return ThreadRequest(http)


def refresh(credentials: Credentials, request: ThreadRequest) -> None:
    """Call `credentials.refresh(request)`, or do the same where that would send past the request."""
    untyped: Any = credentials
    signer = getattr(untyped, "_signer", None)
    if is_of(credentials, "google.auth.impersonated_credentials", "IDTokenCredentials"):
        _refresh_impersonated_id_token(untyped, request)
    elif is_of(signer, "google.auth.iam", "Signer"):
        _refresh_signed_by_iam(untyped, signer, request)
    else:
        untyped.refresh(request)


def _refresh_impersonated_id_token(credentials: Any, request: ThreadRequest) -> None:
    """Do what `impersonated_credentials.IDTokenCredentials.refresh` does with a session of requests."""
    from google.auth import jwt, metrics  # noqa: PLC0415 - the credential has loaded them
    from google.auth.credentials import TokenState  # noqa: PLC0415 - as above

    target = credentials._target_credentials  # no public name
    source = target._source_credentials  # no public name
    url = _ID_TOKEN_URL.format(universe=target.universe_domain, email=target.signer_email)
    body = {
        "audience": credentials._target_audience,  # no public name
        "delegates": target._delegates,  # no public name
        "includeEmail": credentials._include_email,  # no public name
    }
    if source.token_state is not TokenState.FRESH:
        refresh(source, request)
    headers = {
        "Content-Type": "application/json",
        metrics.API_CLIENT_HEADER: metrics.token_request_id_token_impersonate(),
    }

    def ask() -> Any:
        source.apply(headers)
        return request(url=url, method="POST", headers=headers, body=json.dumps(body).encode())

    response = ask()
    if response.status == 401:  # the source's token was revoked; google-auth's session gets another, too
        refresh(source, request)
        response = ask()
    if response.status != 200:
        raise RefreshError("Error getting ID token", response.data.decode(errors="replace"))
    try:
        token = json.loads(response.data)["token"]
        expires_at = jwt.decode(token, verify=False)["exp"]
    except (KeyError, TypeError, ValueError):
        raise RefreshError("No ID token in response.") from None
    credentials.token, credentials.expiry = token, naive_utc(expires_at)


def naive_utc(timestamp: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(timestamp, tz=datetime.UTC).replace(tzinfo=None)


def _refresh_signed_by_iam(credentials: Any, signer: Any, request: ThreadRequest) -> None:
    """Refresh with a signer that has this request: google-auth's keeps the one that it was made with."""
    # Not a copy: where a refresh token rotates, the new one has to reach the object that others use.
    inner = signer._credentials  # no public name
    resolve_universe(inner, request)
    bound = copy.copy(credentials)
    bound._signer = type(signer)(request, inner, signer._service_account_email)  # no public name
    bound.refresh(request)
    credentials.token, credentials.expiry = bound.token, bound.expiry


def resolve_universe(credentials: Any, request: ThreadRequest) -> None:
    """Ask the metadata server for the universe with this request; Compute Engine's property uses another."""
    if getattr(credentials, "_universe_domain_cached", True):
        return
    from google.auth.compute_engine import _metadata  # noqa: PLC0415 - the credential has loaded it

    credentials._universe_domain = _metadata.get_universe_domain(request)  # no public name
    credentials._universe_domain_cached = True  # no public name


def look_up_allowed_locations(credentials: Any, request: ThreadRequest, audience: str) -> None:
    """Let the credential know its regional access boundary, which `apply` sends as `x-allowed-locations`.

    google-auth does this in threads of its own, after the first RPC, and for any host. Here it is done
    with the refresh, so that the first RPC has it, and only for Google's APIs, which read it. A look-up
    takes 3 s at most and raises nothing; a failed one is repeated after 15 min at the earliest.
    """
    credentials = getattr(credentials, "_impersonated_credentials", None) or credentials
    manager = getattr(credentials, "_rab_manager", None)
    is_required = getattr(credentials, "_is_regional_access_boundary_lookup_required", None)
    # google-auth's switch, which 2.63 introduced.
    utilities = sys.modules.get("google.auth._regional_access_boundary_utils")
    is_enabled = getattr(utilities, "is_regional_access_boundary_lookup_enabled", lambda: True)
    if not is_google_api(audience) or manager is None or is_required is None or not is_enabled():
        return
    resolve_universe(credentials, request)
    if is_required() and manager._should_refresh():  # no public name
        manager.start_blocking_refresh(credentials, request)
