"""BookstoreServer: the calls that its guard lets in, and its refusals."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import google.auth.crypt
import google.auth.jwt
import grpc
import grpc.aio
import pytest

from aio_authgrpc.bookstore import BookstoreStub, Empty, GetShelfRequest, InMemoryBookstore, Shelf
from aio_authgrpc.testing import Authority, BookstoreServer, FakeClock, endpoint_user_info

EMAIL = "tester@project.iam.gserviceaccount.com"
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED

Metadata = tuple[tuple[str, str], ...]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def authority(clock: FakeClock) -> AsyncGenerator[Authority]:
    async with Authority(clock=clock) as authority:
        yield authority


@pytest.fixture
async def server(authority: Authority, clock: FakeClock) -> AsyncGenerator[BookstoreServer]:
    async with BookstoreServer(authority, clock=clock) as server:
        yield server


async def list_shelves(server: BookstoreServer, *metadata: tuple[str, str]) -> int:
    async with grpc.aio.secure_channel(server.target, server.ssl_credentials) as channel:
        return len((await BookstoreStub(channel).ListShelves(Empty(), metadata=metadata)).shelves)


async def refusal(server: BookstoreServer, *metadata: tuple[str, str]) -> grpc.aio.AioRpcError:
    calls = server.calls
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await list_shelves(server, *metadata)
    assert server.calls == calls
    return raised.value


def bearer(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")


# Let in


async def test_id_token_for_the_server_is_let_in(server: BookstoreServer, authority: Authority) -> None:
    """A caller with an ID token for https:// and the target reaches the service."""
    assert server.audience == f"https://{server.target}"
    assert await list_shelves(server, bearer(authority.issue_id_token(audience=server.audience))) == 2
    assert (server.calls, server.refused) == (1, 0)


async def test_access_token_is_let_in(server: BookstoreServer, authority: Authority) -> None:
    """An access token of the authority is accepted too."""
    assert await list_shelves(server, bearer(authority.issue_access_token())) == 2


async def test_token_for_one_of_several_audiences_is_let_in(
    server: BookstoreServer, authority: Authority
) -> None:
    """`aud` may be a list."""
    token = authority.sign({"iss": authority.issuer, "aud": ["https://elsewhere.example", server.audience]})
    assert await list_shelves(server, bearer(token)) == 2


async def test_token_for_the_configured_audience_is_let_in(authority: Authority, clock: FakeClock) -> None:
    """The audience can be a name of the service instead of its address."""
    async with BookstoreServer(authority, audience="bookstore.endpoints.example", clock=clock) as server:
        token = authority.issue_id_token(audience="bookstore.endpoints.example")
        assert await list_shelves(server, bearer(token)) == 2


async def test_self_signed_token_of_an_accepted_account_is_let_in(
    authority: Authority, clock: FakeClock
) -> None:
    """An accepted service account may sign its own tokens."""
    await authority.service_account_info(EMAIL)
    async with BookstoreServer(authority, accept=[EMAIL], clock=clock) as server:
        token = authority.issue_self_signed_token(audience=server.audience, email=EMAIL)
        assert await list_shelves(server, bearer(token)) == 2


async def test_token_signed_by_google_auth_is_let_in_by_certificates(
    authority: Authority, clock: FakeClock
) -> None:
    """The keys of an issuer may be a map of certificates, as Google publishes it."""
    info = await authority.service_account_info(EMAIL)
    issuers = {EMAIL: authority.account_x509_url(EMAIL)}
    async with BookstoreServer(issuers=issuers, audience="bookstore", clock=clock) as server:
        signer = google.auth.crypt.RSASigner.from_service_account_info(info)
        now = int(clock.time())
        claims = {"iss": EMAIL, "aud": "bookstore", "iat": now, "exp": now + 3600, "sub": "1", "email": EMAIL}
        assert await list_shelves(server, bearer(google.auth.jwt.encode(signer, claims).decode())) == 2


async def test_token_in_the_configured_header_is_let_in(authority: Authority, clock: FakeClock) -> None:
    """Cloud Run takes the token from a header of its own."""
    async with BookstoreServer(authority, header="x-serverless-authorization", clock=clock) as server:
        token = authority.issue_access_token()
        assert await list_shelves(server, ("x-serverless-authorization", f"Bearer {token}")) == 2


