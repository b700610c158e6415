"""Mistakes between this machine, the token endpoint and the server; they show in the first call."""

from __future__ import annotations

import datetime
from typing import Any

import google.oauth2.credentials
import trustme

from aio_authgrpc import SslCredentials, connect, id_token, service_account, static_token
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.testing import Authority, BookstoreServer, EchoServer, EchoStub, FakeClock
from tests.support.certified_server import CertifiedServer

from .mistake import Mistake, Stage

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


async def call(target: str, credentials: Any = None, **arguments: Any) -> None:
    given = static_token("abc") if credentials is None else credentials
    async with connect(target, EchoStub, credentials=given, **arguments) as stub:
        await stub.UnaryUnary(b"x", timeout=10)


def at(server: EchoServer) -> str:
    """By address: for localhost, gRPC may report the refused connection to ::1 instead."""
    return f"127.0.0.1:{server.port}"


async def wrong_audience(_: Stage) -> None:
    async with Authority() as authority, BookstoreServer(authority) as server:
        token = static_token(authority.issue_id_token(audience="https://elsewhere"))
        tls = server.ssl_credentials
        async with connect(server.target, BookstoreStub, credentials=token, ssl_credentials=tls) as bookstore:
            await bookstore.ListShelves(Empty(), timeout=10)


async def id_token_of_a_user(_: Stage) -> None:
    async with Authority() as authority:
        user: Any = google.oauth2.credentials.Credentials.from_authorized_user_info(authority.user_info())
        user = user.with_token_uri(authority.token_uri)
        await call("localhost:1", id_token("https://bookstore-xyz.a.run.app", credentials=user))


async def wrong_key(_: Stage) -> None:
    async with Authority() as authority:
        info = await authority.service_account_info()
        other = await authority.service_account_info("other@project.iam.gserviceaccount.com")
        mixed = {**info, "private_key": other["private_key"]}
        await call("localhost:1", service_account(mixed, scopes=SCOPES))


async def clock_skew(_: Stage) -> None:
    async with Authority(clock=FakeClock()) as authority:
        info = await authority.service_account_info()
        await call("localhost:1", service_account(info, scopes=SCOPES))


async def unreachable_endpoint(_: Stage) -> None:
    async with Authority() as authority:
        info = await authority.service_account_info()
    await call("localhost:1", service_account(info, scopes=SCOPES))


async def another_name(_: Stage) -> None:
    async with CertifiedServer("elsewhere.example.com") as server:
        await call(at(server), ssl_credentials=SslCredentials(root_certificates=server.ca_pem))


async def unknown_authority(_: Stage) -> None:
    roots = trustme.CA().cert_pem.bytes()
    async with EchoServer() as server:
        await call(at(server), ssl_credentials=SslCredentials(root_certificates=roots))


async def expired_certificate(_: Stage) -> None:
    async with CertifiedServer("127.0.0.1", not_after=datetime.datetime(2020, 1, 2)) as server:
        await call(at(server), ssl_credentials=SslCredentials(root_certificates=server.ca_pem))


async def client_certificate_demanded(_: Stage) -> None:
    async with EchoServer(mutual_tls=True) as server:
        await call(at(server), ssl_credentials=SslCredentials(root_certificates=server.ca_pem))


async def plaintext_to_tls(_: Stage) -> None:
    async with EchoServer() as server:
        await call(at(server), plaintext=True)


async def tls_to_plaintext(_: Stage) -> None:
    async with EchoServer(tls=False) as server:
        await call(at(server))


async def closed_port(_: Stage) -> None:
    async with EchoServer(tls=False) as server:
        target = at(server)
    await call(target)


NETWORK = [
    Mistake(
        name="a token for another audience",
        make=wrong_audience,
        cause="Audiences in Jwt are not allowed\nThe token's audience is not the one",
        next_step=r"connect\(audience=\.\.\.\)",
    ),
    Mistake(
        name="a user's ID token for an audience",
        make=id_token_of_a_user,
        cause=r"A user's ID token is for the client of the login, .* not for 'https://bookstore-xyz",
        next_step="Leave the audience out, or pass target_principal=",
    ),
    Mistake(
        name="a key of another account",
        make=wrong_key,
        cause=r"invalid_grant: Invalid JWT Signature",
        next_step="not one of the account's.*Create a new JSON key",
    ),
    Mistake(
        name="a clock that is wrong",
        make=clock_skew,
        cause="invalid_grant: Invalid JWT: .* iat and exp",
        next_step="set this machine's clock",
    ),
    Mistake(
        name="a token endpoint that cannot be reached",
        make=unreachable_endpoint,
        cause=r"No token could be fetched: http://127\.0\.0\.1:\d+/token: .*Cannot connect",
        next_step="check its address, the network and HTTPS_PROXY",
    ),
    Mistake(
        name="a certificate for another name",
        make=another_name,
        cause="Hostname Verification Check failed",
        next_step="certificate is for another name: pass that name as authority=",
    ),
    Mistake(
        name="a certificate of an unknown authority",
        make=unknown_authority,
        cause="CERTIFICATE_VERIFY_FAILED",
        next_step=r"not signed by a trusted authority: pass SslCredentials\(root_certificates=",
    ),
    Mistake(
        name="a certificate that has expired",
        make=expired_certificate,
        cause="certificate has expired",
        next_step="this machine's clock is wrong: renew the one, or set the other",
    ),
    Mistake(
        name="no client certificate where one is demanded",
        make=client_certificate_demanded,
        cause="Socket closed",
        next_step=r"may demand a client certificate, .*client_certificate=",
    ),
    Mistake(
        name="plaintext=True to a server with TLS",
        make=plaintext_to_tls,
        cause="probably speaks TLS",
        next_step=r"Connect with TLS \(without plaintext=True\)",
    ),
    Mistake(
        name="TLS to a plaintext server",
        make=tls_to_plaintext,
        cause="The server does not speak TLS",
        next_step="check the port, or pass plaintext=True",
    ),
    Mistake(
        name="a port where nothing listens",
        make=closed_port,
        cause=r"127\.0\.0\.1:\d+: .*Connection refused",
        next_step="check that the server runs, and its port",
    ),
    Mistake(
        name="a host name that does not exist",
        # gRPC's resolver asks no server for .onion names (RFC 7686).
        make=lambda _: call("bokstore.onion:443"),
        cause=r"bokstore\.onion:443: Domain name not found",
        next_step="check its spelling",
    ),
]
