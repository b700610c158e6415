"""gapic.client(): the endpoint, scopes, project and certificates that the client itself would choose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.api_core.gapic_v1.client_info import ClientInfo
from google.cloud import firestore
from google.cloud.secretmanager_v1 import SecretManagerServiceAsyncClient, SecretManagerServiceClient
from google.pubsub_v1 import PublisherAsyncClient
from google.pubsub_v1 import types as pubsub

from aio_authgrpc import ConfigurationError, anonymous, static_token
from aio_authgrpc.errors import ChannelClosedError
from aio_authgrpc.gapic import client
from aio_authgrpc.testing import Authority, GoogleCloud, ScriptedTokens

from .fake_cloud import FakeCloud
from .services import ACCESS, PUBLISH, RPCS

TOKEN = static_token("abc")


async def endpoint(**arguments: Any) -> str:
    """Return the endpoint of a client that was opened and made no call."""
    async with client(SecretManagerServiceAsyncClient, credentials=TOKEN, **arguments) as secrets:
        assert secrets.api_endpoint == secrets.transport.host
        return str(secrets.api_endpoint)


# The endpoint


async def test_the_endpoint_is_the_clients_own() -> None:
    """With its port."""
    assert await endpoint() == "secretmanager.googleapis.com:443"


async def test_the_endpoint_is_that_of_the_universe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option's, or the environment's; the client knows it, too."""
    assert await endpoint(client_options={"universe_domain": "a.example"}) == "secretmanager.a.example:443"
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "b.example")
    assert await endpoint() == "secretmanager.b.example:443"
    async with client(SecretManagerServiceAsyncClient, credentials=TOKEN) as secrets:
        assert secrets.universe_domain == "b.example"


async def test_a_regional_endpoint_is_an_option() -> None:
    """As without this package."""
    regional = "secretmanager.europe-west1.rep.googleapis.com"
    assert await endpoint(client_options=ClientOptions(api_endpoint=regional)) == f"{regional}:443"


async def test_the_endpoint_for_mutual_tls_is_used_when_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """`always`; or with a client certificate (https://google.aip.dev/auth/4114)."""
    monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", "always")
    assert await endpoint() == "secretmanager.mtls.googleapis.com:443"
    monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", "never")
    assert await endpoint() == "secretmanager.googleapis.com:443"


# Client certificates