async def test_plaintext_server_lets_in_over_plaintext(authority: Authority, clock: FakeClock) -> None:
    """TLS can be left out."""
    async with (
        BookstoreServer(authority, tls=False, clock=clock) as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        metadata = (bearer(authority.issue_access_token()),)
        assert await BookstoreStub(channel).GetShelf(GetShelfRequest(shelf=1), metadata=metadata)


async def test_server_without_issuers_asks_for_no_token() -> None:
    """Without issuers the guard is off, as in Endpoints."""
    async with BookstoreServer() as server:
        assert await list_shelves(server) == 2


# Refused


async def with_foreign_key(authority: Authority, server: BookstoreServer, key_id: str | None) -> str:
    return authority.issue_id_token(audience=server.audience, key=await authority.foreign_key(key_id=key_id))


@pytest.mark.parametrize(
    ("wrong", "code", "details"),
    [
        pytest.param(
            {"audience": "https://elsewhere.example"},
            grpc.StatusCode.PERMISSION_DENIED,
            "Audiences in Jwt are not allowed",
            id="wrong-audience",
        ),
        pytest.param(
            {"issuer": "another-issuer"}, UNAUTHENTICATED, "Jwt issuer is not configured", id="wrong-issuer"
        ),
        pytest.param({"lifetime": -61}, UNAUTHENTICATED, "Jwt is expired", id="expired-beyond-the-skew"),
        pytest.param({"not_before": 61}, UNAUTHENTICATED, "Jwt not yet valid", id="not-yet-beyond-the-skew"),
    ],
)
async def test_wrong_claim_is_refused_like_espv2(
    server: BookstoreServer, authority: Authority, wrong: dict[str, Any], code: grpc.StatusCode, details: str
) -> None:
    """Each wrong claim has its code and its words."""
    arguments: dict[str, Any] = {"audience": server.audience} | wrong
    token = authority.issue_id_token(**arguments)
    error = await refusal(server, bearer(token))
    assert (error.code(), error.details()) == (code, details)
    assert server.refused == 1


@pytest.mark.parametrize("arguments", [{"lifetime": -60}, {"not_before": 60}], ids=["expired", "not-yet"])
async def test_time_missed_within_the_skew_is_let_in(
    server: BookstoreServer, authority: Authority, arguments: dict[str, Any]
) -> None:
    """Clocks may differ by a minute."""
    assert await list_shelves(server, bearer(authority.issue_access_token(**arguments))) == 2


async def test_token_expires_when_the_clock_moves(
    server: BookstoreServer, authority: Authority, clock: FakeClock
) -> None:
    """A token is accepted until its expiry plus the skew."""
    token = bearer(authority.issue_access_token())
    clock.advance(3660)
    assert await list_shelves(server, token) == 2
    clock.advance(1)
    assert (await refusal(server, token)).details() == "Jwt is expired"


@pytest.mark.parametrize(
    ("metadata", "details"),
    [
        pytest.param((), "Jwt is missing", id="none"),
        pytest.param((("authorization", "Basic dXNlcjpwYXNz"),), "Jwt is missing", id="another-scheme"),
        pytest.param((bearer("nonsense"),), "Jwt is not in the form", id="malformed"),
        pytest.param(
            (bearer("e30.e30.e30"), bearer("e30.e30.e30")), "Jwt is not in the form", id="two-headers"
        ),
    ],
)
async def test_call_without_a_readable_token_is_unauthenticated(
    server: BookstoreServer, metadata: Metadata, details: str
) -> None:
    """A missing or unreadable token is UNAUTHENTICATED."""
    error = await refusal(server, *metadata)
    assert error.code() is UNAUTHENTICATED
    assert str(error.details()).startswith(details)


@pytest.mark.parametrize(
    ("key_id", "details"),
    [
        pytest.param(None, "Jwt verification fails", id="key-id-of-another-key"),
        pytest.param("unknown", "Jwks doesn't have key to match kid or alg from Jwt", id="unknown-key-id"),
    ],
)
async def test_bad_signature_is_unauthenticated(
    server: BookstoreServer, authority: Authority, key_id: str | None, details: str
) -> None:
    """A token signed by an unpublished key is UNAUTHENTICATED."""
    error = await refusal(server, bearer(await with_foreign_key(authority, server, key_id)))
    assert (error.code(), error.details()) == (UNAUTHENTICATED, details)


async def test_self_signed_token_of_another_account_is_unauthenticated(
    authority: Authority, clock: FakeClock
) -> None:
    """Only accepted accounts may sign, even if the authority knows others."""
    await authority.service_account_info(EMAIL)
    async with BookstoreServer(authority, accept=["other@example.com"], clock=clock) as server:
        token = authority.issue_self_signed_token(audience=server.audience, email=EMAIL)
        assert (await refusal(server, bearer(token))).details() == "Jwt issuer is not configured"


@pytest.mark.parametrize("claims", [{"iss": ["a"]}, {"exp": "soon"}, {"aud": [{}]}, {"aud": None}])
async def test_claim_of_a_wrong_type_is_refused(
    server: BookstoreServer, authority: Authority, claims: Mapping[str, object]
) -> None:
    """A claim of a wrong type is refused, and the server goes on."""
    token = authority.sign({"iss": authority.issuer, "aud": server.audience} | dict(claims))
    assert (await refusal(server, bearer(token))).code() in {
        UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }


@pytest.mark.parametrize(
    ("token", "challenge"),
    [((), ""), ((bearer("nonsense"),), ', error="invalid_token"')],
    ids=["missing", "malformed"],
)
async def test_refusal_carries_a_challenge(server: BookstoreServer, token: Metadata, challenge: str) -> None:
    """The trailing metadata say how to authenticate."""
    trailing = (await refusal(server, *token)).trailing_metadata()
    realm = "https://localhost/endpoints.examples.bookstore.Bookstore/ListShelves"
    assert trailing["www-authenticate"] == f'Bearer realm="{realm}"{challenge}'


# Keys


async def test_keys_are_fetched_once(server: BookstoreServer, authority: Authority) -> None:
    """The second call uses the keys that the first one fetched."""
    for _ in range(2):
        await list_shelves(server, bearer(authority.issue_access_token()))
    assert [request.path for request in authority.requests] == ["/jwks"]


async def test_rotated_key_is_fetched(server: BookstoreServer, authority: Authority) -> None:
    """An unknown key id makes the server fetch the keys again."""
    await list_shelves(server, bearer(authority.issue_access_token()))
    await authority.rotate_keys(keep_old=False)
    assert await list_shelves(server, bearer(authority.issue_access_token())) == 2


async def test_key_that_left_is_good_until_the_keys_are_forgotten(
    server: BookstoreServer, authority: Authority
) -> None:
    """A removed key stays accepted until the server drops its cached keys."""
    token = bearer(authority.issue_access_token())
    await list_shelves(server, token)
    await authority.rotate_keys(keep_old=False)
    assert await list_shelves(server, token) == 2
    server.forget_keys()
    assert (await refusal(server, token)).code() is UNAUTHENTICATED


@pytest.mark.parametrize("fault", ["fail", "send_garbage", "reset_connections"])
async def test_keys_that_cannot_be_fetched_are_unauthenticated(
    server: BookstoreServer, authority: Authority, fault: str
) -> None:
    """A failing key server refuses calls until it recovers."""
    getattr(authority, fault)(times=None, path="/jwks")
    token = bearer(authority.issue_access_token())
    error = await refusal(server, token)
    assert (error.code(), error.details()) == (UNAUTHENTICATED, "Jwks remote fetch is failed")
    authority.behave()
    assert await list_shelves(server, token) == 2


# API keys


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        pytest.param((), UNAUTHENTICATED, id="none"),
        pytest.param((("x-api-key", "wrong"),), grpc.StatusCode.INVALID_ARGUMENT, id="wrong"),
    ],
)
async def test_call_without_a_good_api_key_is_refused(metadata: Metadata, code: grpc.StatusCode) -> None:
    """A missing key and a wrong key get different codes."""
    async with BookstoreServer(api_keys={"good"}) as server:
        assert (await refusal(server, *metadata)).code() is code


