"""ID tokens: each is for the audience that it was made for."""

from __future__ import annotations

import copy
import time
from typing import Any

import google.auth.credentials
import jwt

from aio_authgrpc import TokenRequest, id_token
from aio_authgrpc.testing import Authority


class Copying(google.auth.credentials.Credentials):  # type: ignore[misc]  # untyped upstream
    """A third party's credential, whose copy for another audience keeps the token."""

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._authority = authority
        self._target_audience: str | None = None

    def with_target_audience(self, audience: str) -> Any:
        made = copy.copy(self)
        made._target_audience = audience
        return made

    def refresh(self, request: Any) -> None:
        assert self._target_audience is not None
        self.token = self._authority.issue_id_token(audience=self._target_audience)


async def test_an_id_token_is_not_reused_for_another_audience(
    authority: Authority, token_request: TokenRequest
) -> None:
    """Not even that of a copy which brings the first one."""
    first = Copying(authority).with_target_audience("https://first")
    first.refresh(None)
    request = token_request.replace(time=time.time())
    tokens = [
        await id_token(audience, credentials=first).fetch(request)
        for audience in ("https://second", "https://third", "https://first")
    ]
    audiences = [jwt.decode(token.value, options={"verify_signature": False})["aud"] for token in tokens]
    assert audiences == ["https://second", "https://third", "https://first"]