async def test_the_certificate_of_the_options_is_shown(
    authority: Authority, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`client_cert_source`, where the environment allows it."""
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    async with FakeCloud(authority, RPCS, mutual_tls=True) as cloud:
        options = {
            "api_endpoint": cloud.target,
            "client_cert_source": lambda: cloud.issue_client_certificate("client@example.com"),
        }
        async with client(ACCESS.client, credentials=source, client_options=options) as secrets:
            assert await ACCESS.run(secrets) == ACCESS.says


async def test_the_certificate_of_a_workload_leads_to_the_endpoint_for_mutual_tls(
    cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client looks for it in files: in a thread, so that the loop is not blocked."""
    chain, key = cloud.issue_client_certificate()
    paths = {"cert_path": tmp_path / "chain.pem", "key_path": tmp_path / "key.pem"}
    paths["cert_path"].write_bytes(chain)
    paths["key_path"].write_bytes(key)
    config = tmp_path / "certificate_config.json"
    workload = {name: str(path) for name, path in paths.items()}
    config.write_text(json.dumps({"cert_configs": {"workload": workload}}))
    monkeypatch.setenv("GOOGLE_API_CERTIFICATE_CONFIG", str(config))
    assert await endpoint() == "secretmanager.mtls.googleapis.com:443"


# Who calls, and who pays


async def test_a_service_account_of_the_environment_signs_for_the_service(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the client itself does it: for its own host, whatever the endpoint is, without a token request."""
    info = await authority.service_account_info()
    key_file = tmp_path / "key.json"
    key_file.write_text(json.dumps(info))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    audience = "https://secretmanager.googleapis.com/"
    async with FakeCloud(authority, RPCS, audience=audience, accept=[info["client_email"]]) as cloud:
        async with client(ACCESS.client, client_options={"api_endpoint": cloud.target}) as secrets:
            assert await ACCESS.run(secrets) == ACCESS.says
    assert authority.token_requests == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "https://www.googleapis.com/auth/cloud-platform,https://www.googleapis.com/auth/pubsub"),
        ({"scopes": ["a-scope"]}, "a-scope"),
    ],
    ids=["the-clients", "the-users"],
)
async def test_default_credentials_that_need_scopes_get_the_clients_own(
    options: dict[str, Any],
    expected: str,
    cloud: FakeCloud,
    google_cloud: GoogleCloud,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as a machine's service account; `client_options.scopes` come first."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nowhere")
    monkeypatch.delenv("NO_GCE_CHECK", raising=False)
    given = {"api_endpoint": cloud.target, **options}
    async with client(PUBLISH.client, client_options=given) as publisher:
        assert await PUBLISH.run(publisher) == PUBLISH.says
    asked = [request.query.get("scopes") for request in google_cloud.requests if "/token" in request.path]
    assert asked == [expected]


async def test_the_quota_project_of_the_options_pays(cloud: FakeCloud, source: Any) -> None:
    """An argument beside it is the more exact one."""
    options = {"api_endpoint": cloud.target, "quota_project_id": "payer"}
    for arguments in ({}, {"quota_project_id": "another"}):
        async with client(ACCESS.client, credentials=source, client_options=options, **arguments) as secrets:
            await ACCESS.run(secrets)
    assert [call.values("x-goog-user-project") for call in cloud.recorded] == [("payer",), ("another",)]


async def test_an_api_key_of_the_options_is_the_identity(authority: Authority) -> None:
    """In the header that Google's APIs read."""
    async with FakeCloud(None, RPCS) as cloud:
        options = {"api_endpoint": cloud.target, "api_key": "the-key"}
        async with client(ACCESS.client, client_options=options) as secrets:
            await ACCESS.run(secrets)
    assert [call.values("x-goog-api-key") for call in cloud.recorded] == [("the-key",)]
    assert cloud.bearers() == [()]


async def test_the_audience_of_the_options_is_that_of_the_tokens(cloud: FakeCloud) -> None:
    """`api_audience`; the service's own host without it."""
    tokens = ScriptedTokens("not-good")
    for options in ({"api_audience": "https://an-audience"}, {}):
        given = {"api_endpoint": cloud.target, **options}
        async with client(ACCESS.client, credentials=tokens, client_options=given) as secrets:
            with pytest.raises(exceptions.Unauthenticated):
                await ACCESS.run(secrets)
    asked = [request.audience for request in tokens.requests]
    assert asked == ["https://an-audience", "https://secretmanager.googleapis.com"]


# What is refused, and what is handed on


@pytest.mark.parametrize(
    "given",
    [SecretManagerServiceClient, firestore.AsyncClient, object, None, "SecretManagerServiceAsyncClient"],
    ids=lambda given: getattr(given, "__name__", repr(given)),
)
def test_what_is_no_generated_async_client_is_refused_at_once(given: Any) -> None:
    """With the function that is for it."""
    with pytest.raises(ConfigurationError, match=r"gapic\.credentials\(\)") as caught:
        client(given, credentials=TOKEN)
    assert caught.value.field == "client_class"


async def test_an_emulator_is_called_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the client would open a channel to it by itself."""
    async with FakeCloud(None, RPCS, tls=False) as cloud:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", cloud.target)
        async with client(
            PublisherAsyncClient,
            credentials=anonymous(),
            client_options={"api_endpoint": cloud.target},
            plaintext=True,
        ) as publisher:
            assert await PUBLISH.run(publisher) == PUBLISH.says
    assert cloud.bearers() == [()]


async def test_what_the_client_says_of_itself_is_the_callers(cloud: FakeCloud, source: Any) -> None:
    """`client_info` and `metadata`; the user agent is gRPC's."""
    async with client(
        ACCESS.client,
        credentials=source,
        client_options={"api_endpoint": cloud.target},
        client_info=ClientInfo(client_library_version="9.9.9"),
        metadata={"x-team": "blue"},
    ) as secrets:
        await ACCESS.run(secrets)
    (call,) = cloud.recorded
    assert "gccl/9.9.9" in str(call.values("x-goog-api-client")[0])
    assert call.values("x-team") == ("blue",)


async def test_a_message_of_five_megabytes_is_sent_and_received(cloud: FakeCloud, source: Any) -> None:
    """google-cloud lifts gRPC's limit of four."""
    request = pubsub.PubsubMessage(data=b"x" * 5_000_000)
    async with client(
        PUBLISH.client, credentials=source, client_options={"api_endpoint": cloud.target}
    ) as publisher:
        with pytest.raises(exceptions.ResourceExhausted, match="larger than max"):  # the server's limit
            await publisher.publish(topic="projects/p/topics/t", messages=[request], retry=None)


async def test_a_client_that_was_left_refuses(cloud: FakeCloud, source: Any) -> None:
    """Its channel is closed with the block."""
    async with client(
        ACCESS.client, credentials=source, client_options={"api_endpoint": cloud.target}
    ) as secrets:
        await ACCESS.run(secrets)
    with pytest.raises(ChannelClosedError):
        await ACCESS.run(secrets)
