"""Checks of the fields of credential files: each returns what is wrong with a value, or ""."""

from __future__ import annotations

import datetime
import urllib.parse
from collections.abc import Callable, Mapping
from typing import cast

from aio_authgrpc._http.urls import is_loopback

Check = Callable[[object], str]
Fields = Mapping[str, Check]


def text(value: object) -> str:
    """Check for a string that a request can carry."""
    if not isinstance(value, str):
        return _wrong_type(value, "a string")
    # JSON can hold half a character.
    return "has half a surrogate pair" if any("\ud800" <= each <= "\udfff" for each in value) else ""


def texts(value: object) -> str:
    """Check for a list of strings."""
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value))
    return "" if is_list else "needs a list of strings"


def scopes(value: object) -> str:
    """Check for a list of strings, or one string with blanks between them."""
    return "" if isinstance(value, str) else texts(value)


def json_object(value: object) -> str:
    """Check for an object."""
    return "" if isinstance(value, dict) else _wrong_type(value, "an object")


def headers(value: object) -> str:
    """Check for an object whose values are strings."""
    good = isinstance(value, dict) and texts(list(cast("dict[str, object]", value).values())) == ""
    return "" if good else "needs an object whose values are strings"


def flag(value: object) -> str:
    """Check for true or false."""
    return "" if isinstance(value, bool) else _wrong_type(value, "true or false")


def positive(value: object) -> str:
    """Check for a positive whole number."""
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
        return text(value)
    try:
        parts = urllib.parse.urlsplit(value)
        host, port_is_good = parts.hostname or "", parts.port != 0
    except ValueError:
        host, port_is_good, parts = "", False, urllib.parse.urlsplit("")
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    printable = value.isascii() and value.isprintable() and " " not in value
    if host and port_is_good and safe and printable:
        return ""
    return "needs an https URL (http is for this machine alone: a secret is sent there)"


def impersonation_url(value: object) -> str:
    """Check for a URL of the IAM API that names the account to impersonate."""
    problem = secure_url(value)
    if problem or impersonated_email(str(value)):
        return problem
    return "needs a URL that ends in '/<email>:generateAccessToken'"


def impersonated_email(url: str) -> str:
    """Return the account that an impersonation URL names, or ""."""
    email, colon, _ = url.rpartition("/")[2].partition(":generateAccessToken")
    return email if colon else ""


def _wrong_type(value: object, expected: str) -> str:
    return f"needs {expected}, not {'null' if value is None else type(value).__name__}"


ANY: Fields = {"quota_project_id": text, "universe_domain": text}
SAVED_TOKEN: Fields = {"token": text, "expiry": instant, "scopes": scopes}
CLIENT: Fields = {"client_id": text, "client_secret": text}
