"""Tokens of any form, signed with the key of an authority, and Envoy's words for what is wrong with them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVarTuple, Unpack

import grpc
import grpc.aio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.testing import Authority

Ts = TypeVarTuple("Ts")

OK = "OK"
MISSING = "Jwt is missing"
FORM = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
HEADER_BASE64 = "Jwt header is an invalid Base64url encoded"
HEADER_JSON = "Jwt header is an invalid JSON"
NO_ALG = "Jwt header [alg] field is required and must be a string"
UNSUPPORTED_ALG = "Jwt header [alg] is not supported"
NO_KID = "Jwt header [kid] field is not a string"
PAYLOAD_BASE64 = "Jwt payload is an invalid Base64url encoded"
PAYLOAD_JSON = "Jwt payload is an invalid JSON"
NO_AUDIENCE = "Jwt payload [aud] field is not a string or string list"
SIGNATURE_BASE64 = "Jwt signature is an invalid Base64url encoded"
ISSUER = "Jwt issuer is not configured"
EARLY = "Jwt not yet valid"
EXPIRED = "Jwt is expired"
AUDIENCE = "Audiences in Jwt are not allowed"
NO_KEY = "Jwks doesn't have key to match kid or alg from Jwt"
FORGED = "Jwt verification fails"


def no_string(claim: str) -> str:
    """Return the words for a claim that has to be a string."""
    return f"Jwt payload [{claim}] field is not a string"


def no_integer(claim: str) -> str:
    """Return the words for a claim that has to be a number."""
    return f"Jwt payload [{claim}] field is not an integer"


def out_of_range(claim: str) -> str:
    """Return the words for a claim that has to be a positive number."""
    return f"Jwt payload [{claim}] field is not a positive 64 bit integer"


@dataclass(frozen=True, kw_only=True)
class Forge:
    """Signs whatever it is given.

    Attributes:
        authority: The issuer, whose key signs.
        audience: The audience of the service, with https://.
    """

    authority: Authority
    audience: str

    def header(self, *without: str, **changed: object) -> str:
        """Return the JSON of a good header, some fields changed and some left out."""
        fields: dict[str, object] = {"alg": "RS256", "kid": self.authority.signing_key.key_id}
        fields |= changed
        return json.dumps({name: field for name, field in fields.items() if name not in without})

    def payload(self, more: str = "", *, without: str = "") -> str:
        """Return the JSON of a good payload, a claim left out, and more members at its end."""
        now = int(time.time())
        claims = {
            "iss": self.authority.issuer,
            "aud": self.audience,
            "sub": "1",
            "iat": now,
            "exp": now + 3600,
        }
        text = json.dumps({name: claim for name, claim in claims.items() if name != without})
        return with_member(text, self.filled(more)) if more else text

    def with_claim(self, claim: str, value: str) -> str:
        """Return the JSON of a payload with a claim of this value."""
        return self.payload(f'"{claim}": {value}', without=claim)

    def without(self, claim: str) -> str:
        """Return the JSON of a payload without a claim."""
        return self.payload(without=claim)

    def filled(self, text: str) -> str:
        """Fill in `{now}`, the `{issuer}`, and the audience without its scheme (`{name}`)."""
        name = self.audience.removeprefix("https://")
        values = {"{now}": str(int(time.time())), "{issuer}": self.authority.issuer, "{name}": name}
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        return text

    def sign(self, header: str | bytes, payload: str | bytes, *, bits: int = 256) -> str:
        """Return a token of two texts."""
        return self.sign_sections(encoded(header), encoded(payload), bits=bits)

    def sign_sections(self, header: str, payload: str, *, bits: int = 256) -> str:
        """Return a token of two encoded sections."""
        digest = {256: hashes.SHA256(), 384: hashes.SHA384(), 512: hashes.SHA512()}[bits]
        signed = f"{header}.{payload}"
        key = self.authority.signing_key.private_key
        return f"{signed}.{encoded(key.sign(signed.encode(), padding.PKCS1v15(), digest))}"


def with_member(text: str, member: str) -> str:
    """Return the text of an object with one more member."""
    return f"{text[:-1]}, {member}}}"


def encoded(text: str | bytes) -> str:
    """Return base64url without padding."""
    data = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A value of `authorization`, and what Envoy says of it.

    Attributes:
        name: What is odd about it.
        value: Makes the value; "" means a call without the metadata.
        verdict: The status's details; OK if the call is let in.
    """

    name: str
    value: Callable[[Forge], str]
    verdict: str

    @property
    def answer(self) -> tuple[grpc.StatusCode, str]:
        """The status code and the details that go with the verdict."""
        if self.verdict == OK:
            return grpc.StatusCode.OK, OK
        denied = self.verdict == AUDIENCE
        code = grpc.StatusCode.PERMISSION_DENIED if denied else grpc.StatusCode.UNAUTHENTICATED
        return code, self.verdict


def of_token(name: str, verdict: str, token: Callable[[Forge, Unpack[Ts]], str], *arguments: *Ts) -> Variant:
    """Return a token of any form: what `token` makes of a forge and the arguments."""
    return Variant(name=name, verdict=verdict, value=lambda forge: f"Bearer {token(forge, *arguments)}")


def of_header(
    name: str, verdict: str, header: Callable[[Forge, Unpack[Ts]], str | bytes], *arguments: *Ts
) -> Variant:
    """Return a token with another header."""
    return of_token(name, verdict, lambda forge: forge.sign(header(forge, *arguments), forge.payload()))


def of_payload(
    name: str, verdict: str, payload: Callable[[Forge, Unpack[Ts]], str | bytes], *arguments: *Ts
) -> Variant:
    """Return a token with another payload."""
    return of_token(name, verdict, lambda forge: forge.sign(forge.header(), payload(forge, *arguments)))


def of_claim(claim: str, value: str, verdict: str) -> Variant:
    """Return a token with another claim, in JSON."""
    return of_payload(f"{claim} {value}", verdict, Forge.with_claim, claim, value)


async def answers(
    channel: grpc.aio.Channel, variants: Iterable[Variant], forge: Forge
) -> dict[str, tuple[grpc.StatusCode, str]]:
    """Send each variant to a Bookstore; return the code and the details of each answer."""
    found: dict[str, tuple[grpc.StatusCode, str]] = {}
    for variant in variants:
        assert variant.name not in found, variant.name
        value = variant.value(forge)
        metadata = (("authorization", value),) if value else ()
        call = BookstoreStub(channel).ListShelves(Empty(), metadata=metadata, timeout=10)
        code = await call.code()
        found[variant.name] = (code, OK if code is grpc.StatusCode.OK else str(await call.details()))
    return found
