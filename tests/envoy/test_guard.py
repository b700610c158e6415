"""A real Envoy before the Bookstore: the calls that it lets in, and its refusals."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

from aio_authgrpc import TokenSource, connect, service_account, service_account_jwt, static_token
from aio_authgrpc.bookstore import BookstoreStub, Empty, InMemoryBookstore
from aio_authgrpc.errors import ConnectionNotReadyError
from aio_authgrpc.testing import Authority, BookstoreServer, EnvoyProxy

EMAIL = "client@project.iam.gserviceaccount.com"
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

Credentials = Callable[[Authority, EnvoyProxy, Mapping[str, str]], TokenSource]
GOOD: dict[str, Credentials] = {
    "endpoints-jwt": lambda _, proxy, account: service_account_jwt(dict(account), audience=proxy.audience),
    "id-token": lambda authority, proxy, _: static_token(
        authority.issue_id_token(audience=proxy.audience, email=EMAIL)
    ),
    "access-token": lambda _, __, account: service_account(dict(account), scopes=SCOPES),
}


async def list_shelves(target: str, credentials: TokenSource, **arguments: Any) -> int:
    async with connect(target, BookstoreStub, credentials=credentials, **arguments) as bookstore:
        return len((await bookstore.ListShelves(Empty(), timeout=10)).shelves)


# Let in


@pytest.mark.parametrize("kind", GOOD)
async def test_good_token_reaches_the_bookstore(
    authority: Authority,
    account: Mapping[str, str],
    proxy: EnvoyProxy,
    upstream: BookstoreServer,
    listener: Any,
    kind: str,
) -> None:
    """Each kind of token opens each listener, at the first attempt."""
    credentials = GOOD[kind](authority, proxy, account)
    assert await list_shelves(listener.target(proxy), credentials, **listener.arguments(proxy)) == 2
    counts = await proxy.counts()
    assert (upstream.calls, counts.allowed, counts.denied) == (1, 1, 0)


async def test_bookstore_is_told_who_calls(
    account: Mapping[str, str], proxy: EnvoyProxy, service: Any, listener: Any
) -> None:
    """The payload of the token arrives as x-endpoint-api-userinfo."""
    jwt = service_account_jwt(dict(account), audience=proxy.audience, subject="12345678")
    await list_shelves(listener.target(proxy), jwt, **listener.arguments(proxy))
    [caller] = service.callers
    assert (caller["iss"], caller["sub"], caller["aud"]) == (EMAIL, "12345678", proxy.audience)


async def test_forged_user_info_is_replaced(
    account: Mapping[str, str], proxy: EnvoyProxy, service: Any
) -> None:
    """A client's own metadata of that name does not reach the service."""
    forged = base64.urlsafe_b64encode(json.dumps({"iss": "somebody else"}).encode()).decode()
    jwt = service_account_jwt(dict(account), audience=proxy.audience)
    metadata = (("x-endpoint-api-userinfo", forged),)
    await list_shelves(proxy.h2c_target, jwt, plaintext=True, metadata=metadata)
    assert [caller["iss"] for caller in service.callers] == [EMAIL]


@pytest.mark.parametrize("tls", [{"tls": True}, {"tls": True, "mutual_tls": True}], ids=["tls", "mutual-tls"])
async def test_bookstore_may_demand_tls_of_envoy(
    authority: Authority, account: Mapping[str, str], tls: dict[str, bool]
) -> None:
    """Envoy presents a client certificate if the server demands one."""
    async with (
        BookstoreServer(service=InMemoryBookstore(), **tls) as server,
        EnvoyProxy(authority, server, accept=[EMAIL]) as proxy,
    ):
        jwt = service_account_jwt(dict(account), audience=proxy.audience)
        assert await list_shelves(proxy.tls_target, jwt, ssl_credentials=proxy.ssl_credentials) == 2
        assert server.calls == 1


# Refused


async def own_key(authority: Authority, audience: str) -> str:
    return authority.issue_id_token(audience=audience, key=await authority.foreign_key())


async def unknown_key(authority: Authority, audience: str) -> str:
    return authority.issue_id_token(audience=audience, key=await authority.foreign_key(key_id="unknown"))


async def other_issuer(authority: Authority, audience: str) -> str:
    return authority.issue_id_token(audience=audience, issuer="https://somebody.example")


async def expired(authority: Authority, audience: str) -> str:
    return authority.issue_id_token(audience=audience, lifetime=-120)


async def not_yet_valid(authority: Authority, audience: str) -> str:
    return authority.issue_id_token(audience=audience, not_before=120)


async def other_audience(authority: Authority, _: str) -> str:
    return authority.issue_id_token(audience="https://elsewhere.example")


async def other_audience_of_account(authority: Authority, _: str) -> str:
    return authority.issue_self_signed_token(audience="https://elsewhere.example", email=EMAIL)


async def access_audience_of_account(authority: Authority, _: str) -> str:
    return authority.issue_self_signed_token(audience=authority.access_token_audience, email=EMAIL)


