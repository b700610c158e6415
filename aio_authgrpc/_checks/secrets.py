"""Cutting secrets out of texts from elsewhere: of servers, of google-auth, of users' code."""

from __future__ import annotations

import functools
import re


def redacted(text: str) -> str:
    """Return `text` with everything that looks like a token, a key or an assertion cut out."""
    return _secrets().sub(
        lambda found: (found[found.lastgroup] if found.lastgroup else "") + "[redacted]", text
    )


@functools.cache  # compiled at its first use: at import it would take a tenth of the package's time
def _secrets() -> re.Pattern[str]:
    """Match JWTs, also cut short; opaque tokens and keys of known shapes; PEM blocks, headers, and fields.

    The fields are those of OAuth that carry secrets, in JSON, in JSON within a string, in the repr of a dict,
    and in a form, also percent-encoded.
    """
    name = r"(?:\w*token|\w*secret\w*|\w*password|assertion|private_?key|signed_?(?:jwt|blob)|api_?key)"
    return re.compile(
        r"(?P<userinfo>://)[^\s/@'\"]+(?=@)"
        r"|(?P<segments>segments in token: )\S+"
        r"|eyJ[\w-]{8,}(?:\.[\w-]*){0,2}"
        r"|ya29\.[\w.-]+|1//[\w-]{8,}|AIza[\w-]{20,}|GOCSPX-[\w-]+"
        r"|-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)"
        r"|(?P<header>\b(?:bearer|basic) )(?!realm=)[\w.~+/-]{6,}=*"
        rf"|(?P<quoted>\\?[\"']{name}\\?[\"']\s*:\s*b?\\?[\"'])[^\"']+"
        rf"|(?P<form>(?:^|[&?\s\"']){name}(?:=|%3D))[^&\s\"'\[(]+",
        re.DOTALL | re.IGNORECASE,
    )
