"""The claims of a token that is a JWT, read without its signature."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
from collections.abc import Mapping
from typing import cast

_INSTANTS = ("iat", "nbf", "exp", "auth_time")


def claims_of(token: str) -> Mapping[str, object] | None:
    """Return the payload of a JWT; None where the token is opaque."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload: object = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return cast("Mapping[str, object]", payload) if isinstance(payload, dict) else None


def with_dates(claims: Mapping[str, object]) -> dict[str, object]:
    """Return the claims for people: instants as dates, too."""
    return {name: _dated(name, value) for name, value in claims.items()}


def audiences_of(claims: Mapping[str, object]) -> list[str]:
    """Return the values of `aud`."""
    audience = claims.get("aud", [])
    named = cast("list[object]", audience) if isinstance(audience, list) else [audience]
    return [str(one) for one in named]


def lifetime(seconds: float) -> str:
    """Return how long something still lives, or since when it is over."""
    minutes, rest = divmod(round(abs(seconds)), 60)
    text = f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
    return f"expires in {text}" if seconds > 0 else f"expired {text} ago"


def _dated(name: str, value: object) -> object:
    if name not in _INSTANTS or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return f"{value} ({datetime.datetime.fromtimestamp(value, tz=datetime.UTC):%Y-%m-%d %H:%M:%S} UTC)"
    except (ValueError, OverflowError, OSError):
        return value
