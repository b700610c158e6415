"""Checks of the fields of credential files: each returns what is wrong with a value, or ""."""

from __future__ import annotations

import datetime
import urllib.parse
from collections.abc import Callable, Mapping
from typing import cast

from aio_authgrpc._http.urls import keeps_secrets

Check = Callable[[object], str]
Fields = Mapping[str, Check]
_NEEDS_HTTPS = "needs an https URL (http is for this machine only: a secret is sent there)"


def of_type(kind: type, expected: str) -> Check:
    return lambda value: "" if isinstance(value, kind) else f"needs {expected}, not {type(value).__name__}"


flag = of_type(bool, "true or false")
json_object = of_type(dict, "an object")
_string = of_type(str, "a string")


def text(value: object) -> str:
    """Check for a string that a request can carry; JSON can hold half a character."""
    half = any("\ud800" <= each <= "\udfff" for each in value) if isinstance(value, str) else False
    return "has half a surrogate pair" if half else _string(value)


def texts(value: object) -> str:
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value))
    return "" if is_list else "needs a list of strings"


def scopes(value: object) -> str:
    return "" if isinstance(value, str) else texts(value)


def headers(value: object) -> str:
    good = isinstance(value, dict) and texts(list(cast("dict[str, object]", value).values())) == ""
    return "" if good else "needs an object whose values are strings"


def positive(value: object) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return "" if good else "needs a positive whole number"


def instant(value: object) -> str:
    """Check for a time in UTC as google-auth writes it."""
    try:
        datetime.datetime.strptime(str(value).rstrip("Z").split(".", maxsplit=1)[0], "%Y-%m-%dT%H:%M:%S")  # noqa: DTZ007 - only whether it can be read
    except ValueError:
        return "needs a time such as 2030-01-31T23:59:59Z"
    return text(value)


def secure_url(value: object) -> str:
    """Check for a URL to which a secret may be sent: over TLS, or on this machine."""
    if not isinstance(value, str):
        return _string(value)
    try:
        parts = urllib.parse.urlsplit(value)
        host = (parts.hostname or "") if parts.port != 0 else ""
    except ValueError:
        return _NEEDS_HTTPS
    printable = value.isascii() and value.isprintable() and " " not in value
    return "" if host and keeps_secrets(value) and printable else _NEEDS_HTTPS


def google_token_url(value: object) -> str:
    """Check that a login's token endpoint is Google's, where google-auth sends the refresh token anyway."""
    problem = secure_url(value)
    host = "" if problem else urllib.parse.urlsplit(str(value)).hostname or ""
    if problem or host == "accounts.google.com" or host.endswith(".googleapis.com"):
        return problem
    return (
        "names an endpoint that is not Google's, and google-auth would send the refresh token to Google's. "
        "Pass an object of google.oauth2.credentials.Credentials(..., token_uri=...) as credentials= instead"
    )


def impersonation_url(value: object) -> str:
    problem = secure_url(value)
    if problem or impersonated_email(str(value)):
        return problem
    return "needs a URL that ends in '/<email>:generateAccessToken'"


def impersonated_email(url: str) -> str:
    email, colon, _ = url.rpartition("/")[2].partition(":generateAccessToken")
    return email if colon else ""


ANY: Fields = {"quota_project_id": text, "universe_domain": text}
SAVED_TOKEN: Fields = {"token": text, "expiry": instant, "scopes": scopes}
CLIENT: Fields = {"client_id": text, "client_secret": text}
