"""ID tokens: the right one for every identity that can have one, a clear error for the others."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import google.auth.credentials
import google.auth.transport.requests
import jwt
import pytest
import requests

import aio_authgrpc
from aio_authgrpc import AiohttpRequest, ConfigurationError, Token, TokenRequest, id_token
from aio_authgrpc.errors import TokenRefusedError

from .clients import recorded
from .configurations import (
    CONFIGURATIONS,
    EMAIL,
    IMPERSONATED,
    SCOPES,
    SERVICE,
    UNIVERSE,
    World,
    identity_pool_of,
    impersonated_of,
    service_account_of,
)

Make = Callable[[World], Any]
# The identities for which google-auth itself has an ID token credential, by name.
THEIR_NAMES: dict[str, Make] = {
    "service-account-id-token": service_account_of,
    "service-account-id-token-by-iam": lambda world: service_account_of(
        world, info={"universe_domain": UNIVERSE}
    ),
    "compute-engine-id-token": lambda _: google.auth.compute_engine.Credentials(),
    "impersonated-id-token": impersonated_of,
}


async def fetch(world: World, http: AiohttpRequest, source: Any, audience: str = SERVICE) -> Token:
    world.cloud.requests.clear()
    return await source.fetch(TokenRequest(http=http, audience=audience, time=world.clock.time()))


def claims(token: Token) -> dict[str, Any]:
    return jwt.decode(token.value, options={"verify_signature": False})


@pytest.mark.parametrize("name", THEIR_NAMES)
async def test_an_identity_gets_the_id_token_that_google_auth_gets_for_it(
    name: str, world: World, http: AiohttpRequest
) -> None:
    """The same requests, the same token, and the expiry in it."""
    [configuration] = [each for each in CONFIGURATIONS if each.name == name]
    with requests.Session() as session:
        request = google.auth.transport.requests.Request(session)
        theirs = await asyncio.to_thread(configuration.make, world, request)
        world.cloud.requests.clear()
        await asyncio.to_thread(theirs.refresh, request)
    expected = recorded(world)
    source = id_token(credentials=await asyncio.to_thread(THEIR_NAMES[name], world))
    # Made before: older constructors ask the metadata server, as theirs did.
    await source.load(TokenRequest(http=http, audience=SERVICE, time=world.clock.time()))
    token = await fetch(world, http, source)
    assert token.value == theirs.token
    assert recorded(world) == expected
    assert claims(token)["aud"] == SERVICE
    assert token.expires_at == claims(token)["exp"]


FILES: dict[str, str] = {
    "service_account": EMAIL,
    "impersonated_service_account": IMPERSONATED,
    "external_account_impersonating": IMPERSONATED,
}


@pytest.mark.parametrize("name", FILES)
async def test_the_default_credentials_give_an_id_token(
    name: str, world: World, http: AiohttpRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the file's identity, never of the machine, even with a metadata server."""
    path = world.directory / "credentials.json"
    path.write_text(json.dumps(world.infos[name]))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    token = await fetch(world, http, id_token())
    assert claims(token)["email"] == FILES[name]
    assert claims(token)["aud"] == SERVICE
    assert not [request for request in world.cloud.requests if "computeMetadata" in request.path]


async def test_on_the_machine_the_default_id_token_is_the_machines(
    world: World, http: AiohttpRequest
) -> None:
    """If no file is found."""
    assert claims(await fetch(world, http, id_token()))["email"] == world.cloud.metadata.email


async def test_a_source_of_this_package_can_be_the_identity(world: World, http: AiohttpRequest) -> None:
    """Such as a key file's."""
    source = id_token(credentials=aio_authgrpc.service_account(world.infos["service_account"]))
    assert claims(await fetch(world, http, source))["email"] == EMAIL


async def test_a_user_gets_the_logins_own_id_token(world: World, http: AiohttpRequest) -> None:
    """Its audience is the login's client id."""
    info = world.infos["authorized_user"]
    token = await fetch(world, http, id_token(credentials=aio_authgrpc.authorized_user(info)))
    assert claims(token)["aud"] == info["client_id"]
    assert token.expires_at == claims(token)["exp"]


async def test_a_user_gets_no_id_token_for_another_audience(world: World, http: AiohttpRequest) -> None:
    """The error gives the reason and the remedy."""
    source = id_token(
        "https://other", credentials=aio_authgrpc.authorized_user(world.infos["authorized_user"])
    )
    with pytest.raises(TokenRefusedError, match=r"for the client of the login.*target_principal="):
        await fetch(world, http, source)


