"""Reading a JWT: its three sections, its header, and the types of its claims. Nothing is verified.

The rules, their order and the words of a refusal are those of Envoy 1.40's `jwt_verify_lib`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from aio_authgrpc.testing.guard.protobuf_json import read_struct
from aio_authgrpc.testing.guard.refusal import unauthenticated

_ALGORITHMS = frozenset(
    f"{family}{bits}" for family in ("RS", "PS", "ES", "HS") for bits in (256, 384, 512)
) | {"EdDSA"}

_BASE64 = re.compile(r"([A-Za-z0-9_-]*)(=*)")
_BLANK = re.compile(r"\s+")
_BEFORE_A_TOKEN = re.compile(r"[^A-Za-z0-9_.-]*")
_SECTIONS = 3
# A last group of one character would encode six bits.
_NO_LENGTH = 3
_PREFIX = "Bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwt:
    """A JWT that has the right form.

    Attributes:
        algorithm: The `alg` of its header, such as RS256.
        key_id: The `kid` of its header; "" without one.
        claims: Its payload.
        signed: The bytes that the signature is for.
        signature: The signature.
    """

    algorithm: str
    key_id: str
    claims: Mapping[str, object] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def bearer_token(value: str) -> str | None:
    """Return the token in the value of a header; None without one. The scheme may stand anywhere in it."""
    _, scheme, rest = value.partition(_PREFIX)
    return _BEFORE_A_TOKEN.sub("", rest, count=1) if scheme else None


def read_jwt(token: str) -> Jwt:
    """Return the parts of a token.

    Raises:
        RefusedError: It has another form, or a claim of a wrong type.
    """
    sections = [section for section in token.split(".") if section]
    if len(sections) != _SECTIONS or token.count(".") < _SECTIONS - 1:
        raise unauthenticated(
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
        )
    header = read_section(sections[0], "header")
    algorithm, key_id = header.get("alg"), header.get("kid", "")
    if not isinstance(algorithm, str):
        raise unauthenticated("Jwt header [alg] field is required and must be a string")
    if algorithm not in _ALGORITHMS:
        raise unauthenticated("Jwt header [alg] is not supported")
    if not isinstance(key_id, str):
        raise unauthenticated("Jwt header [kid] field is not a string")
    claims = read_section(sections[1], "payload")
    _check_types(claims)
    return Jwt(
        algorithm=algorithm,
        key_id=key_id,
        claims=claims,
        signed=f"{sections[0]}.{sections[1]}".encode(),
        signature=_decoded(sections[2], "signature"),
    )


def read_section(section: str, name: str) -> dict[str, object]:
    """Return the object in a section, which is the "header" or the "payload".

    Raises:
        RefusedError: It is not an object in JSON in base64url.
    """
    data = _decoded(section, name)
    try:
        return read_struct(data)
    except ValueError as exc:
        raise unauthenticated(f"Jwt {name} is an invalid JSON") from exc


def _decoded(section: str, name: str) -> bytes:
    """Return the bytes of base64url text: blanks are skipped, padding is whole or missing."""
    found = _BASE64.fullmatch(_BLANK.sub("", section))
    if found is not None:
        missing = -len(found[1]) % 4
        if missing != _NO_LENGTH and len(found[2]) in (0, missing):
            return base64.urlsafe_b64decode(found[1] + "=" * missing)
    raise unauthenticated(f"Jwt {name} is an invalid Base64url encoded")


def _check_types(claims: Mapping[str, object]) -> None:
    for name in ("iss", "sub"):
        _check_string(claims, name)
    for name in ("iat", "nbf", "exp"):
        _check_time(claims, name)
    _check_string(claims, "jti")
    audiences = claims.get("aud", "")
    several = cast("list[object]", audiences) if isinstance(audiences, list) else [audiences]
    if not all(isinstance(audience, str) for audience in several):
        raise unauthenticated("Jwt payload [aud] field is not a string or string list")


def _check_string(claims: Mapping[str, object], name: str) -> None:
    if not isinstance(claims.get(name, ""), str):
        raise unauthenticated(f"Jwt payload [{name}] field is not a string")


def _check_time(claims: Mapping[str, object], name: str) -> None:
    value = claims.get(name, 0)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise unauthenticated(f"Jwt payload [{name}] field is not an integer")
    # As a double: numbers that round up to 2 ** 64 are out of range.
    if not 0 <= float(value) < 2**64:
        raise unauthenticated(f"Jwt payload [{name}] field is not a positive 64 bit integer")
