"""JWTs for Cloud Endpoints, signed by a service account key."""

from __future__ import annotations

import math
from typing import Any

import jwt
import pytest

from aio_authgrpc import (
    AiohttpRequest,
    ConfigurationError,
    Token,
    TokenRequest,
    service_account_jwt,
)
from aio_authgrpc.testing import FakeClock


def claims(token: Token) -> dict[str, Any]:
    return jwt.decode(token.value, options={"verify_signature": False})


async def test_an_endpoints_jwt_has_the_seeds_claims(info: dict[str, str], fake_clock: FakeClock) -> None:
    """iat, exp, aud, iss, sub, email, the key's id, and a signature by the key."""
    async with AiohttpRequest() as http:
        request = TokenRequest(http=http, audience="https://host", time=fake_clock.time())
        token = await service_account_jwt(info).fetch(request)
    email, issued_at = info["client_email"], int(fake_clock.time())
    assert claims(token) == {
        "iat": issued_at,
        "exp": issued_at + 3600,
        "aud": "https://host",
        "iss": email,
        "sub": email,
        "email": email,
    }
    assert jwt.get_unverified_header(token.value)["kid"] == info["private_key_id"]
    assert token.expires_at == issued_at + 3600


async def test_every_claim_of_an_endpoints_jwt_can_be_said(
    info: dict[str, str], token_request: TokenRequest
) -> None:
    """As the seed's generator has them."""
    source = service_account_jwt(
        info,
        issuer="issuer",
        audience="bookstore.endpoints.p.cloud.goog",
        subject="12345678",
        email="",
        lifetime=60,
    )
    made = claims(await source.fetch(token_request))
    assert made["iss"] == "issuer"
    assert made["aud"] == "bookstore.endpoints.p.cloud.goog"
    assert made["sub"] == "12345678"
    assert made["email"] == ""
    assert made["exp"] - made["iat"] == 60


async def test_an_endpoints_jwt_needs_an_audience(info: dict[str, str]) -> None:
    """A Unix socket has no host to make one from."""
    async with AiohttpRequest() as http:
        with pytest.raises(ConfigurationError, match="audience"):
            await service_account_jwt(info).fetch(TokenRequest(http=http, audience="", time=0))


@pytest.mark.parametrize("lifetime", [0, -1, 3601, math.inf])
async def test_a_lifetime_over_an_hour_is_refused(info: dict[str, str], lifetime: Any) -> None:
    """ESP and Google refuse such tokens; here it shows at the call."""
    with pytest.raises(ConfigurationError, match="lifetime"):
        service_account_jwt(info, lifetime=lifetime)
