"""An authority whose refresh tokens rotate."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from google.oauth2.credentials import Credentials

from aio_authgrpc.testing import Authority

_CLIENT = "service.apps.googleusercontent.com"


class RotatingAuthority(Authority):
    """Answers each refresh with a new refresh token, and revokes a login whose refresh token comes twice.

    Attributes:
        revoked: How many logins were revoked.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.revoked = 0
        self._current: dict[str, int] = {}  # by login, the number of the refresh token that is good

    def login(self) -> Any:
        """Return google-auth's credentials of a new login.

        Its refresh tokens are its own for ever, as real ones are: another authority may get this one's port.
        """
        name = f"login-{secrets.token_hex(8)}"
        self._current[name] = 0
        return Credentials(
            None,
            refresh_token=f"{name}.0",
            token_uri=self.token_uri,
            client_id=_CLIENT,
            client_secret="not-much-of-one",
        )

    def grant(self, form: Mapping[str, str]) -> dict[str, object]:
        """Answer a refresh token, or any other form as every authority does."""
        name, _, number = form.get("refresh_token", "").partition(".")
        if name not in self._current:
            return super().grant(form)
        if int(number) != self._current[name]:
            self.revoked += 1
            del self._current[name]
            return super().grant(form)
        self._current[name] += 1
        email = f"{name}@example.com"
        return {
            "access_token": self.issue_access_token(email=email),
            "refresh_token": f"{name}.{self._current[name]}",
            "id_token": self.issue_id_token(audience=_CLIENT, email=email),
            "expires_in": self.token_lifetime,
            "token_type": "Bearer",
        }