async def test_a_user_gets_that_of_an_account_to_impersonate(world: World, http: AiohttpRequest) -> None:
    """For any audience."""
    login = aio_authgrpc.authorized_user(world.infos["authorized_user"])
    source = id_token("https://other", credentials=login, target_principal=IMPERSONATED)
    made = claims(await fetch(world, http, source))
    assert made["email"] == IMPERSONATED
    assert made["aud"] == "https://other"


async def test_the_machine_can_impersonate_too(world: World, http: AiohttpRequest) -> None:
    """Its universe is requested over the session, unlike in google-auth."""
    source = id_token(credentials=aio_authgrpc.compute_engine(), target_principal=IMPERSONATED)
    assert claims(await fetch(world, http, source))["email"] == IMPERSONATED


async def test_a_self_signed_id_token_needs_no_request(world: World, http: AiohttpRequest) -> None:
    """For IAP, and other services that accept self-signed JWTs."""
    key = aio_authgrpc.service_account(world.infos["service_account"])
    token = await fetch(world, http, id_token("https://iap/*", credentials=key, self_signed=True))
    made = claims(token)
    assert made["iss"] == EMAIL
    assert made["sub"] == EMAIL
    assert made["email"] == EMAIL
    assert made["aud"] == "https://iap/*"
    assert world.cloud.requests == []


MADE_FOR_AN_AUDIENCE: dict[str, Callable[[World], Any]] = {
    **{
        name: lambda world, make=make: id_token(credentials=make(world)) for name, make in THEIR_NAMES.items()
    },
    "self-signed": lambda world: id_token(credentials=service_account_of(world), self_signed=True),
    "of-an-account-to-impersonate": lambda world: id_token(
        credentials=aio_authgrpc.authorized_user(world.infos["authorized_user"]),
        target_principal=IMPERSONATED,
    ),
    "signed-without-scopes": lambda world: aio_authgrpc.service_account(world.infos["service_account"]),
}


@pytest.mark.parametrize("name", MADE_FOR_AN_AUDIENCE)
async def test_a_token_for_one_audience_is_not_used_for_another(
    name: str, world: World, http: AiohttpRequest
) -> None:
    """One source, many hosts, also at the same time, and also those that it has tokens for."""
    source = await asyncio.to_thread(MADE_FOR_AN_AUDIENCE[name], world)
    audiences = ["https://a", "https://b:8443", "https://a", "https://c"]
    tokens = await asyncio.gather(*(fetch(world, http, source, audience) for audience in audiences))
    tokens += [await fetch(world, http, source, audience) for audience in audiences]
    assert [claims(token)["aud"].removesuffix("/") for token in tokens] == 2 * audiences


NONE: dict[str, Make] = {
    "an external account without impersonation": lambda world: identity_pool_of(world, "file"),
    "a user of a workforce pool": lambda world: (
        google.auth.external_account_authorized_user.Credentials.from_info(
            world.infos["external_account_authorized_user"]
        )
    ),
    "an API key": lambda _: google.auth.api_key.Credentials("the-api-key"),
    "anonymous": lambda _: google.auth.credentials.AnonymousCredentials(),
    "a downscoped token": lambda world: next(
        each for each in CONFIGURATIONS if each.name == "downscoped"
    ).make(world, None),
}


@pytest.mark.parametrize("name", NONE)
async def test_an_identity_without_id_tokens_is_refused_when_it_is_loaded(
    name: str, world: World, http: AiohttpRequest
) -> None:
    """google-auth would use the machine's identity."""
    source = id_token(credentials=NONE[name](world))
    world.cloud.requests.clear()
    with pytest.raises(ConfigurationError, match="no ID tokens") as caught:
        await source.load(TokenRequest(http=http, audience=SERVICE, time=0))
    assert caught.value.field == "credentials"
    assert world.cloud.requests == []


async def test_a_login_without_openid_gives_a_clear_error(world: World, http: AiohttpRequest) -> None:
    """Its refresh response has no ID token."""
    world.cloud.apis.fail(200, {"access_token": "t", "expires_in": 3600}, path="/token")
    source = id_token(credentials=aio_authgrpc.authorized_user(world.infos["authorized_user"]))
    with pytest.raises(TokenRefusedError, match="lack 'openid'"):
        await fetch(world, http, source)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"audience": 5}, "audience"),
    ({"audience": ""}, "audience"),
    ({"credentials": "token"}, "credentials"),
    ({"credentials": aio_authgrpc.static_token("token")}, "credentials"),
    ({"target_principal": 5}, "target_principal"),
    ({"delegates": ["a@b"]}, "delegates"),
    ({"delegates": "a@b", "target_principal": "c@d"}, "delegates"),
    ({"self_signed": True, "target_principal": "c@d"}, "self_signed"),
]


