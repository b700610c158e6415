"""Application Default Credentials: found through the environment, off the loop, and never guessed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from aio_authgrpc import AiohttpRequest, ConfigurationError, TokenRequest, connect, default
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.testing import Authority, BookstoreServer

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


@pytest.fixture(autouse=True)
def nothing_to_be_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No file of gcloud's, no metadata server: what a test puts there is all there is."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
async def token_request() -> AsyncIterator[TokenRequest]:
    async with AiohttpRequest() as http:
        yield TokenRequest(http=http, audience="https://host", time=0)


def point_to(monkeypatch: pytest.MonkeyPatch, path: Path, content: Any) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))


async def test_the_file_that_the_environment_names_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority, token_request: TokenRequest
) -> None:
    """A service account's, with scopes: exchanged."""
    point_to(monkeypatch, tmp_path / "key.json", await authority.service_account_info("adc@project"))
    token = await default(SCOPES, quota_project_id="payer").fetch(token_request)
    claims = jwt.decode(token.value, options={"verify_signature": False})
    assert (claims["email"], token.metadata) == ("adc@project", (("x-goog-user-project", "payer"),))


async def test_without_scopes_a_service_account_signs_for_the_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority, token_request: TokenRequest
) -> None:
    """No request is made."""
    point_to(monkeypatch, tmp_path / "key.json", await authority.service_account_info())
    token = await default().fetch(token_request)
    claims = jwt.decode(token.value, options={"verify_signature": False})
    assert (claims["aud"], authority.requests) == ("https://host/", [])


async def test_connect_without_credentials_uses_the_default_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority
) -> None:
    """Seed 003: passing nothing just works."""
    info = await authority.service_account_info()
    point_to(monkeypatch, tmp_path / "key.json", info)
    async with (
        BookstoreServer(authority, accept=[info["client_email"]], audience="https://mine/") as server,
        connect(
            server.target,
            BookstoreStub,
            audience="https://mine",
            ssl_credentials=server.ssl_credentials,
        ) as bookstore,
    ):
        assert (await bookstore.ListShelves(Empty())).shelves


async def test_nothing_found_says_what_to_do(token_request: TokenRequest) -> None:
    """On entry, before any RPC."""
    with pytest.raises(ConfigurationError, match="gcloud auth application-default login") as caught:
        await default().load(token_request)
    assert caught.value.field == "credentials"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "5", '{"type": "unknown"}', '{"type": "service_account"}', '{"type": "authorized_user"}'],
)
async def test_a_file_that_cannot_be_used_is_an_error_and_not_another_identity(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_request: TokenRequest, content: str
) -> None:
    """Whatever google-auth raises for it."""
    point_to(monkeypatch, tmp_path / "key.json", content)
    with pytest.raises(ConfigurationError):
        await default().load(token_request)


async def test_a_file_that_is_missing_is_an_error_and_not_another_identity(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_request: TokenRequest
) -> None:
    """The environment named it, so it is what was meant."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(ConfigurationError, match=r"missing\.json"):
        await default().load(token_request)


async def test_a_look_up_that_hangs_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_request: TokenRequest
) -> None:
    """google-auth runs gcloud to learn the project; one that never answers costs the look-up's budget."""
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir()
    os.mkfifo(tmp_path / "never")
    gcloud.write_text(f"#!/bin/sh\nread line < {tmp_path / 'never'}\n")
    gcloud.chmod(gcloud.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{gcloud.parent}:{os.environ['PATH']}")
    adc = tmp_path / "gcloud" / "application_default_credentials.json"
    adc.parent.mkdir()
    user = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    adc.write_text(json.dumps(user))
    source = default()
    with pytest.raises(ConfigurationError, match=r"took more than 0\.2 s"):
        await source.load(token_request, timeout=0.2)
    (tmp_path / "never").write_text("go on\n")  # lets the abandoned thread end


async def test_a_file_that_is_not_text_does_not_show_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_request: TokenRequest
) -> None:
    """google-auth's error has the content in its causes."""
    path = tmp_path / "key.json"
    path.write_bytes(b'{"private_key": "-----BEGIN PRIVATE KEY-----MIIsecret\xff')
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(ConfigurationError) as caught:
        await default().load(token_request)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
