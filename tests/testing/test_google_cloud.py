"""The fakes of Google Cloud: what they refuse, and that names of the internet lead to them."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from aio_authgrpc.testing import (
    Authority,
    AwsMetadataServer,
    CredentialFiles,
    FakeClock,
    GoogleCloud,
    InterceptingProxy,
    MetadataServer,
    SubjectTokenServer,
)

EMAIL = "tester@project.iam.gserviceaccount.com"
METADATA = "http://metadata.google.internal/computeMetadata/v1"
ACCOUNTS = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
FLAVOR = {"Metadata-Flavor": "Google"}


@pytest.fixture
async def cloud(authority: Authority) -> AsyncIterator[GoogleCloud]:
    async with GoogleCloud(authority) as cloud:
        yield cloud


class Client:
    """Asks at Google's names, through the proxy."""

    def __init__(self, session: aiohttp.ClientSession, proxy: str) -> None:
        self._session = session
        self._proxy = proxy

    async def __call__(self, url: str, method: str = "GET", **arguments: Any) -> tuple[int, str]:
        async with self._session.request(method, url, proxy=self._proxy, **arguments) as response:
            return response.status, await response.text()


@pytest.fixture
async def ask(cloud: GoogleCloud) -> AsyncIterator[Client]:
    async with cloud.session() as session:
        yield Client(session, cloud.proxy.url)


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


# The metadata server


@pytest.mark.parametrize("path", ["/project/project-id", "/instance/service-accounts/default/token"])
async def test_metadata_is_for_who_knows_the_header(ask: Client, path: str) -> None:
    """So that a browser that was led there gets nothing."""
    assert (await ask(METADATA + path))[0] == 403
    assert (await ask(METADATA + path, headers=FLAVOR))[0] == 200


async def test_metadata_tells_who_the_machine_is(ask: Client, cloud: GoogleCloud) -> None:
    """The account, the project and the universe."""
    _, account = await ask(f"{METADATA}/instance/service-accounts/default/?recursive=true", headers=FLAVOR)
    _, project = await ask(f"{METADATA}/project/project-id", headers=FLAVOR)
    _, universe = await ask(f"{METADATA}/universe/universe-domain", headers=FLAVOR)
    assert json.loads(account)["email"] == cloud.metadata.email
    assert (project, universe) == ("project", "googleapis.com")


async def test_metadata_gives_a_token_of_the_scopes_asked_for(ask: Client, cloud: GoogleCloud) -> None:
    """Separated by commas."""
    url = f"{METADATA}/instance/service-accounts/default/token?scopes=a,b"
    _, body = await ask(url, headers=FLAVOR)
    token = claims(json.loads(body)["access_token"])
    assert (token["scope"], token["email"]) == ("a b", cloud.metadata.email)


async def test_metadata_gives_an_id_token_for_an_audience_alone(ask: Client) -> None:
    """Without one it refuses."""
    url = f"{METADATA}/instance/service-accounts/default/identity"
    assert (await ask(url, headers=FLAVOR))[0] == 400
    _, token = await ask(f"{url}?audience=https://service&format=full", headers=FLAVOR)
    assert claims(token)["aud"] == "https://service"


async def test_metadata_knows_no_other_account(ask: Client) -> None:
    """Only the default one, by that name or its own."""
    url = f"{METADATA}/instance/service-accounts/other@project.iam.gserviceaccount.com/token"
    assert (await ask(url, headers=FLAVOR))[0] == 404


async def test_metadata_of_no_universe_is_not_found(authority: Authority) -> None:
    """As on machines that know of one only."""
    async with (
        MetadataServer(authority, universe_domain=None) as server,
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}/computeMetadata/v1/universe/universe-domain", headers=FLAVOR) as response,
    ):
        assert (response.status, response.headers["Metadata-Flavor"]) == (404, "Google")


# Google's APIs


EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "subject_token": "subject",
    "audience": "//iam.googleapis.com/pool",
}


async def test_sts_exchanges_a_subject_token(ask: Client) -> None:
    """For a token of who the audience says."""
    status, body = await ask("https://sts.googleapis.com/v1/token", "POST", data=EXCHANGE)
    assert (status, claims(json.loads(body)["access_token"])["email"]) == (
        200,
        "principal://iam.googleapis.com/pool",
    )


@pytest.mark.parametrize("missing", ["grant_type", "requested_token_type", "subject_token", "audience"])
async def test_sts_refuses_an_exchange_that_lacks_a_field(ask: Client, missing: str) -> None:
    """Each of them is required."""
    form = {name: value for name, value in EXCHANGE.items() if name != missing}
    assert (await ask("https://sts.googleapis.com/v1/token", "POST", data=form))[0] == 400


