"""What one refresh has sent: a token endpoint may repeat it in an answer, in any form."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import cast

from aio_authgrpc._checks.known_secrets import KnownSecrets
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc._http.urls import place_of

# Fields and headers without a secret, lower case, without `-` and `_`. Any other may hold one.
_PUBLIC = frozenset(
    (
        # OAuth, STS and the IAM API
        *("granttype", "scope", "scopes", "audience", "aud", "resource", "clientid", "tokentype", "options"),
        *("requestedtokentype", "subjecttokentype", "actortokentype", "lifetime", "delegates"),
        *("includeemail", "userproject", "useemailazp"),
        # metadata servers
        *("format", "recursive", "alt", "licenses", "apiversion", "metadata", "metadataflavor"),
        "xawsec2metadatatokenttlseconds",
        # HTTP
        *("accept", "acceptencoding", "contenttype", "contentlength", "host", "useragent"),
        *("xgoogapiclient", "xgooguserproject", "xallowedlocations"),
    )
)


class _Sent:
    """The requests of one refresh. They are taken apart only when something has failed."""

    def __init__(self) -> None:
        self._requests: list[tuple[str, Mapping[str, str], bytes | str | None]] = []
        self._known: KnownSecrets | None = None

    def add(self, url: str, headers: Mapping[str, str], body: bytes | str | None) -> None:
        self._requests.append((url, headers, body))
        self._known = None

    def known_secrets(self) -> KnownSecrets:
        if self._known is None:
            self._known = self._made()
        return self._known

    def _made(self) -> KnownSecrets:
        secrets: list[str] = []
        public: list[str] = []
        for url, headers, body in self._requests:
            parts = urllib.parse.urlsplit(url)
            secrets.append(urllib.parse.unquote(parts.password or ""))
            public.append(place_of(url))
            for name, value in (*_fields(parts.query), *_headers(headers), *_body(body)):
                is_public = name.lower().replace("-", "").replace("_", "") in _PUBLIC
                (public if is_public else secrets).append(value)
        return KnownSecrets(secrets, public=public)


_sent: ContextVar[_Sent | None] = ContextVar("aio_authgrpc_sent", default=None)


@contextmanager
def remembering_what_is_sent() -> Generator[None]:
    """Remember what this task, and those that it starts, send within; for `redacted_answer`."""
    if _sent.get() is not None:
        yield
        return
    token = _sent.set(_Sent())
    try:
        yield
    finally:
        with suppress(ValueError):  # a coroutine that is dropped with its loop ends in another context
            _sent.reset(token)


def remember(url: str, headers: Mapping[str, str], body: bytes | str | None) -> None:
    sent = _sent.get()
    if sent is not None:
        sent.add(url, headers, body)


def redacted_answer(text: str) -> str:
    """Return `redacted(text)`, also without what was sent."""
    sent = _sent.get()
    return redacted(text, None if sent is None else sent.known_secrets())


def _body(body: bytes | str | None) -> Iterator[tuple[str, str]]:
    text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    try:
        yield from _leaves("", json.loads(text))
    except (ValueError, RecursionError):
        fields = list(_fields(text))
        yield from fields or [("", text)]


def _leaves(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in cast("dict[str, object]", value).items():
            yield from _leaves(key, inner)
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from _leaves(name, inner)
    else:
        yield name, str(value)


def _fields(form: str) -> Iterator[tuple[str, str]]:
    """Yield the fields of a form, decoded; none where it is another text."""
    yield from urllib.parse.parse_qsl(form)


def _headers(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the headers; of credentials only what follows the scheme, and the password within."""
    for name, value in headers.items():
        _, _, credentials = value.rpartition(" ")
        yield name, credentials if name.lower().endswith("authorization") else value
        if value.lower().startswith("basic "):
            try:
                user = base64.b64decode(credentials).decode(errors="replace")
            except ValueError:
                continue
            yield "password", urllib.parse.unquote(user.partition(":")[2])
