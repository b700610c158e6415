"""What a source tells of whose tokens it gives: the same on every machine, and different for others."""

from __future__ import annotations

import datetime
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import pytest
from google.auth import (
    aws,
    compute_engine,
    external_account_authorized_user,
    identity_pool,
    impersonated_credentials,
    jwt,
)
from google.auth.exceptions import TransportError
from google.oauth2.credentials import Credentials

import aio_authgrpc
from aio_authgrpc import AiohttpRequest, ConfigurationError, Token, TokenRequest
from aio_authgrpc._sources import identity_facts as module
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
    made: Any = Credentials.from_authorized_user_info(authority.user_info(email))  # type: ignore[no-untyped-call]  # google-auth has no types
    return made.with_token_uri(authority.token_uri)


async def orders_token() -> str:
    """Return a token of a vault."""
    return "a-token"


async def billing_token() -> str:
    """Return another one."""
    return "another"


async def token_of(tenant: str) -> str:
    """Return the token of a tenant."""
    return tenant


async def another_token_of(tenant: str) -> str:
    """Return another one."""
    return tenant


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
        aio_authgrpc.service_account_jwt(account, issuer="i", subject="s", email="e"),
        aio_authgrpc.service_account_jwt(other, issuer="i", subject="s", email="e"),
        access(account, scopes=SCOPES, self_signed=True),
        access({**account, "universe_domain": "example.com"}, scopes=SCOPES),
        access({**account, "token_uri": "https://another.example.com"}, scopes=SCOPES),
        login(authority, "a@example.com"),
        login(authority, "b@example.com"),
        aio_authgrpc.static_token("a-token"),
        aio_authgrpc.static_token("another"),
        aio_authgrpc.static_token(Token("a-token", metadata=(("x-user", "a"),))),
        aio_authgrpc.static_token(Token("a-token", metadata=(("x-user", "b"),))),
        aio_authgrpc.static_token(Token("a-token", scheme="DPoP")),
        aio_authgrpc.token_source(orders_token),
        aio_authgrpc.token_source(billing_token),
        aio_authgrpc.token_source(partial(token_of, "a")),
        aio_authgrpc.token_source(partial(another_token_of, "a")),
        {"authorization": access(account, scopes=SCOPES)},
        {"authorization": access(other, scopes=SCOPES)},
    ]
    found = [await facts(source) for source in sources]
    assert len(set(found)) == len(sources)


class Supplier(identity_pool.SubjectTokenSupplier):  # type: ignore[misc]  # google-auth has no types
    """Brings the token of a workload."""

    def get_subject_token(self, context: object, request: object) -> str:
        """Return it."""
        return "a-token"


class AnotherSupplier(Supplier):
    """Brings another one."""


class AwsSupplier(aws.AwsSecurityCredentialsSupplier):  # type: ignore[misc]  # as above
    """Brings the keys of a workload."""

    def get_aws_security_credentials(self, context: object, request: object) -> Any:
        """Return them."""
        return aws.AwsSecurityCredentials("a-key", "a-secret")

    def get_aws_region(self, context: object, request: object) -> str:
        """Return where it runs."""
        return "eu-central-1"


def pool(url: str = "https://sts.example.com/token", **arguments: Any) -> Any:
    """Return the credential of a workload pool."""
    given = {} if "subject_token_supplier" in arguments else {"credential_source": {"file": "/var/token"}}
    arguments = {**given, **arguments}
    untyped: Any = identity_pool.Credentials
    return untyped("//iam.googleapis.com/pool", "urn:ietf:params:oauth:token-type:jwt", url, **arguments)


def impersonated(source: Any, **arguments: Any) -> Any:
    """Return the credential of an account that a login impersonates."""
    untyped: Any = impersonated_credentials.Credentials
    return untyped(source, OTHER_EMAIL, SCOPES, **arguments)


