"""What a source tells of whose tokens it gives: the same on every machine, and different for others."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from google.auth.exceptions import TransportError
from google.oauth2.credentials import Credentials

import aio_authgrpc
from aio_authgrpc import AiohttpRequest, TokenRequest
from aio_authgrpc._sources.credentials import as_token_source
from aio_authgrpc._sources.identity_facts import identity_facts
from aio_authgrpc.credentials import CredentialsType
from aio_authgrpc.testing import Authority, GoogleCloud

Facts = Callable[..., Awaitable[str]]

AUDIENCE = "https://orders.example.com"
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
EMAIL, OTHER_EMAIL = "a@project.iam.gserviceaccount.com", "b@project.iam.gserviceaccount.com"


@pytest.fixture
async def facts() -> AsyncIterator[Facts]:
    """Give a function that returns the facts of credentials."""
    async with AiohttpRequest() as http:

        async def of(credentials: CredentialsType) -> str:
            request = TokenRequest(http=http, audience=AUDIENCE, time=time.time())
            return await identity_facts(as_token_source(credentials), request)

        yield of


@pytest.fixture
async def account(authority: Authority) -> Mapping[str, str]:
    """Give a key file of an account."""
    return await authority.service_account_info(EMAIL)


def login(authority: Authority, email: str) -> Any:
    """Return a person's credentials."""
    made: Any = Credentials.from_authorized_user_info(authority.user_info(email))  # type: ignore[no-untyped-call]
    return made.with_token_uri(authority.token_uri)


async def orders_token() -> str:
    """Return a token of a vault."""
    return "a-token"


async def billing_token() -> str:
    """Return another one."""
    return "another"


async def test_two_keys_of_an_account_are_one_identity(
    facts: Facts, authority: Authority, account: Any
) -> None:
    """Each machine may have a key of its own."""
    other = await authority.service_account_info(EMAIL)
    assert other["private_key_id"] != account["private_key_id"]
    mine, theirs = [aio_authgrpc.service_account(info, scopes=SCOPES) for info in (account, other)]
    assert await facts(mine) == await facts(theirs)


async def test_a_refresh_changes_nothing(facts: Facts, account: Any) -> None:
    """A process that has a token finds the same place in the store as one that has none."""
    for source in (
        aio_authgrpc.service_account(account, scopes=SCOPES),
        aio_authgrpc.id_token(credentials=aio_authgrpc.service_account(account)),
    ):
        before = await facts(source)
        async with AiohttpRequest() as http:
            await source.fetch(TokenRequest(http=http, audience=AUDIENCE, time=time.time()))
        assert await facts(source) == before


async def test_other_accounts_scopes_and_kinds_are_other_tokens(
    facts: Facts, authority: Authority, account: Any
) -> None:
    """Every one of them has facts of its own."""
    other = await authority.service_account_info(OTHER_EMAIL)
    access = aio_authgrpc.service_account
    identity = aio_authgrpc.id_token
    sources: list[CredentialsType] = [
        access(account, scopes=SCOPES),
        access(account, scopes=["https://www.googleapis.com/auth/pubsub"]),
        access(account, scopes=SCOPES, subject="someone@example.com"),
        access(account, scopes=SCOPES, quota_project_id="another"),
        access(account),
        access(other, scopes=SCOPES),
        identity(credentials=access(account)),
        identity("https://another.example.com", credentials=access(account)),
        identity(credentials=access(other)),
        identity(credentials=access(account, scopes=SCOPES), target_principal=OTHER_EMAIL),
        identity(credentials=access(account, scopes=SCOPES), target_principal="c@example.com"),
        aio_authgrpc.service_account_jwt(account),
        aio_authgrpc.service_account_jwt(account, subject="another"),
        login(authority, "a@example.com"),
        login(authority, "b@example.com"),
        aio_authgrpc.static_token("a-token"),
        aio_authgrpc.static_token("another"),
        aio_authgrpc.token_source(orders_token),
        aio_authgrpc.token_source(billing_token),
        {"authorization": access(account, scopes=SCOPES)},
        {"authorization": access(other, scopes=SCOPES)},
    ]
    found = [await facts(source) for source in sources]
    assert len(set(found)) == len(sources)


@pytest.mark.parametrize("source", ["access", "id"])
async def test_machines_with_other_accounts_have_other_tokens(
    facts: Facts, google_cloud: GoogleCloud, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """A name that was copied from another service's settings gives nobody that service's tokens."""
    monkeypatch.setenv("GCE_METADATA_HOST", google_cloud.metadata.host)
    machine = aio_authgrpc.compute_engine()
    made = machine if source == "access" else aio_authgrpc.id_token(credentials=machine)
    mine = await facts(made)
    assert await facts(made) == mine
    google_cloud.metadata.email = OTHER_EMAIL
    assert await facts(made) != mine


async def test_a_machine_that_does_not_say_its_account_shares_nothing(
    facts: Facts, google_cloud: GoogleCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is raised, and tried again as one of the token endpoint's is."""
    monkeypatch.setenv("GCE_METADATA_HOST", google_cloud.metadata.host)
    google_cloud.metadata.fail(503, times=None)
    with pytest.raises(TransportError, match="503"):
        await facts(aio_authgrpc.compute_engine())
