"""A credential file of every type makes the same credential here as in google-auth."""

from __future__ import annotations

import asyncio
import inspect
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google.auth
import google.auth.identity_pool
import google.auth.transport.requests
import pytest
import requests
from google.auth.credentials import with_scopes_if_required

import aio_authgrpc
from aio_authgrpc import AiohttpRequest, TokenRequest, TokenSource
from aio_authgrpc._sources.credentials import as_token_source

from .clients import recorded
from .configurations import SCOPES, SERVICE, World
from .normalization import normalized_headers

# The function for each file, by its name. External accounts differ in the source of their subject token.
LOADERS: dict[str, Callable[..., TokenSource]] = {
    "service_account": lambda file: aio_authgrpc.service_account(file, scopes=SCOPES),
    "authorized_user": aio_authgrpc.authorized_user,
    "impersonated_service_account": lambda file: aio_authgrpc.credentials.impersonated_service_account(
        file, scopes=SCOPES
    ),
    "gdch_service_account": aio_authgrpc.credentials.gdch_service_account,
    "external_account_authorized_user": aio_authgrpc.credentials.external_account_authorized_user,
    **{
        f"external_account_{source}": lambda file: aio_authgrpc.credentials.external_account(
            file, scopes=SCOPES
        )
        for source in ("file", "url", "url_json", "executable", "aws", "x509", "impersonating")
    },
}
Outcome = tuple[list[Any], Any]


@pytest.fixture(autouse=True)
def no_look_for_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, google.auth.default() fetches tokens and runs gcloud to find the project."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "project")


# Older google-auth reads certificates with pyOpenSSL, which is not among its dependencies.
READS_CERTIFICATES = pytest.mark.skipif(
    "OpenSSL" in inspect.getsource(google.auth.identity_pool),
    reason="this google-auth needs pyOpenSSL for it",
)


@pytest.fixture(
    params=[pytest.param(name, marks=[READS_CERTIFICATES] if "x509" in name else []) for name in LOADERS]
)
def name(request: pytest.FixtureRequest) -> str:
    """Give the name of each file."""
    return request.param  # type: ignore[no-any-return]  # pytest's params are untyped


async def by_google_auth(world: World, load: Callable[[], Any]) -> Outcome:
    """Refresh the credential that a function of google-auth returns; it may block."""

    def refresh() -> Any:
        with warnings.catch_warnings(), requests.Session() as session:
            warnings.simplefilter("ignore", DeprecationWarning)  # of its loaders that take any type
            credentials, _ = load()
            credentials = with_scopes_if_required(credentials, SCOPES)
            if hasattr(credentials, "with_gdch_audience"):
                credentials = credentials.with_gdch_audience(SERVICE)
            world.cloud.requests.clear()  # the ping of the metadata server
            credentials.refresh(google.auth.transport.requests.Request(session))
        return credentials

    headers: dict[str, str] = {}
    (await asyncio.to_thread(refresh)).apply(headers)
    return recorded(world), normalized_headers(headers)


async def by_us(world: World, source: TokenSource, http: AiohttpRequest) -> Outcome:
    """Fetch a token of a source."""
    world.cloud.requests.clear()
    request = TokenRequest(http=http, audience=SERVICE, time=world.clock.time())
    token = await source.fetch(request)
    return recorded(world), normalized_headers(dict(token.as_metadata("authorization")))


@pytest.mark.parametrize("form", ["path", "text", "dict"])
async def test_a_file_of_every_type_is_taken_in_every_form(
    name: str, form: str, world: World, http: AiohttpRequest
) -> None:
    """Its function sends google-auth's requests, and gets the same token."""
    info = world.infos[name]
    path = world.directory / "credentials.json"
    path.write_text(json.dumps(info))
    theirs = await by_google_auth(world, lambda: google.auth.load_credentials_from_dict(info))
    given = {"path": path, "text": json.dumps(info), "dict": info}[form]
    assert await by_us(world, LOADERS[name](given), http) == theirs


async def test_the_file_of_gcloud_is_found_as_the_default_credentials(
    world: World, http: AiohttpRequest, tmp_path: Path
) -> None:
    """Without environment variables; gcloud itself is not run."""
    path = tmp_path / "gcloud" / "application_default_credentials.json"
    path.parent.mkdir()
    path.write_text(json.dumps(world.infos["authorized_user"]))
    source = aio_authgrpc.default()
    theirs = await by_google_auth(world, google.auth.default)
    assert await by_us(world, source, http) == theirs
    assert source.explain().tried == (
        ("GOOGLE_APPLICATION_CREDENTIALS", "not set"),
        (f"gcloud's {path}", "authorized_user"),
    )


@pytest.mark.parametrize("quota_project", [None, "payer"])
async def test_the_metadata_server_is_found_as_the_default_credentials(
    quota_project: str | None, world: World, http: AiohttpRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the files; with the environment's quota project."""
    if quota_project is not None:
        monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", quota_project)
    source = aio_authgrpc.default(SCOPES)
    with requests.Session() as session:  # older versions do not find the proxy by themselves
        request = google.auth.transport.requests.Request(session)
        theirs = await by_google_auth(world, lambda: google.auth.default(request=request))
    requested, headers = await by_us(world, source, http)
    assert (requested[1:], headers) == theirs  # the first asks whether it is there
    assert requested[0]["line"] == ("GET", "/", {})
    assert headers.get("x-goog-user-project") == quota_project
    assert source.explain().found == "compute_engine"
    assert source.explain().tried[-1][1] == "answered"


async def test_the_quota_project_of_the_argument_wins_over_the_file(
    world: World, http: AiohttpRequest
) -> None:
    """And the login keeps its expiry, which google-auth's with_quota_project() drops."""
    info = world.infos["authorized_user"] | {"quota_project_id": "file"}
    source = aio_authgrpc.authorized_user(info, quota_project_id="argument")
    _, headers = await by_us(world, source, http)
    assert headers["x-goog-user-project"] == "argument"


async def test_a_login_whose_expiry_google_auth_dropped_is_refreshed(
    world: World, http: AiohttpRequest
) -> None:
    """Its token may have expired, though google-auth considers it fresh for ever."""
    login = google.oauth2.credentials.Credentials.from_authorized_user_info(world.infos["authorized_user"])
    login.token = "outdated"
    requested, _ = await by_us(world, as_token_source(login.with_quota_project("p")), http)
    assert [request["line"][1] for request in requested] == ["/token"]