@pytest.mark.parametrize(("arguments", "field"), BAD)
def test_arguments_that_make_no_sense_are_refused_at_the_call(arguments: dict[str, Any], field: str) -> None:
    """Before anything is looked up."""
    with pytest.raises(ConfigurationError) as caught:
        id_token(**arguments)
    assert caught.value.field == field


async def test_a_credential_without_a_key_cannot_sign_itself(world: World, http: AiohttpRequest) -> None:
    """The error comes on loading."""
    source = id_token(credentials=google.auth.api_key.Credentials("the-api-key"), self_signed=True)
    with pytest.raises(ConfigurationError, match="no key to sign with"):
        await source.load(TokenRequest(http=http, audience=SERVICE, time=0))


async def test_no_audience_is_refused(world: World, http: AiohttpRequest) -> None:
    """A Unix socket has no host name."""
    with pytest.raises(ConfigurationError, match="audience"):
        await id_token(credentials=service_account_of(world)).load(
            TokenRequest(http=http, audience="", time=0)
        )


WRONG: dict[str, tuple[Make, str]] = {
    "another account of the machine": (
        lambda _: google.auth.compute_engine.Credentials("other@project.iam.gserviceaccount.com"),
        "default account only",
    ),
    "a user that a service account acts for": (
        lambda world: service_account_of(world, scopes=SCOPES, subject="boss@example.com"),
        "acts for a user",
    ),
    "a user that an impersonated account acts for": (
        lambda world: impersonated_of(world, subject="boss@example.com"),
        "acts for a user",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_an_identity_that_google_auth_would_replace_is_refused(
    name: str, world: World, http: AiohttpRequest
) -> None:
    """The default account's, or the service account's own."""
    make, problem = WRONG[name]
    with pytest.raises(ConfigurationError, match=problem):
        await id_token(credentials=make(world)).load(TokenRequest(http=http, audience=SERVICE, time=0))


@pytest.mark.parametrize("arguments", [{"self_signed": True}])
async def test_an_identity_that_signs_elsewhere_cannot_sign_itself(
    arguments: dict[str, Any], world: World, http: AiohttpRequest
) -> None:
    """An impersonated one has no key here."""
    source = id_token(credentials=impersonated_of(world), **arguments)
    with pytest.raises(ConfigurationError, match="no key to sign with"):
        await source.load(TokenRequest(http=http, audience=SERVICE, time=0))


async def test_a_credential_for_an_id_token_keeps_its_own_audience(
    world: World, http: AiohttpRequest
) -> None:
    """Unless another is requested."""
    make = google.oauth2.service_account.IDTokenCredentials.from_service_account_info
    own = make(world.infos["service_account"], target_audience="https://original")
    for source, audience in (
        (id_token(credentials=own), "https://original"),
        (id_token("https://other", credentials=own), "https://other"),
    ):
        assert claims(await fetch(world, http, source))["aud"] == audience


async def test_a_revoked_token_of_the_impersonator_is_replaced_once(
    world: World, http: AiohttpRequest
) -> None:
    """As google-auth's session does it."""
    source = id_token(credentials=impersonated_of(world))
    path = f"/v1/projects/-/serviceAccounts/{IMPERSONATED}:generateIdToken"
    world.cloud.apis.fail(401, path=path, times=1)
    assert claims(await fetch(world, http, source))["email"] == IMPERSONATED
    assert [request.path for request in world.cloud.requests].count(path) == 2


@contextmanager
def threads_started() -> Iterator[set[threading.Thread]]:
    """Collect the worker threads of this package that start in the block."""
    started: set[threading.Thread] = set()

    def add_this_thread(*_: object) -> None:
        if threading.current_thread().name == "aio_authgrpc":
            started.add(threading.current_thread())

    threading.setprofile(add_this_thread)  # called in each thread that starts from now on
    try:
        yield started
    finally:
        threading.setprofile(None)


@pytest.mark.parametrize("make", [service_account_of, impersonated_of])
async def test_an_id_token_takes_one_thread(make: Make, world: World, http: AiohttpRequest) -> None:
    """Its credential is made, and the token of that obtained, by the same thread."""
    await fetch(world, http, id_token(credentials=make(world)))  # its imports take threads, once
    source = id_token(credentials=make(world))
    with threads_started() as started:
        await fetch(world, http, source)
    assert len(started) == 1
