"""The ID token of a user's login, as a google-auth credential. Imported in a worker thread."""

from __future__ import annotations

from typing import Any

import google.auth.credentials
from google.auth import jwt

from aio_authgrpc._http.bridge import ThreadRequest
from aio_authgrpc._sources.google_auth_gaps import naive_utc
from aio_authgrpc.errors import TokenRefusedError


class UserIdTokenCredentials(google.auth.credentials.Credentials):
    """The `id_token` that comes with a user's refreshed access token.

    Its audience is always the client that the user logged in with; any other `audience` is refused.
    """

    def __init__(self, user: Any, audience: str | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # google-auth is typed in parts
        self._user = user
        self._audience = audience
        self._quota_project_id = user.quota_project_id

    def refresh(self, request: ThreadRequest) -> None:
        """Refresh the login, and raise a TokenRefusedError where it gives no ID token for the audience."""
        self._user.refresh(request)
        if not self._user.id_token:
            raise TokenRefusedError(
                "The login gives no ID token: its scopes lack 'openid'. Log in with that scope, or pass "
                "target_principal= to id_token()."
            )
        claims = jwt.decode(self._user.id_token, verify=False)
        if self._audience is not None and claims.get("aud") != self._audience:
            raise TokenRefusedError(
                f"A user's ID token is for the client of the login, {claims.get('aud')!r}, not for "
                f"{self._audience!r}: leave the audience out, or pass target_principal= to id_token()."
            )
        self.token = self._user.id_token
        self.expiry = naive_utc(float(claims["exp"]))
