"""The URLs in a credential of google-auth's: no secret goes to one, or comes from one, in the clear."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard, cast

from aio_authgrpc._http.urls import is_link_local, keeps_secrets, place_of
from aio_authgrpc._sources.google_auth_gaps import is_of
from aio_authgrpc.errors import ConfigurationError

_URL_ENDINGS = ("_uri", "_url", "_endpoint_override")
_SOURCE = "_credential_source"


def check_urls(credentials: object) -> None:
    """Refuse an endpoint that would get a secret in the clear; warn of a subject token that comes so.

    A credential file's endpoints are checked where the file is, field by field. The metadata services of
    clouds have no TLS; they are at link-local addresses, which no router forwards.
    """
    for owner in _with_inner(credentials, set()):
        for name, value in _attributes(owner).items():
            is_endpoint = name.endswith(_URL_ENDINGS) and not name.startswith(_SOURCE)
            if is_endpoint and _is_in_the_clear(value):
                raise ConfigurationError(
                    f"its {name.strip('_')} is {place_of(value)}: a secret would be sent there in the clear.",
                    field="credentials",
                    hint="Write an https URL; http is for this machine only.",
                )
        for name, value in _urls_of_subject_token(owner):
            if _is_in_the_clear(value) and not is_link_local(value):
                text = (
                    f"The subject token comes from {place_of(value)} in the clear (credential_source.{name})."
                )
                warnings.warn(text, UserWarning, stacklevel=2)


def _urls_of_subject_token(credentials: Any) -> list[tuple[str, str]]:
    source = getattr(credentials, _SOURCE, None)
    fields = cast("Mapping[str, object]", source).items() if isinstance(source, Mapping) else ()
    return [(name, url) for name, url in fields if name.endswith("url") and isinstance(url, str)]


def _with_inner(credentials: Any, seen: set[int]) -> Iterator[Any]:
    """Yield a credential and those in its attributes, such as the source of an impersonation."""
    if id(credentials) in seen:
        return
    seen.add(id(credentials))
    yield credentials
    for value in list(_attributes(credentials).values()):
        if is_of(value, "google.auth.credentials"):
            yield from _with_inner(value, seen)


def _attributes(credentials: object) -> Mapping[str, object]:
    return getattr(credentials, "__dict__", {})


def _is_in_the_clear(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.lower().startswith("http:") and not keeps_secrets(value)
