"""The forms in which a token endpoint may repeat a secret that it was sent."""

from __future__ import annotations

import base64
import html
import json
import quopri
import urllib.parse
from collections.abc import Callable

Encode = Callable[[str], str]


def percent(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def each(template: str) -> Encode:
    """Return what writes each character by a template of its number."""
    return lambda text: "".join(template.format(ord(char)) for char in text)


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def base64_url(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def inside_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def form(secret: str) -> str:
    return urllib.parse.urlencode({"x": secret})


def lower_escapes(text: str) -> str:
    return percent(text).replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d")


ENCODINGS: dict[str, Encode] = {
    # as it is
    "raw": str,
    "in quotes": lambda s: f'"{s}"',
    "upper case": str.upper,
    "lower case": str.lower,
    "after a scheme": lambda s: f"MyScheme {s}",
    "in a path": lambda s: f"http://host/{s}/x",
    "in CDATA": lambda s: f"<![CDATA[{s}]]>",
    "repr of a str": repr,
    "repr of bytes": lambda s: repr(s.encode()),
    "repr of a dict": lambda s: repr({"x": s}),
    "on many lines": lambda s: "\n".join(s[at : at + 5] for at in range(0, len(s), 5)),
    "with blanks": " ".join,
    "with NULs": "\0".join,
    # percent
    "percent": percent,
    "percent, lower case": lower_escapes,
    "percent, both cases": lambda s: lower_escapes(s[:20]) + percent(s[20:]),
    "percent, plus for blanks": urllib.parse.quote_plus,
    "percent, slashes kept": urllib.parse.quote,
    "percent, each": each("%{:02X}"),
    "percent, each, lower case": each("%{:02x}"),
    "percent, twice": lambda s: percent(percent(s)),
    "percent, three times": lambda s: percent(percent(percent(s))),
    "percent, JavaScript's": each("%u{:04X}"),
    "form": form,
    "form, percent": lambda s: percent(form(s)),
    "form in a URL": lambda s: f"http://h/?{form(s)}",
    # HTML and XML
    "HTML": html.escape,
    "HTML, decimal": each("&#{};"),
    "HTML, decimal, padded": each("&#{:07};"),
    "HTML, decimal, no semicolons": each("&#{} "),
    "HTML, hexadecimal": each("&#x{:x};"),
    "HTML, hexadecimal, upper case": each("&#X{:X};"),
    "HTML, names": lambda s: s.replace("&", "&amp;").replace("/", "&sol;").replace("+", "&plus;"),
    "HTML, twice": lambda s: html.escape(html.escape(s)),
    "HTML, decimal, twice": lambda s: html.escape(each("&#{};")(s)),
    "HTML of percent": lambda s: each("&#x{:x};")(percent(s)),
    "percent of HTML": lambda s: percent(html.escape(s)),
    "HTML of JSON": lambda s: html.escape(json.dumps([s])),
    # JSON and source code
    "JSON": lambda s: json.dumps({"x": s}),
    "JSON, slashes escaped": lambda s: inside_json(s).replace("/", "\\/"),
    "JSON, each": each("\\u{:04x}"),
    "JSON, each, upper case": each("\\u{:04X}"),
    "JSON in JSON": lambda s: json.dumps(json.dumps({"x": s})),
    "JSON in JSON, each": lambda s: json.dumps(each("\\u{:04x}")(s)),
    "JSON of HTML": lambda s: json.dumps({"x": html.escape(s)}),
    "JSON of percent": lambda s: json.dumps({"x": percent(s)}),
    "code points": each("\\u{{{:x}}}"),
    "hexadecimal escapes": each("\\x{:02x}"),
    "octal escapes": each("\\{:03o}"),
    # base64
    "base64": base64_of,
    "base64, no padding": lambda s: base64_of(s).rstrip("="),
    "base64, URL-safe": base64_url,
    "base64, wrapped": lambda s: base64.encodebytes((s * 3).encode()).decode(),
    "base64, wrapped, in JSON": lambda s: inside_json(base64.encodebytes((s * 3).encode()).decode()),
    "base64 after letters": lambda s: "token_" + base64_url(s),
    "base64 of a form": lambda s: base64_of(form(s)),
    "base64 of JSON": lambda s: base64_of(json.dumps({"x": s})),
    "base64 of percent": lambda s: base64_of(percent(s)),
    "base64 of HTML": lambda s: base64_of(html.escape(s)),
    "base64 of UTF-16": lambda s: base64.b64encode(s.encode("utf-16-le")).decode(),
    "base64, twice": lambda s: base64_of(base64_of(s)),
    "base64 of Basic": lambda s: base64_of(f"a-client-id:{s}"),
    "data URL": lambda s: f"data:;base64,{base64_of(s)}",
    # numbers
    "hexadecimal": lambda s: s.encode().hex(),
    "hexadecimal, upper case": lambda s: s.encode().hex().upper(),
    "hexadecimal with colons": lambda s: s.encode().hex(":"),
    "hexadecimal with blanks": lambda s: f"<Buffer {s.encode().hex(' ')}>",
    "hexadecimal, C's": lambda s: ", ".join(f"0x{byte:02x}" for byte in s.encode()),
    "numbers": lambda s: json.dumps(list(s.encode())),
    # mail
    "quoted-printable": lambda s: quopri.encodestring(s.encode(), quotetabs=True).decode(),
    "quoted-printable, each": each("={:02X}"),
}
"""The names of the forms, and what writes a secret in each of them."""
