"""A token endpoint that repeats what it was sent, in any form: errors, logs and events show nothing of it."""

from __future__ import annotations

import base64
import itertools
import logging
import urllib.parse
from typing import Any

import google.oauth2.credentials
import pytest

from aio_authgrpc import AuthRpcError, Token, TokenRequest, TokenSource
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc.errors import TokenUnavailableError
from aio_authgrpc.testing import Authority
from aio_authgrpc.tokens import TokenCache
from tests.support.secrets_in_sight import Records

from .collector import texts_of
from .encodings import ENCODINGS, Encode

# Neither looks like a secret, and each has what is escaped in URLs, in HTML, in JSON and in base64.
REFRESH_TOKEN = 'rt.qzk/vjw+exb=nht&guy<mpo"lf~dsi\\ca%41'
CLIENT_SECRET = "every horse: a staple! another battery?"
# Shorter pieces of a form stand for a character or two of the secret.
PIECE = 16


@pytest.fixture
def source(authority: Authority) -> TokenSource:
    """Give a login whose token endpoint the authority is."""
    untyped: Any = google.oauth2.credentials.Credentials
    login = untyped(
        None,
        refresh_token=REFRESH_TOKEN,
        client_id="a-client-id",
        client_secret=CLIENT_SECRET,
        token_uri=f"{authority.url}/token",
    )
    return as_token_source(login)


async def told_by(source: TokenSource) -> str:
    """Return all that a refresh, which fails, tells: its error with the causes, its log and its events."""
    records, root, events = Records(), logging.getLogger(), list[object]()
    root.addHandler(records)
    try:
        async with TokenCache(source, attempts=1) as cache:
            cache.subscribe(events.append)
            with pytest.raises(AuthRpcError) as caught:
                await cache.get()
    finally:
        root.removeHandler(records)
    links = (caught.value, caught.value.__cause__, caught.value.__context__)
    return "\n".join([*records.texts, *map(repr, events), *map(repr, links), *map(str, links)])


def pieces(text: str) -> set[str]:
    return {text[at : at + PIECE] for at in range(len(text) - PIECE + 1)}


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
async def test_an_echo_of_a_secret_is_cut_out(
    encode: Encode, authority: Authority, source: TokenSource
) -> None:
    """Of a refresh token and of a client secret, in a refusal and in an outage."""
    for secret, status in itertools.product((REFRESH_TOKEN, CLIENT_SECRET), (400, 503)):
        echo = encode(secret)
        authority.fail(status, {"error": "invalid_request", "error_description": f"Who sent {echo} to me?"})
        told = await told_by(source)
        assert "Who sent" in told
        assert pieces(echo) & pieces(told) == set()


@pytest.mark.parametrize(
    "echo",
    [
        pytest.param(REFRESH_TOKEN[:14], id="the beginning"),
        pytest.param(REFRESH_TOKEN[-14:], id="the end"),
        pytest.param(REFRESH_TOKEN[10:24], id="the middle"),
        pytest.param(f"{REFRESH_TOKEN[:12]}********{REFRESH_TOKEN[-12:]}", id="masked"),
    ],
)
async def test_an_echo_of_a_part_is_cut_out(echo: str, authority: Authority, source: TokenSource) -> None:
    """Some servers cut what they repeat, or mask a part of it."""
    authority.fail(400, {"error": "invalid_request", "error_description": f"Who sent {echo} to me?"})
    told = await told_by(source)
    assert REFRESH_TOKEN[:12] not in told
    assert REFRESH_TOKEN[10:24] not in told
    assert REFRESH_TOKEN[-12:] not in told


@pytest.mark.parametrize("status", [400, 503])
@pytest.mark.parametrize("limit", [500, 1_000, 4_000])
async def test_an_echo_that_a_limit_cuts_in_two_is_cut_out(
    limit: int, status: int, authority: Authority, source: TokenSource
) -> None:
    """Long answers are shortened before they are searched."""
    for before in range(limit - 120, limit, 15):
        authority.fail(status, "." * before + REFRESH_TOKEN)
        assert REFRESH_TOKEN[:12] not in await told_by(source)


async def test_what_is_no_secret_stays(authority: Authority, source: TokenSource) -> None:
    """The reason of a refusal names the client and the kind of grant."""
    said = "The client a-client-id may not use refresh_token here."
    authority.fail(400, {"error": "unauthorized_client", "error_description": said})
    assert said in await told_by(source)


class AskingSource:
    """A source of a user's own, which raises what the endpoint has answered."""

    def __init__(self, url: str, body: str, headers: dict[str, str]) -> None:
        self.sent = (url, "POST", body, headers)

    def error(self, answer: str) -> Exception:
        return ValueError(f"not 200: {answer}")

    async def fetch(self, request: TokenRequest) -> Token:
        """Ask, and fail."""
        response = await request.http.send(*self.sent)
        raise self.error(response.data.decode())


class DirectSource(AskingSource):
    """Another one, which raises this package's error."""

    def error(self, answer: str) -> Exception:
        return TokenUnavailableError(f"not 200: {answer}", hint="Wait.")


class LinkedSource(AskingSource):
    """Another one, whose error has the answer in a context that it suppresses."""

    def error(self, answer: str) -> Exception:
        error = TokenUnavailableError("not 200", hint="Wait.")
        error.__cause__ = KeyError("x")
        error.__cause__.__context__ = ValueError(answer)
        error.__cause__.__suppress_context__ = True
        return error


ID_AND_SECRET = base64.b64encode(f"a-client-id:{CLIENT_SECRET}".encode()).decode()


@pytest.mark.parametrize(
    ("url", "body", "headers"),
    [
        pytest.param("", f'{{"a": [{{"b": "{CLIENT_SECRET}"}}]}}', {}, id="JSON"),
        pytest.param("", CLIENT_SECRET, {}, id="text"),
        pytest.param("", f"x={CLIENT_SECRET}", {}, id="form"),
        pytest.param(f"?x={urllib.parse.quote(CLIENT_SECRET)}", "", {}, id="query"),
        pytest.param("", "", {"X-Any": CLIENT_SECRET}, id="header"),
        pytest.param("", "", {"Authorization": f"Basic {ID_AND_SECRET}"}, id="Basic"),
    ],
)
async def test_what_a_users_source_sent_is_cut_out(
    url: str, body: str, headers: dict[str, str], authority: Authority
) -> None:
    """Wherever in the request it was."""
    source = AskingSource(f"{authority.url}/token{url}", body, headers)
    authority.fail(400, f"Who sent {CLIENT_SECRET} to me?")
    told = await told_by(source)
    assert "Who sent [redacted] to me?" in told
    assert CLIENT_SECRET[:10] not in told


@pytest.mark.parametrize("kind", [AskingSource, DirectSource, LinkedSource])
async def test_an_answer_is_cut_wherever_a_users_source_puts_it(
    kind: type[AskingSource], authority: Authority
) -> None:
    """Whether it is worth a retry stays as the source said."""
    source = kind(f"{authority.url}/token", f"x={CLIENT_SECRET}", {})
    authority.fail(400, f"Who sent {CLIENT_SECRET} to me?")
    records: list[object] = []
    async with TokenCache(source, attempts=1) as cache:
        cache.subscribe(records.append)
        with pytest.raises(AuthRpcError) as caught:
            await cache.get()
    texts = [*map(repr, records), *texts_of(caught.value)]
    assert not any(CLIENT_SECRET[:10] in text for text in texts)
    assert caught.value.retryable == (kind is not AskingSource)
