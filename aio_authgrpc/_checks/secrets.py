"""Cutting secrets out of texts from elsewhere: of servers, of google-auth, of users' code."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from aio_authgrpc._checks.decoded import decoded, escapes, without
from aio_authgrpc._checks.known_secrets import KnownSecrets


def redacted(text: str, known: KnownSecrets | None = None) -> str:
    """Return `text` with everything that looks like a token, a key or an assertion cut out.

    Secrets that are `known` are cut out by their value, whatever they look like.
    """
    if known is not None:
        text = known.cut_out_of(text)
    text = _secrets().sub(
        lambda found: (found[found.lastgroup] if found.lastgroup else "") + "[redacted]", text
    )
    return without(text, _escaped_places(text)) if escapes().search(text) else text


# PEM, a JWT, and what Google's keys and tokens begin with; PEM and JSON in base64.
_BEGINNINGS = ("-----BEGIN", "eyJ", "ya29.", "1//", "AIza", "GOCSPX-", "LS0tLS1", "ewo")
# The base64 of a key begins with MII, and so may the name of a file.
_LONGEST_NAME = 100


def is_secret(text: str) -> bool:
    """Return whether a text in the place of a path is certainly a secret."""
    text = text.lstrip()
    return text.startswith(_BEGINNINGS) or (text.startswith("MII") and len(text) > _LONGEST_NAME)


def shown(given: object) -> str:
    """Return what a user passed as a path or a name, unless it looks like a secret in the wrong place."""
    text = str(given)
    return text if redacted(text) == text and not is_secret(text) else "[a text that looks like a secret]"


def _escaped_places(text: str) -> Iterator[tuple[int, int]]:
    for level in decoded(text).levels():
        for found in _secrets().finditer(level.chars):
            # A group is what stands before the secret.
            start = found.end(found.lastgroup) if found.lastgroup else found.start()
            yield level.starts[start], level.ends[found.end() - 1]


@functools.cache  # compiled at its first use: at import it would take a tenth of the package's time
def _secrets() -> re.Pattern[str]:
    """Match JWTs, also cut short; tokens and keys of known shapes; PEM blocks, headers, and fields.

    A long word of both cases with digits here and there is an opaque token. Hexadecimal digits may be the
    number of a request, and stay.

    The fields are those of OAuth that carry secrets, in JSON, in JSON within a string, in the repr of a dict,
    and in a form, also percent-encoded.
    """
    name = (
        r"(?:[\w-]*(?:token|secret[\w-]*|password)|assertion|private_?key|signed_?(?:jwt|blob)"
        r"|[\w-]*api[_-]?key)"
    )
    return re.compile(
        r"(?P<userinfo>://)[^\s/@'\"]+(?=@)"
        r"|(?P<segments>segments in token: )(?!\[redacted\]).+"
        r"|eyJ[\w-]{8,}(?:\.[\w-]*){0,2}"
        # PEM, an object of JSON and DER in base64.
        r"|(?-i:LS0tLS1|ew[o0]|MII|MIGHAgEA|MIGkAgEB|MHcCAQEE|MC4CAQAw)[\w+/-]{30,}"
        r"|ya29\.[\w.-]+|1//[\w-]{8,}|AIza[\w-]{20,}|GOCSPX-[\w-]+"
        r"|-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)"
        r"|(?P<header>\b(?:bearer|basic) )(?!realm=)[\w.~+/-]{6,}=*"
        rf"|(?P<quoted>\\?[\"']{name}\\?[\"']\s*:[\s\[(]*b?\\?[\"'])[^\"']+"
        r"|(?-i:(?<![\w-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=(?:\d*[A-Za-z_-]+\d){3})[\w-]{20,})"
        rf"|(?P<form>(?:^|[&?\s\"']){name}(?:=|%3D))[^&\s\"'\[(]+",
        re.DOTALL | re.IGNORECASE,
    )