Bad = Callable[[Authority, str], Awaitable[str]]
BAD: dict[str, tuple[Bad, grpc.StatusCode, str]] = {
    "foreign-key": (own_key, UNAUTHENTICATED, "Jwt verification fails"),
    "unknown-key": (unknown_key, UNAUTHENTICATED, "Jwks doesn't have key to match kid or alg from Jwt"),
    "wrong-issuer": (other_issuer, UNAUTHENTICATED, "Jwt issuer is not configured"),
    "expired": (expired, UNAUTHENTICATED, "Jwt is expired"),
    "future-nbf": (not_yet_valid, UNAUTHENTICATED, "Jwt not yet valid"),
    "wrong-audience": (other_audience, PERMISSION_DENIED, "Audiences in Jwt are not allowed"),
    "wrong-audience-of-account": (
        other_audience_of_account,
        PERMISSION_DENIED,
        "Audiences in Jwt are not allowed",
    ),
    "access-audience-of-account": (
        access_audience_of_account,
        PERMISSION_DENIED,
        "Audiences in Jwt are not allowed",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_token_is_refused(
    authority: Authority, proxy: EnvoyProxy, upstream: BookstoreServer, listener: Any, name: str
) -> None:
    """Envoy gives the reason once, and no call reaches the Bookstore."""
    issue, code, details = BAD[name]
    token = static_token(await issue(authority, proxy.audience))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await list_shelves(listener.target(proxy), token, **listener.arguments(proxy))
    assert (raised.value.code(), raised.value.details()) == (code, details)
    assert 'error="invalid_token"' in dict(raised.value.trailing_metadata())["www-authenticate"]
    assert (upstream.calls, (await proxy.counts()).denied) == (0, 1)


async def test_call_without_a_token_is_refused(
    proxy: EnvoyProxy, upstream: BookstoreServer, listener: Any
) -> None:
    """By a channel of grpc.aio's own."""
    async with listener.channel(proxy) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await BookstoreStub(channel).ListShelves(Empty(), timeout=10)
    assert (raised.value.code(), raised.value.details()) == (UNAUTHENTICATED, "Jwt is missing")
    assert (upstream.calls, (await proxy.counts()).denied) == (0, 1)


@pytest.mark.parametrize(("lifetime", "not_before"), [(-30, None), (3600, 30)], ids=["expired", "not-yet"])
async def test_clocks_may_differ_by_a_minute(
    authority: Authority, proxy: EnvoyProxy, lifetime: float, not_before: float | None
) -> None:
    """A token that missed its time by half the skew is accepted."""
    token = authority.issue_id_token(audience=proxy.audience, lifetime=lifetime, not_before=not_before)
    assert await list_shelves(proxy.h2c_target, static_token(token), plaintext=True) == 2


@pytest.mark.parametrize("name", BAD)
async def test_server_of_the_tests_refuses_in_the_same_words(
    authority: Authority, account: Mapping[str, str], name: str
) -> None:
    """BookstoreServer refuses as Envoy does in the tests above."""
    issue, code, details = BAD[name]
    async with BookstoreServer(authority, accept=[EMAIL]) as server:
        token = static_token(await issue(authority, server.audience))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await list_shelves(server.target, token, ssl_credentials=server.ssl_credentials)
    assert (raised.value.code(), raised.value.details()) == (code, details)


# Refused before the token


# Envoy's TLS alert ends the connection, which gRPC calls corrupt data; the reset of the connection that
# follows may overtake it.
TLS_ENDED = r"(Unwrap failed \(TSI_DATA_CORRUPTED\)|Socket closed|.*Connection reset by peer)"


def without_a_certificate(proxy: EnvoyProxy) -> grpc.ChannelCredentials:
    return proxy.ssl_credentials


def with_a_stranger_s_certificate(proxy: EnvoyProxy) -> grpc.ChannelCredentials:
    stranger = trustme.CA().issue_cert("client@example.com")
    chain = b"".join(link.bytes() for link in stranger.cert_chain_pems)
    return grpc.ssl_channel_credentials(proxy.ca_pem, stranger.private_key_pem.bytes(), chain)


@pytest.mark.parametrize("certificate", [without_a_certificate, with_a_stranger_s_certificate])
async def test_client_that_envoy_does_not_know_is_told_whose_tls_failed(
    account: Mapping[str, str],
    proxy: EnvoyProxy,
    upstream: BookstoreServer,
    certificate: Callable[[EnvoyProxy], grpc.ChannelCredentials],
) -> None:
    """The mutual listener ends the connection; the error names the peer, and TLS, before its deadline."""
    jwt = service_account_jwt(dict(account), audience=proxy.audience)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await list_shelves(proxy.mutual_tls_target, jwt, ssl_credentials=certificate(proxy))
    peer = f"ipv4:127.0.0.1:{proxy.mutual_tls_target.rpartition(':')[2]}"
    assert raised.value.code() is UNAVAILABLE
    assert re.search(f"{peer}: {TLS_ENDED}", raised.value.details() or "")
    assert "it may demand a client certificate" in raised.value.hint
    assert upstream.calls == 0


async def test_client_without_a_certificate_is_never_ready(authority: Authority, proxy: EnvoyProxy) -> None:
    """With ready_timeout the error shows on entry, and its hint points at the certificate."""
    token = static_token(authority.issue_id_token(audience=proxy.audience))
    arguments = {"ssl_credentials": proxy.ssl_credentials, "ready_timeout": 0.5}
    with pytest.raises(ConnectionNotReadyError, match="certificate") as raised:
        await list_shelves(proxy.mutual_tls_target, token, **arguments)
    assert raised.value.code() is UNAVAILABLE