async def test_sts_refreshes_only_who_shows_the_clients_secret(ask: Client, cloud: GoogleCloud) -> None:
    """With HTTP Basic."""
    user = cloud.authority.user_info()
    url = "https://sts.googleapis.com/v1/oauthtoken"
    form = {"grant_type": "refresh_token", "refresh_token": user["refresh_token"]}
    known = basic(user["client_id"], user["client_secret"])
    assert (await ask(url, "POST", data=form))[0] == 401
    assert (await ask(url, "POST", data=form, headers=basic("x", "y")))[0] == 401
    assert (await ask(url, "POST", data=form, headers=known))[0] == 200


@pytest.mark.parametrize("method", ["generateAccessToken", "generateIdToken", "signBlob", "signJwt"])
async def test_iam_refuses_who_shows_no_token_of_the_authority(ask: Client, method: str) -> None:
    """A missing bearer, or one with an unknown signature."""
    forged = {"Authorization": "Bearer " + jwt.encode({"iss": "me"}, "x" * 32)}
    assert (await ask(f"{ACCOUNTS}/{EMAIL}:{method}", "POST", json={}))[0] == 401
    assert (await ask(f"{ACCOUNTS}/{EMAIL}:{method}", "POST", json={}, headers=forged))[0] == 401


async def test_iam_impersonates_for_as_long_as_it_was_asked(authority: Authority) -> None:
    """The expiry is the endpoint's clock plus the lifetime."""
    clock = FakeClock()
    async with GoogleCloud(authority, clock=clock) as cloud, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {authority.issue_access_token()}"}
        url = f"{cloud.apis.url}/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
        async with session.post(url, json={"scope": ["s"], "lifetime": "600s"}, headers=headers) as response:
            assert (await response.json())["expireTime"] == "2023-11-14T22:23:20Z"


async def test_iam_signs_with_the_accounts_key(ask: Client, cloud: GoogleCloud) -> None:
    """And for no account without a key."""
    headers = {"Authorization": f"Bearer {cloud.authority.issue_access_token()}"}
    payload = {"payload": base64.b64encode(b"x").decode()}
    assert (await ask(f"{ACCOUNTS}/{EMAIL}:signBlob", "POST", json=payload, headers=headers))[0] == 404
    await cloud.service_account_info(EMAIL)
    status, body = await ask(f"{ACCOUNTS}/{EMAIL}:signBlob", "POST", json=payload, headers=headers)
    assert (status, json.loads(body)["keyId"]) == (200, cloud.authority.account_key(EMAIL).key_id)


async def test_a_boundary_is_there_once_it_is_set(ask: Client, cloud: GoogleCloud) -> None:
    """For accounts, and for pools."""
    headers = {"Authorization": f"Bearer {cloud.authority.issue_access_token()}"}
    url = f"{ACCOUNTS}/{EMAIL}/allowedLocations"
    assert (await ask(url, headers=headers))[0] == 404
    cloud.apis.encoded_locations = "0xA30"
    _, body = await ask(url, headers=headers)
    assert json.loads(body)["encodedLocations"] == "0xA30"


# Workloads elsewhere


async def test_aws_answers_who_has_a_session_token() -> None:
    """Version 2 of its metadata service."""
    async with AwsMetadataServer() as server, aiohttp.ClientSession() as session:
        source = server.credential_source()
        async with session.get(source["region_url"]) as response:
            assert response.status == 401
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
        async with session.put(source["imdsv2_session_token_url"], headers=ttl) as response:
            token = {"X-aws-ec2-metadata-token": await response.text()}
        async with session.get(source["region_url"], headers=token) as response:
            assert await response.text() == "us-east-2b"


@pytest.mark.parametrize("json", [False, True], ids=["text", "json"])
async def test_subject_tokens_are_for_who_knows_the_header(json: bool) -> None:
    """As Azure's metadata server has it."""
    async with SubjectTokenServer("subject") as server, aiohttp.ClientSession() as session:
        url = str(server.credential_source(json=json)["url"])
        async with session.get(url) as response:
            assert response.status == 403
        async with session.get(url, headers={"Metadata": "True"}) as response:
            assert "subject" in await response.text()


