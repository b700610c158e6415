"""aiohttp: the cleanup context, the stub of a request, the answers to errors."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from aio_authgrpc import AiohttpRequest, ConfigurationError, service_account, static_token
from aio_authgrpc.aiohttp import Grpc, grpc_errors
from aio_authgrpc.errors import ChannelClosedError
from aio_authgrpc.testing import Authority, EchoServer, EchoStub, ScriptedTokens

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
Client = TestClient[web.Request, web.Application]


def application(server: EchoServer, **arguments: Any) -> tuple[web.Application, Grpc[EchoStub]]:
    """Return an application with the endpoints `/echo` and `/mine`."""
    arguments.setdefault("credentials", static_token("of-the-service"))
    service = Grpc(server.target, EchoStub, ssl_credentials=server.ssl_credentials, **arguments)
    app = web.Application(middlewares=[grpc_errors])

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await service.of(request).UnaryUnary(b"x", timeout=10))

    async def mine(request: web.Request) -> web.Response:
        return web.Response(body=await service.on_behalf_of_caller(request).UnaryUnary(b"x", timeout=10))

    app.router.add_get("/echo", echo)
    app.router.add_get("/mine", mine)
    return app, service


async def test_a_handler_gets_the_stub(echo_server: EchoServer) -> None:
    """`BOOKSTORE.of(request)`, with the service's own identity."""
    app, service = application(echo_server)
    app.cleanup_ctx.append(service)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/echo")
        assert await response.read() == b"x"
        stub = app[service.key]
    assert echo_server.calls[0].values("authorization") == ("Bearer of-the-service",)
    with pytest.raises(ChannelClosedError):
        stub.UnaryUnary(b"x")


async def test_an_application_is_run_with_the_connection_of_a_test(echo_server: EchoServer) -> None:
    """`using()` replaces the connection of applications that start in its block, and of no others."""
    app, service = application(echo_server)
    app.cleanup_ctx.append(service)
    with service.using(echo_server.connect(EchoStub, credentials=static_token("of-the-test"))):
        async with TestClient(TestServer(app)) as client:
            await client.get("/echo")
    other = web.Application()
    other.cleanup_ctx.append(service)
    async with TestClient(TestServer(other)):
        await other[service.key].UnaryUnary(b"x", timeout=10)
    sent = [call.values("authorization")[0] for call in echo_server.calls]
    assert sent == ["Bearer of-the-test", "Bearer of-the-service"]


async def test_a_nested_application_finds_the_outer_stub(echo_server: EchoServer) -> None:
    """Aiohttp looks keys up in the outer applications, too."""
    inner, service = application(echo_server)
    outer = web.Application()
    outer.add_subapp("/inner", inner)
    outer.cleanup_ctx.append(service)
    async with TestClient(TestServer(outer)) as client:
        assert (await client.get("/inner/echo")).status == 200


async def test_the_callers_bearer_is_passed_on(echo_server: EchoServer) -> None:
    """In place of the service's own identity."""
    app, service = application(echo_server)
    app.cleanup_ctx.append(service)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/mine", headers={"Authorization": "bearer of-the-caller"})
        assert response.status == 200
    assert echo_server.calls[0].values("authorization") == ("Bearer of-the-caller",)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer  x", "Basic eDp5"])
async def test_without_a_bearer_the_answer_is_401(echo_server: EchoServer, header: str) -> None:
    """It asks for one, and no call is made."""
    app, service = application(echo_server)
    app.cleanup_ctx.append(service)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/mine", headers={"Authorization": header})
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.content_type == "application/problem+json"
    assert echo_server.calls == []


async def test_an_rpc_error_becomes_a_problem(echo_server: EchoServer) -> None:
    """With the status of its code (RFC 9457)."""
    app, service = application(echo_server)
    app.cleanup_ctx.append(service)
    echo_server.refuse(grpc.StatusCode.NOT_FOUND, "no such shelf")
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/echo")
        assert response.status == 404
        assert response.content_type == "application/problem+json"
        assert (await response.json())["detail"] == "no such shelf"


async def test_the_applications_session_fetches_the_tokens(
    echo_server: EchoServer, authority: Authority
) -> None:
    """It stays open: it is the application's."""
    session_key = web.AppKey("session", ClientSession)
    info = await authority.service_account_info()
    app, service = application(
        echo_server, credentials=service_account(info, scopes=SCOPES), session=session_key
    )

    async with ClientSession() as session:
        app[session_key] = session
        app.cleanup_ctx.append(service)
        async with TestClient(TestServer(app)) as client:
            assert (await client.get("/echo")).status == 200
        assert not session.closed
    assert authority.token_requests == 1


def test_a_session_beside_a_request_is_refused(echo_server: EchoServer) -> None:
    """Both are HTTP transports for tokens."""
    with pytest.raises(ConfigurationError, match="session"):
        Grpc(
            "localhost:1",
            EchoStub,
            session=web.AppKey("session", ClientSession),
            request=AiohttpRequest(),
        )


async def test_a_test_puts_its_own_stub(echo_server: EchoServer) -> None:
    """Without the cleanup context, `app[service.key]` is the test's."""
    app, service = application(echo_server)

    class Fake:
        async def UnaryUnary(self, request: bytes, timeout: float) -> bytes:
            return b"fake"

    fake: Any = Fake()
    app[service.key] = fake
    async with TestClient(TestServer(app)) as client:
        assert await (await client.get("/echo")).read() == b"fake"


async def test_without_the_cleanup_context_the_error_says_so(echo_server: EchoServer) -> None:
    """In place of a KeyError."""
    app, service = application(echo_server)

    async def errors(request: web.Request) -> web.Response:
        for ask in (service.of, service.on_behalf_of_caller):
            with pytest.raises(ConfigurationError, match=r"cleanup_ctx\.append"):
                ask(request)
        return web.Response()

    app.router.add_get("/errors", errors)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/errors", headers={"Authorization": "Bearer x"})).status == 200


async def test_a_readiness_probe_is_a_handler(echo_server: EchoServer) -> None:
    """200 with token and connection, 503 without."""
    tokens = ScriptedTokens()
    tokens.fail(RuntimeError("down"))
    app, service = application(echo_server, credentials=tokens)
    app.cleanup_ctx.append(service)
    app.router.add_get("/ready", service.ready)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/ready")
        assert response.status == 503
        assert response.content_type == "application/problem+json"
        assert "down" not in await response.text()
    async with TestClient(TestServer(application_that_is_ready(echo_server))) as client:
        assert (await client.get("/ready")).status == 200


def application_that_is_ready(echo_server: EchoServer) -> web.Application:
    app, service = application(echo_server)
    app.cleanup_ctx.append(service)
    app.router.add_get("/ready", service.ready)
    return app