async def test_what_google_auths_credentials_were_given_is_part_of_the_facts(
    facts: Facts, authority: Authority, account: Any
) -> None:
    """What makes other tokens makes other facts."""
    source = login(authority, "a@example.com")
    id_tokens: Any = impersonated_credentials.IDTokenCredentials
    signer: Any = jwt.Credentials.from_service_account_info  # type: ignore[no-untyped-call]  # google-auth has no types
    of_aws: Any = aws.Credentials
    credentials = [
        impersonated(source),
        impersonated(source, subject="someone@example.com"),
        id_tokens(impersonated(source), AUDIENCE),
        id_tokens(impersonated(source), AUDIENCE, include_email=True),
        pool(),
        pool("https://another.example.com/token"),
        pool(credential_source={"file": "/var/another"}),
        pool(subject_token_supplier=Supplier()),
        pool(subject_token_supplier=AnotherSupplier()),
        of_aws("//iam", "urn:aws", "https://sts", aws_security_credentials_supplier=AwsSupplier()),
        signer(account, audience=AUDIENCE),
        signer(account, audience=AUDIENCE, additional_claims={"a": 1}),
        signer(account, audience=AUDIENCE, additional_claims={1: "a", "b": b"c"}),
        signer(account, audience=AUDIENCE, additional_claims={1: "a", "b": b"d"}),
    ]
    found = [await facts(each) for each in credentials]
    assert len(set(found)) == len(credentials)


def in_an_hour() -> datetime.datetime:
    """Return a time as google-auth has it."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(hours=1)


class UnknownCredentials(Credentials):
    """A class of google-auth's that is newer than this package."""

    __module__ = "google.auth.newer"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Credentials("a-token", expiry=in_an_hour()), id="token-only"),  # type: ignore[no-untyped-call]  # google-auth has no types
        pytest.param(
            lambda: Credentials(None, refresh_handler=lambda *_, **__: ("a", in_an_hour())),  # type: ignore[no-untyped-call]  # google-auth has no types
            id="handler",
        ),
        pytest.param(
            lambda: external_account_authorized_user.Credentials(token="a-token", expiry=in_an_hour()),  # type: ignore[no-untyped-call]  # google-auth has no types
            id="workforce",
        ),
        pytest.param(lambda: UnknownCredentials(None, refresh_token="r"), id="unknown"),  # type: ignore[no-untyped-call]  # google-auth has no types
    ],
)
async def test_a_credential_that_tells_nobodys_identity_is_refused(
    facts: Facts, make: Callable[[], Any]
) -> None:
    """Two people's would look alike; the error says what to pass."""
    with pytest.raises(ConfigurationError, match="token_source") as caught:
        await facts(make())
    assert "a-token" not in str(caught.value)


async def test_a_refresh_token_that_is_used_once_changes_nothing(facts: Facts, authority: Authority) -> None:
    """All processes of a login stay at one place in the store."""
    credentials = login(authority, "a@example.com")
    before = await facts(credentials)
    credentials._refresh_token = "the-next-one"
    assert await facts(credentials) == before


async def test_facts_are_forgotten_with_their_credential(facts: Facts, authority: Authority) -> None:
    """Nothing is kept for the next object at that address."""
    credentials = login(authority, "a@example.com")
    await facts(credentials)
    kept = len(module._first_seen)
    del credentials
    gc.collect()
    assert len(module._first_seen) < kept


async def test_a_refresh_on_a_machine_changes_nothing(
    facts: Facts, google_cloud: GoogleCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """google-auth learns the email and the scopes there."""
    monkeypatch.setenv("GCE_METADATA_HOST", google_cloud.metadata.host)
    source = aio_authgrpc.compute_engine()
    before = await facts(source)
    async with AiohttpRequest() as http:
        await source.fetch(TokenRequest(http=http, audience=AUDIENCE, time=time.time()))
    assert await facts(source) == before


async def test_another_account_of_a_machine_has_other_tokens(
    facts: Facts, google_cloud: GoogleCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine may have several."""
    monkeypatch.setenv("GCE_METADATA_HOST", google_cloud.metadata.host)
    of: Any = compute_engine.Credentials
    found = [
        await facts(of()),
        await facts(of(service_account_email=OTHER_EMAIL)),
        await facts(of(service_account_email="c@example.com")),
    ]
    assert len(set(found)) == len(found)


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