async def test_call_with_an_api_key_and_a_token_is_let_in(authority: Authority, clock: FakeClock) -> None:
    """A server can demand both."""
    async with BookstoreServer(authority, api_keys={"good"}, clock=clock) as server:
        token = bearer(authority.issue_access_token())
        assert (await refusal(server, token)).code() is UNAUTHENTICATED
        assert await list_shelves(server, token, ("x-api-key", "good")) == 2


# The handler, and arguments


class NamedShelf(InMemoryBookstore):
    """Names the shelf after the caller."""

    async def GetShelf(self, request: GetShelfRequest, context: object) -> Shelf:
        return Shelf(id=request.shelf, theme=str((endpoint_user_info() or {}).get("email")))


async def test_handler_reads_who_is_calling(authority: Authority, clock: FakeClock) -> None:
    """Each handler reads the validated payload of its own call."""
    async with (
        BookstoreServer(authority, service=NamedShelf(), clock=clock) as server,
        grpc.aio.secure_channel(server.target, server.ssl_credentials) as channel,
    ):
        for email in ("a@example.com", "b@example.com"):
            metadata = (bearer(authority.issue_access_token(email=email)),)
            shelf = await BookstoreStub(channel).GetShelf(GetShelfRequest(shelf=1), metadata=metadata)
            assert shelf.theme == email
    assert endpoint_user_info() is None


def test_accept_without_an_authority_is_an_error() -> None:
    """Accounts belong to an authority."""
    with pytest.raises(ValueError, match="accept"):
        BookstoreServer(accept=[EMAIL])