async def test_gdch_refuses_who_signs_with_an_unknown_key(cloud: GoogleCloud, tmp_path: Path) -> None:
    """Its certificate is from an authority of its own."""
    info = cloud.gdch.service_account_info(tmp_path / "ca.pem")
    context = ssl.create_default_context(cafile=info["ca_cert_path"])
    body = {
        "grant_type": "urn:ietf:params:oauth:token-type:token-exchange",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token_type": "urn:k8s:params:oauth:token-type:serviceaccount",
        "subject_token": jwt.encode({}, "x" * 32, headers={"kid": "unknown"}),
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(info["token_uri"], json=body, ssl=context) as response,
    ):
        assert (response.status, (await response.json())["error"]) == (401, "invalid_grant")


# The proxy


async def test_a_host_without_a_route_is_refused(ask: Client, cloud: GoogleCloud) -> None:
    """Nothing leaves the machine, and the name is noted."""
    with pytest.raises(aiohttp.ClientHttpProxyError):
        await ask("https://example.com/")
    assert (await ask("http://example.org/"))[0] == 502
    assert cloud.proxy.refused == ["example.com", "example.org"]


async def test_a_host_for_client_certificates_demands_one(cloud: GoogleCloud, tmp_path: Path) -> None:
    """One that the proxy's authority issued."""
    context = cloud.proxy.client_context()
    chain, key = cloud.proxy.issue_client_certificate()
    (tmp_path / "client.pem").write_bytes(key + chain)
    url = "https://sts.mtls.googleapis.com/v1/token"
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.post(url, data=EXCHANGE, proxy=cloud.proxy.url, ssl=context)
        context.load_cert_chain(tmp_path / "client.pem")
        async with session.post(url, data=EXCHANGE, proxy=cloud.proxy.url, ssl=context) as response:
            assert response.status == 200


async def test_closing_the_proxy_ends_a_connection_that_is_open(cloud: GoogleCloud) -> None:
    """And does not wait for the client."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(cloud.proxy.url.rpartition(":")[2]))
    writer.write(b"CONNECT sts.googleapis.com:443 HTTP/1.1\r\n\r\n")
    assert b"200" in await reader.readuntil(b"\r\n\r\n")
    await cloud.proxy.aclose()
    assert await reader.read() == b""
    writer.close()


async def test_a_proxy_that_is_not_open_has_no_address() -> None:
    """It says so."""
    with pytest.raises(RuntimeError, match="is not open"):
        _ = InterceptingProxy({}).url


# All together


async def test_the_environment_leads_a_program_here_and_lets_it_trust(
    cloud: GoogleCloud, tmp_path: Path
) -> None:
    """The certificate is in a file that it names."""
    environment = cloud.environment(tmp_path)
    assert environment["HTTPS_PROXY"] == cloud.proxy.url
    assert Path(environment["SSL_CERT_FILE"]).read_bytes() == cloud.proxy.ca_pem


async def test_all_requests_are_in_one_journal(ask: Client, cloud: GoogleCloud) -> None:
    """In the order in which they came, with the host that was meant."""
    await ask(f"{METADATA}/project/project-id", headers=FLAVOR)
    await ask("https://oauth2.googleapis.com/token", "POST", data={})
    hosts = [request.headers["Host"] for request in cloud.requests]
    assert hosts == ["metadata.google.internal", "oauth2.googleapis.com"]


async def test_there_is_a_credential_file_of_every_type(cloud: GoogleCloud, tmp_path: Path) -> None:
    """Each type that google-auth's loader knows."""
    infos = await CredentialFiles(cloud, tmp_path).every_type()
    assert {info["type"] for info in infos.values()} == {
        "service_account",
        "authorized_user",
        "impersonated_service_account",
        "external_account",
        "external_account_authorized_user",
        "gdch_service_account",
    }


# The authority


async def test_tokens_of_a_repeatable_authority_that_say_the_same_are_the_same() -> None:
    """While its clock stands still; otherwise no two are equal."""
    async with Authority(clock=FakeClock(), repeatable=True) as authority:
        assert authority.issue_access_token() == authority.issue_access_token()
    async with Authority(clock=FakeClock()) as authority:
        assert authority.issue_access_token() != authority.issue_access_token()


async def test_an_assertion_that_names_no_key_is_verified_with_any_of_the_accounts() -> None:
    """As the IAM API signs them for google-auth."""
    clock = FakeClock()
    async with Authority(clock=clock, assertion_skew=math.inf) as authority:
        await authority.service_account_info(EMAIL)
        key = authority.account_key(EMAIL).private_key
        now = int(clock.time())
        audience = "https://www.googleapis.com/oauth2/v4/token"
        payload = {"iss": EMAIL, "aud": audience, "iat": now, "exp": now + 60, "target_audience": "service"}
        assertion = jwt.encode(payload, key, algorithm="RS256")
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        assert claims(str(authority.grant(form)["id_token"]))["aud"] == "service"
