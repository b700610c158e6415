"""Whatever a token endpoint answers: a token or an error of ours, nothing else, and no secret in it."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import google.auth.compute_engine
import google.auth.identity_pool
import google.oauth2.credentials
import google.oauth2.service_account
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aio_authgrpc import AiohttpRequest, AuthRpcError, Token, TokenRequest
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc._http.token_errors import chain_of
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc._tokens.source import fetch_from
from aio_authgrpc.testing import Authority
from tests.support.patience import patience

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
SECRET = "ya29.S3CRET-s3cret-S3CRET"
REFRESH_TOKEN, CLIENT_SECRET, SUBJECT_TOKEN = (
    "1//a-refresh-token",
    "GOCSPX-a-client-secret",
    "a-subject-token",
)
# The last is how an assertion begins.
SECRETS = [SECRET, REFRESH_TOKEN, CLIENT_SECRET, SUBJECT_TOKEN, "eyJhbGciOi"]
GOOD = {"access_token": SECRET, "expires_in": 3600, "token_type": "Bearer"}
FIELDS = ["access_token", "expires_in", "token_type", "refresh_token", "id_token", "error", "scope"]
PATIENCE = 10.0  # seconds, on an idle machine

# Bodies

# Not "internal_failure" and its like: google-auth tries those again itself, after seconds of time.sleep.
oauth_errors = st.sampled_from(["invalid_grant", "invalid_client", "access_denied", "nonsense", ""])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from([SECRET, 10**30, -1, 1e308, "3600", "soon", SECRET + "\n", "é" + SECRET]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=5,
)
changed = st.dictionaries(st.sampled_from(FIELDS), values, max_size=3).map(lambda some: GOOD | some)
fewer = st.sets(st.sampled_from(sorted(GOOD))).map(lambda keys: {key: GOOD[key] for key in sorted(keys)})
refusals = st.builds(
    lambda error, text: {"error": error, "error_description": text, "access_token": SECRET},
    oauth_errors | values,
    st.text(max_size=20) | values,
)
good = st.just(json.dumps(GOOD).encode())
structured = (changed | fewer | refusals | values).map(lambda value: json.dumps(value).encode())


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(structured | good))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(body) - 1)))
        body[place : place + draw(st.integers(0, 5))] = draw(st.binary(max_size=3))
    return bytes(body)


truncated = st.builds(lambda body, at: body[:at], structured | good, st.integers(0, 60))
huge = st.integers(1024 * 1024 - 5, 1024 * 1024 + 5).map(lambda size: b'"' + b"x" * size)
# A name at the very end is followed, in a repr, by a quote, and then by text that looks like its secret.
dangling = re.compile(rb"(token|secret|password|assertion|key|jwt|blob)\W*$", re.IGNORECASE)
bodies = (
    good | structured | structured | mutated() | mutated() | truncated | st.binary(max_size=50) | huge
).filter(lambda body: not dangling.search(body))

# The text around them

statuses = st.sampled_from(
    [200] * 12 + [201, 204, 301, 400, 400, 401, 403, 404, 408, 429, 500, 503, 504, 101]
)
retry_after = st.sampled_from(
    ["5", "0", "-1", "1e9", "99999999999999999999", "soon", "Wed, 21 Oct 2099 07:28:00 GMT", "nan", "inf", ""]
)
contents = st.sampled_from(
    ["application/json", "text/html", "application/json; charset=nonsense", "text/plain; charset=utf-16", ""]
)
header_lists = st.fixed_dictionaries(
    {"Content-Type": contents},
    optional={
        "Retry-After": retry_after,
        "Metadata-Flavor": st.sampled_from(["Google", "Other"]),
        "Content-Encoding": st.sampled_from(["gzip", "identity", "nonsense"]),
        "Set-Cookie": st.just(f"token={SECRET}"),
        "WWW-Authenticate": st.just(f'Bearer error="{SECRET}"'),
        "Location": st.just("http://127.0.0.1:1/elsewhere"),
        "X": st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=10),
    },
)
lengths = st.sampled_from([0] * 8 + [-3, 3])
BODILESS = (101, 204)


# aiohttp quotes unreadable HTTP in its errors, which must not look like a secret then.
TELLING = (
    b"token",
    b"secret",
    b"password",
    b"assertion",
    b"key",
    b"jwt",
    b"blob",
    b"bearer",
    b"basic",
    b"ya29",
)
garbage = st.binary(max_size=80).filter(lambda raw: not any(word in raw.lower() for word in TELLING))


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """Return the bytes of a response: mostly HTTP, with a length that is mostly right."""
    if draw(st.integers(0, 30)) == 0:
        return draw(garbage)
    headers, status, length = draw(header_lists), draw(statuses), draw(st.none() | lengths)
    body = draw(garbage if status in BODILESS or length else bodies)
    if length is not None:
        headers["Content-Length"] = str(max(0, len(body) + length))
    elif draw(st.booleans()):
        headers["Transfer-Encoding"] = "chunked"
        body = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    lines = [f"HTTP/1.1 {status} Reason", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Endpoint:
    """Send bytes unchanged, and close; requests that come before the token's get a good answer."""

    def __init__(self) -> None:
        self.response = b""
        self.only_token = False
        self.answered = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            asks_token = b"/token" in head.partition(b"\r\n")[0]
            writer.write(self.response if asks_token or not self.only_token else self._account())
            self.answered += asks_token or not self.only_token
            await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    @staticmethod
    def _account() -> bytes:
        body = json.dumps({"email": "machine@example.com", "scopes": SCOPES, "aliases": []}).encode()
        head = f"HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"Content-Type: application/json\r\n\r\n" + body


