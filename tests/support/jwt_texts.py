"""JSON that is odd, as the header and the payload of a token, with Envoy 1.40's verdict."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .jwt_forge import (
    FORM,
    HEADER_JSON,
    ISSUER,
    NO_ALG,
    OK,
    PAYLOAD_JSON,
    Forge,
    Variant,
    of_header,
    of_payload,
    with_member,
)

GOOD_MEMBERS = (
    '"x": 1e5', '"x": 1E5', '"x": 1e+5', '"x": 1e05', '"x": 0e1', '"x": 1.0e5', '"x": -0', '"x": 1e-400',
    f'"x": {"1" * 300}', f'"x": 0.{"9" * 400}', '"x": 1.7976931348623157e308', '"x": true', '"x": null',
    '"x": []', '"x": {}', '"x": [1,]', '"x": {"a": 1,}', '"x": 1,', '"": 1', '"x"\t:\n1', "x: 1", "_: 1",
    "a1: 1", "nullx: 1", "'x': 1", "\"x\": 'a\"b'", '"x": "a\'b"', r'"x": "\u0000"', r'"x": "\u00AB"',
    r'"x": "\U00000041"', r'"x": "\/"', r'"x": "\'"', r'"x": "\ud83d\ude00"', '"x": "a\nb\tc\0d\x7f"',
    '"x\0y": 1', '"x": "\u00e9 \uffff\U0010ffff"',
)  # fmt: skip
BAD_MEMBERS = (
    '"x": NaN', '"x": nan', '"x": Infinity', '"x": -Infinity', '"x": 01', '"x": 00', '"x": -01', '"x": +1',
    '"x": .5', '"x": 5.', '"x": 1.e5', '"x": 0x10', '"x": -', '"x": --1', '"x": 1e', '"x": 1e+', '"x": e5',
    '"x": 1_0', '"x": 1a', '"x": 1 a', '"x": 1.2.3', '"x": 1\0', '"x": 1e400', '"x": 1e99999999999',
    f'"x": {"9" * 400}', '"x": 1.7976931348623159e308', '"x": -1.8e308', '"x": True', '"x": truex',
    '"x": t rue', '"x": nul', '"x": undefined', '"x": [1,,2]', '"x": [,1]', '"x": [,]', '"x": [1 2]',
    '"x": [', '"x": [}', '"x": {,}', '"x" 1', '"x":', '"x": 1 "y": 2', ', "x": 1', "1: 2", "null: 1",
    "true: 1", "a-b: 1", "a$: 1", "1a: 1", "\u00e9: 1", "a b: 1", r'"x": "\q"', r'"x": "\v"',
    r'"x": "\x41"', r'"x": "\u12"', r'"x": "\u+123"', r'"x": "\u 041"', r'"x": "\u00G1"',
    r'"x": "\ud800"', r'"x": "\udc00"', r'"x": "\ud83d\u0041"', r'"x": "\ude00\ud83d"',
    r'"x": "\Ud83d\Ude00"', r'"x": "\ud83d\Ude00"', '"x": 1, "x": 2', '"x": {"a": 1, "a": 2}',
    "/* a comment */", "//",
)  # fmt: skip
REPEATED = ('"sub": "2"', '"exp": 9999999999', '"iss": "{issuer}"', r'"\u0061ud": "x"')
# The object itself is the first level.
DEPTHS = {50: True, 99: True, 100: False, 1000: False}

CODES = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig")


def in_place(text: str) -> Callable[[str], str]:
    return lambda _: text


def between(before: str, behind: str) -> Callable[[str], str]:
    return lambda text: f"{before}{text}{behind}"


def encoded_as(code: str) -> Callable[[str], bytes]:
    return lambda text: text.encode(code)


def with_bytes(data: bytes) -> Callable[[str], bytes]:
    return lambda text: with_member(text, '"x": "?"').encode().replace(b"?", data)


DOCUMENTS: dict[bool, dict[str, Callable[[str], str | bytes]]] = {
    True: {
        "blanks": between(" \n\t\r", " \n"),
        "single quotes": lambda text: text.replace('"', "'"),
        "comma": lambda text: f"{text[:-1]},}}",
    },
    False: {
        **{repr(text): in_place(text) for text in ("[]", '"x"', "1", "true", " ", "nullx")},
        **{code: encoded_as(code) for code in CODES},
        **{f"{end!r} behind": between("", end) for end in ("x", "\0", "{}", "//x")},
        **{f"{start!r} before": between(start, "") for start in ("\u00a0", "\f", "/**/")},
        **{
            repr(data): with_bytes(data)
            for data in (b"\xe9", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80")
        },
    },
}


@dataclass(frozen=True)
class Section:
    """A section of JSON, with its verdicts: what is no JSON, and what is an empty object."""

    name: str
    good: Callable[[Forge], str]
    bad: str
    empty: str

    def variant(self, title: str, verdict: str, change: Callable[[str], str | bytes]) -> Variant:
        """Return a token with this section changed."""
        of_section = of_header if self.name == "header" else of_payload
        return of_section(f"{self.name} {title}", verdict, lambda forge: change(self.good(forge)))

    def variants(self) -> Iterator[Variant]:
        """Yield what is odd about the JSON."""
        members = dict.fromkeys(GOOD_MEMBERS, OK) | dict.fromkeys(BAD_MEMBERS, self.bad)
        for depth, fine in DEPTHS.items():
            members[f'"x": {"[" * depth}{"]" * depth}'] = OK if fine else self.bad
        for member, verdict in members.items():
            title = f"{member[:60]!r} {len(member)}"
            yield self.variant(title, verdict, functools.partial(with_member, member=member))
        for fine, changes in DOCUMENTS.items():
            for title, change in changes.items():
                yield self.variant(title, OK if fine else self.bad, change)
        for text, verdict in {"": FORM, "{}": self.empty, "null": self.empty, " null ": self.empty}.items():
            yield self.variant(repr(text), verdict, in_place(text))


def texts() -> Iterator[Variant]:
    yield from Section("header", Forge.header, HEADER_JSON, NO_ALG).variants()
    yield from Section("payload", Forge.payload, PAYLOAD_JSON, ISSUER).variants()
    yield from (of_payload(member, PAYLOAD_JSON, Forge.payload, member) for member in REPEATED)
