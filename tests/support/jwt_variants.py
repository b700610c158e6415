"""Tokens of every odd form that can be sent, and Envoy 1.40's verdict on each, in families.

`tests/envoy` asks Envoy and the guard of the test servers, `tests/testing` the guard alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator

from .jwt_forge import (
    AUDIENCE,
    EARLY,
    EXPIRED,
    FORGED,
    FORM,
    HEADER_BASE64,
    ISSUER,
    MISSING,
    NO_ALG,
    NO_AUDIENCE,
    NO_KEY,
    NO_KID,
    OK,
    PAYLOAD_BASE64,
    PAYLOAD_JSON,
    SIGNATURE_BASE64,
    UNSUPPORTED_ALG,
    Forge,
    Variant,
    encoded,
    no_integer,
    no_string,
    of_claim,
    of_header,
    of_payload,
    of_token,
    out_of_range,
)
from .jwt_texts import texts

# The value of `authorization`, where T is a good token, and H, P and S are its sections.
VALUES: dict[str, tuple[str, ...]] = {
    OK: ("Bearer T", "Bearer  T", " Bearer T", "Bearer T ", "Bearer !! T", "Bearer == T", "Bearer /+T",
         "Basic dXNlcg== Bearer T", "Bearer T.", "Bearer T..", "Bearer .T", "Bearer .T.", "Bearer H..P.S",
         "Bearer H.P..S", "Bearer T==", "Bearer T =="),
    MISSING: ("", "T", "bearer T", "BEARER T", "Bearer", "BearerT"),
    FORM: ("Bearer ", "Bearer .", "Bearer !!!", "Bearer nonsense", "Bearer a.b", "Bearer ..",
           "Bearer a.b.c.d", "Bearer T,Bearer T", "Bearer H.P", "Bearer H.P.", "Bearer H..S", "Bearer .P.S",
           "Bearer T.e30"),
    HEADER_BASE64: ("Bearer Bearer T", 'Bearer {"jwt": "T"}'),
    NO_ALG: ("Bearer e30.P.S", "Bearer e30K.P.S"),
    ISSUER: ("Bearer H.e30.S",),
    SIGNATURE_BASE64: ('Bearer "T"', "Bearer T,x", "Bearer T=", "Bearer T===", "Bearer H.e30.A"),
    FORGED: ("Bearer T x", "Bearer TA", "Bearer TAAAA", "Bearer H.P.AAAA", "Bearer H.P .S"),
    PAYLOAD_JSON: ("Bearer H.eA.A",),
}  # fmt: skip


def value_of(text: str) -> Callable[[Forge], str]:
    def value(forge: Forge) -> str:
        token = forge.sign(forge.header(), forge.payload())
        sections = dict(zip("HPS", token.split("."), strict=True)) | {"T": token}
        return "".join(sections.get(letter, letter) for letter in text)

    return value


def values() -> Iterator[Variant]:
    for verdict, written in VALUES.items():
        yield from (Variant(name=text, verdict=verdict, value=value_of(text)) for text in written)


# What follows on the base64 of a payload whose last group has two characters, or four.
ENDINGS: dict[tuple[int, str], tuple[str, ...]] = {
    (2, OK): ("", " ", "==", "= =", " ==", "== ", "spare bits"),
    (2, PAYLOAD_BASE64): ("=", "===", "====", "=A", "==A", ","),
    (2, PAYLOAD_JSON): ("A=",),
    (4, OK): ("", " "),
    (4, PAYLOAD_BASE64): ("=", "==", "====", "A", "A=", "+///"),
}


def with_spare_bits(section: str) -> str:
    return section[:-1] + chr(ord(section[-1]) + 1)


def with_ending(forge: Forge, group: int, ending: str) -> str:
    text = forge.payload()
    payload = encoded(text + " " * (((group == 2) - len(text)) % 3))
    return forge.sign_sections(
        encoded(forge.header()), with_spare_bits(payload) if ending == "spare bits" else payload + ending
    )


def sections() -> Iterator[Variant]:
    for (group, verdict), endings in ENDINGS.items():
        for ending in endings:
            yield of_token(f"payload {group} {ending!r}", verdict, with_ending, group, ending)
    yield of_token("spare bits, signature", OK, lambda forge: with_spare_bits(with_ending(forge, 2, "")))


HEADERS: dict[str, tuple[dict[str, object], ...]] = {
    OK: ({"kid": ""}, {"typ": "JWT"}, {"typ": "at+jwt"}, {"typ": 1}, {"cty": "JWT"}, {"zip": "DEF"},
         {"crit": ["exp"]}, {"crit": ["unknown"]}, {"b64": False, "crit": ["b64"]}, {"jwk": {"kty": "oct"}},
         {"jku": "http://127.0.0.1:9"}),
    NO_ALG: ({"alg": None}, {"alg": 256}, {"alg": 1, "kid": 1}),
    UNSUPPORTED_ALG: ({"alg": ""}, {"alg": "none"}, {"alg": "rs256"}, {"alg": "ES256K"}, {"alg": "Ed25519"},
                      {"alg": "RSA-OAEP"}, {"alg": "x", "kid": 1}),
    NO_KID: ({"kid": None}, {"kid": 1}, {"kid": []}),
    NO_KEY: ({"kid": "unknown"}, {"alg": "PS256"}, {"alg": "ES256"}, {"alg": "HS256"}, {"alg": "RS384"},
             {"alg": "PS384"}, {"alg": "ES384"}, {"alg": "HS384"}, {"alg": "PS512"}, {"alg": "ES512"},
             {"alg": "HS512"}, {"alg": "EdDSA"}),
}  # fmt: skip


def changed_header(forge: Forge, changed: dict[str, object]) -> str:
    return forge.header(**changed)


def headers() -> Iterator[Variant]:
    for verdict, changes in HEADERS.items():
        for changed in changes:
            yield of_header(json.dumps(changed), verdict, changed_header, changed)
    yield of_header("no kid", OK, Forge.header, "kid")
    yield of_header("no alg", NO_ALG, Forge.header, "alg")
    yield of_token(
        "signed with RS512",
        NO_KEY,
        lambda forge: forge.sign(forge.header(alg="RS512"), forge.payload(), bits=512),
    )


# 18446744073709550591 is the last number that is less than 2 ** 64 as a double.
LARGE = ("1e10", "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709550591")
SMALL = ("0", "-0", "0.5", "1", "1e9", "{now}", "{now}.5")
NEVER = ("0", "-0", "0.5")
NO_INTEGERS = ("null", "true", "false", '"soon"', '""', '"{now}"', '"NaN"', '"Infinity"', "[]", "{}", "[1]")
OUT_OF_RANGE = ("-1", "-0.5", "1e308", "18446744073709550592", "18446744073709551616", "9" * 30)
NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e400")
TIMES: dict[str, dict[str, tuple[str, ...]]] = {
    "exp": {OK: (*NEVER, "{now}", "{now}.5", *LARGE), EXPIRED: ("1", "1e9")},
    "nbf": {OK: SMALL, EARLY: LARGE},
    "iat": {OK: (*SMALL, *LARGE)},
}
# Seconds from now. Envoy tolerates a minute; the distance to it is for the time that passes meanwhile.
SHIFTS: dict[str, dict[int, str]] = {
    "exp": {-1000: EXPIRED, -62: EXPIRED, -50: OK, 1000: OK},
    "nbf": {-1000: OK, 58: OK, 75: EARLY, 1000: EARLY},
    "iat": {-1000: OK, 1000: OK},
}


def shifted(forge: Forge, claim: str, shift: int) -> str:
    return forge.with_claim(claim, str(int(time.time()) + shift))


def times() -> Iterator[Variant]:
    for claim, known in TIMES.items():
        refused = {
            no_integer(claim): NO_INTEGERS,
            out_of_range(claim): OUT_OF_RANGE,
            PAYLOAD_JSON: NO_NUMBERS,
        }
        for verdict, written in (refused | known).items():
            yield from (of_claim(claim, value, verdict) for value in written)
        for shift, verdict in SHIFTS[claim].items():
            yield of_payload(f"{claim} {shift:+}", verdict, shifted, claim, shift)
        yield of_payload(f"no {claim}", OK, Forge.without, claim)


def names() -> Iterator[Variant]:
    for claim, without in (("iss", ISSUER), ("sub", OK), ("jti", OK)):
        for value in ("null", "1", "true", "[]", "{}", "[null]", '["{issuer}"]'):
            yield of_claim(claim, value, no_string(claim))
        yield of_claim(claim, '""', without)
        yield of_payload(f"no {claim}", without, Forge.without, claim)
    for value in ('"https://somebody.example"', '"{issuer}/"', '"{issuer} "', '"X{issuer}"'):
        yield of_claim("iss", value, ISSUER)


AUDIENCES: dict[str, tuple[str, ...]] = {
    OK: ('"https://{name}"', '"https://{name}/"', '"http://{name}"', '"http://{name}/"', '"{name}"',
         '"{name}/"', '["https://{name}"]', '["x", "{name}/"]', '["", "https://{name}"]', '"{issuer}/"'),
    AUDIENCE: ('""', "[]", '[""]', '"/"', '"https://"', '"https://{name}//"', '"{name}//"', '"HTTPS://{name}"',
               '"https://X{name}"', '"ftp://{name}"', '"//{name}"', '"https:{name}"', '"https:/{name}"',
               '"https://https://{name}"', '"http://https://{name}"', '"https://{name} "', '" https://{name}"',
               '"https://{name}/path"', '"https://{name}:443"', '"https://x.{name}"', '"https://{name}."',
               '"https://{name}?x"', '"x,https://{name}"', r'"https://{name}\u0000"', '"https://x.example"'),
    NO_AUDIENCE: ("null", "1", "true", "{}", "[null]", '["https://{name}", 1]', '["https://{name}", []]',
                  '[["https://{name}"]]', '{"a": "https://{name}"}'),
}  # fmt: skip


def audiences() -> Iterator[Variant]:
    for verdict, written in AUDIENCES.items():
        yield from (of_claim("aud", value, verdict) for value in written)
    yield of_payload("no aud", AUDIENCE, Forge.without, "aud")


# What is wrong twice: the first check refuses.
WRONG_TWICE = {
    '{"iss": 1, "sub": 1, "exp": "x"}': no_string("iss"),
    '{"sub": 1, "iat": "x"}': no_string("sub"),
    '{"iat": "x", "nbf": -1}': no_integer("iat"),
    '{"nbf": "x", "exp": -1}': no_integer("nbf"),
    '{"exp": "x", "jti": 1, "iss": "x"}': no_integer("exp"),
    '{"jti": 1, "aud": 1}': no_string("jti"),
    '{"iss": "x", "exp": 1, "aud": "x"}': ISSUER,
    '{"iss": "{issuer}", "exp": 1, "nbf": 9999999999}': EARLY,
    '{"iss": "{issuer}", "exp": 1, "aud": "x"}': EXPIRED,
}


def order() -> Iterator[Variant]:
    for payload, verdict in WRONG_TWICE.items():
        yield of_payload(payload, verdict, Forge.filled, payload)
    yield of_token("alg, JSON", UNSUPPORTED_ALG, lambda forge: forge.sign('{"alg": "none"}', "x"))
    yield of_token(
        "aud, kid",
        AUDIENCE,
        lambda forge: forge.sign(forge.header(kid="unknown"), forge.with_claim("aud", '"x"')),
    )


FAMILIES: dict[str, Callable[[], Iterable[Variant]]] = {
    family.__name__: family for family in (values, sections, headers, texts, times, names, audiences, order)
}