class World:
    """The endpoint, and credentials that ask it: made once, and copied for each response."""

    async def open(self, directory: Path) -> None:
        self.endpoint, self.http = Endpoint(), AiohttpRequest()
        await self.endpoint.open()
        token_uri = f"{self.endpoint.url}/token"
        async with Authority() as authority:
            info = await authority.service_account_info() | {"token_uri": token_uri}
        make = google.oauth2.service_account.Credentials.from_service_account_info
        self._account: Any = await asyncio.to_thread(make, info, scopes=SCOPES)
        self._token_uri, self._subject = token_uri, directory / "subject"
        self._subject.write_text(SUBJECT_TOKEN)

    async def close(self) -> None:
        await self.http.aclose()
        await self.endpoint.close()

    def credentials(self, kind: str) -> Any:
        if kind == "service account":
            return self._account.with_scopes(SCOPES)
        if kind == "user":
            return google.oauth2.credentials.Credentials(  # type: ignore[no-untyped-call]  # google-auth's
                None,
                refresh_token=REFRESH_TOKEN,
                token_uri=self._token_uri,
                client_id="id",
                client_secret=CLIENT_SECRET,
            )
        if kind == "metadata":
            return google.auth.compute_engine.Credentials()  # type: ignore[no-untyped-call]  # google-auth's
        return google.auth.identity_pool.Credentials(  # type: ignore[no-untyped-call]  # google-auth's
            audience="//iam.googleapis.com/pool",
            subject_token_type="urn:ietf:params:oauth:token-type:jwt",
            token_url=self._token_uri,
            credential_source={"file": str(self._subject)},
            scopes=SCOPES,
        )

    async def outcome(self, kind: str, response: bytes, *, only_token: bool) -> Token | AuthRpcError:
        """Return the source's token or error of ours; any other exception is raised."""
        self.endpoint.response, self.endpoint.only_token = response, only_token
        source = as_token_source(self.credentials(kind))
        request = TokenRequest(http=self.http, audience="https://host", time=time.time())
        try:
            return await asyncio.wait_for(fetch_from(source, request), patience(PATIENCE))
        except AuthRpcError as error:
            return error


@pytest.fixture(scope="module")
def runner():  # type: ignore[no-untyped-def]  # a fixture
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def world(runner: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]  # a fixture
    world = World()
    runner.run(world.open(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", world.endpoint.url)  # metadata.google.internal
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield world
    print(f"{world.endpoint.answered} fuzzed responses")  # noqa: T201 - read when it is run by hand
    runner.run(world.close())


def check_error(error: AuthRpcError) -> None:
    """Fail where an error, or its cause, shows a secret, or asks for a pause that is not a number."""
    texts = [text for link in chain_of(error) for text in (repr(link), str(link))]
    shown = "".join([*texts, error.details(), error.hint, *traceback.format_exception(error)])
    assert [secret for secret in SECRETS if secret in shown] == []
    # The message has an end, which may come within "[redacted]".
    assert redacted(error.details())[: len(error.details())] == error.details()
    assert error.code().name in ("UNAVAILABLE", "UNAUTHENTICATED")
    after = getattr(error, "retry_after", None)
    assert after is None or 0 <= after <= 300


@settings(
    max_examples=3 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    kind=st.sampled_from(["service account", "user", "metadata", "sts"]),
    response=responses(),
    only_token=st.booleans(),
)
def test_any_response_brings_a_token_or_an_error_of_ours(
    runner: asyncio.Runner, world: World, kind: str, response: bytes, only_token: bool
) -> None:
    """Status, headers, length and body drawn at random, to four kinds of credentials."""
    # Of the errors before only those that something holds are left for the guard: where a body ends within
    # a secret, the text after it in a repr looks like one. Here each is searched for the secret itself.
    gc.collect(0)
    outcome = runner.run(world.outcome(kind, response, only_token=only_token))
    if isinstance(outcome, AuthRpcError):
        check_error(outcome)
    else:
        assert isinstance(outcome, Token)
        assert outcome.value
