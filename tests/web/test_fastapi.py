"""FastAPI: the lifespan, the dependencies, the answers to errors."""

# Without `from __future__ import annotations`: FastAPI reads annotations, and could not find local names.
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import grpc
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request

from aio_authgrpc import ConfigurationError, connect, static_token
from aio_authgrpc.errors import ChannelClosedError, TokenRefusedError
from aio_authgrpc.fastapi import Grpc, app_client, handle_grpc_errors, lifespans
from aio_authgrpc.testing import EchoServer, EchoStub, ScriptedTokens


class Application:
    """An application with one service, and its endpoints."""

    def __init__(self, server: EchoServer, credentials: Any = None, *, handles_errors: bool = True) -> None:
        own = static_token("of-the-service") if credentials is None else credentials
        self.echo = Grpc(server.target, EchoStub, credentials=own, ssl_credentials=server.ssl_credentials)
        self.app = FastAPI(lifespan=self.echo.lifespan)
        if handles_errors:
            handle_grpc_errors(self.app)
        own, mine = Depends(self.echo), Depends(self.echo.on_behalf_of_caller)

        @self.app.get("/echo")
        async def as_service(echo: Annotated[EchoStub, own]) -> str:
            return (await echo.UnaryUnary(b"x", timeout=10)).decode()

        @self.app.get("/mine")
        async def as_caller(echo: Annotated[EchoStub, mine]) -> str:
            return (await echo.UnaryUnary(b"x", timeout=10)).decode()

        @self.app.get("/later")
        async def later(echo: Annotated[EchoStub, mine], tasks: BackgroundTasks) -> str:
            async def call() -> None:
                await echo.UnaryUnary(b"x", timeout=10)

            tasks.add_task(call)
            return "accepted"

        @self.app.get("/ready", dependencies=[Depends(self.echo.ready)])
        async def ready() -> str:
            return "ready"

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Run the lifespan, and give a client that calls the application."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with (
            self.app.router.lifespan_context(self.app),
            httpx.AsyncClient(transport=transport, base_url="http://app") as client,
        ):
            yield client


@pytest.fixture
def application(echo_server: EchoServer) -> Application:
    return Application(echo_server)


async def test_an_endpoint_gets_the_stub(application: Application, echo_server: EchoServer) -> None:
    """`Annotated[EchoStub, Depends(echo)]`, with the service's own identity."""
    async with application.client() as client:
        response = await client.get("/echo")
    assert response.json() == "x"
    assert echo_server.calls[0].values("authorization") == ("Bearer of-the-service",)


async def test_the_lifespan_closes_the_connection(application: Application) -> None:
    """And opens it again for the next one."""
    for _ in range(2):
        async with application.client() as client:
            assert (await client.get("/echo")).status_code == 200
            stub = await application.echo()
        with pytest.raises(ChannelClosedError):
            stub.UnaryUnary(b"x")


async def test_without_the_lifespan_the_error_says_so(application: Application) -> None:
    """A forgotten `lifespan=`, or a TestClient that was not entered."""
    with pytest.raises(ConfigurationError, match="lifespan"):
        await application.echo()


async def test_an_overridden_dependency_opens_nothing(echo_server: EchoServer) -> None:
    """`app.dependency_overrides`, as FastAPI's tests do it; the credentials are not looked at."""

    class Fake:
        async def UnaryUnary(self, request: bytes, timeout: float) -> bytes:
            return b"fake"

    tokens = ScriptedTokens()
    application = Application(echo_server, tokens)
    application.app.dependency_overrides[application.echo] = Fake
    async with application.client() as client:
        assert (await client.get("/echo")).json() == "fake"
    assert tokens.fetches == 0
    assert echo_server.calls == []


@pytest.mark.parametrize("header", ["Bearer of-the-caller", "bearer of-the-caller"])
async def test_the_callers_bearer_is_passed_on(
    application: Application, echo_server: EchoServer, header: str
) -> None:
    """In place of the service's own identity, and for this request alone."""
    async with application.client() as client:
        assert (await client.get("/mine", headers={"Authorization": header})).status_code == 200
        await client.get("/echo")
    assert [call.values("authorization") for call in echo_server.calls] == [
        ("Bearer of-the-caller",),
        ("Bearer of-the-service",),
    ]


async def test_a_background_task_keeps_the_callers_identity(
    application: Application, echo_server: EchoServer
) -> None:
    """It runs after the answer; the identity goes with the stub."""
    async with application.client() as client:
        await client.get("/later", headers={"Authorization": "Bearer of-the-caller"})
    assert echo_server.calls[0].values("authorization") == ("Bearer of-the-caller",)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer  x", "Basic eDp5"])
async def test_without_a_bearer_the_answer_is_401(
    application: Application, echo_server: EchoServer, header: str | None
) -> None:
    """It asks for one, and no call is made."""
    headers = {} if header is None else {"Authorization": header}
    async with application.client() as client:
        response = await client.get("/mine", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "UNAUTHENTICATED"
    assert echo_server.calls == []


async def test_without_the_handler_the_refusals_have_fastapis_own_form(echo_server: EchoServer) -> None:
    """An application that has not asked for problem+json gets none."""
    application = Application(echo_server, handles_errors=False)
    async with application.client() as client:
        response = await client.get("/mine")
    assert (response.status_code, list(response.json())) == (401, ["detail"])
    assert response.headers["www-authenticate"] == "Bearer"


async def test_fifty_callers_are_not_mixed_up(echo_server: EchoServer) -> None:
    """At once, each with a bearer and a message of its own."""
    application = Application(echo_server)

    @application.app.get("/named/{name}")
    async def named(
        name: str, echo: Annotated[EchoStub, Depends(application.echo.on_behalf_of_caller)]
    ) -> str:
        return (await echo.UnaryUnary(b"x", metadata=(("x-name", name),), timeout=10)).decode()

    async with application.client() as client:
        await asyncio.gather(
            *(client.get(f"/named/u{n}", headers={"Authorization": f"Bearer u{n}"}) for n in range(50))
        )
    assert len(echo_server.calls) == 50
    for call in echo_server.calls:
        (name,) = call.values("x-name")
        assert call.values("authorization") == (f"Bearer {name!s}",)


async def test_an_rpc_error_becomes_a_problem(application: Application, echo_server: EchoServer) -> None:
    """With the status of its code (RFC 9457)."""
    echo_server.refuse(grpc.StatusCode.NOT_FOUND, "no such shelf")
    async with application.client() as client:
        response = await client.get("/echo")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == "no such shelf"


async def test_a_failure_of_the_service_is_logged_not_told(
    echo_server: EchoServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets the status; the log gets the reason."""
    tokens = ScriptedTokens()
    tokens.fail(RuntimeError("the vault is sealed"), times=None)
    async with Application(echo_server, tokens).client() as client:
        response = await client.get("/echo")
    assert response.status_code == 500
    assert "vault" not in response.text
    assert "vault" in caplog.text


@pytest.mark.parametrize(("path", "status"), [("/echo", 500), ("/mine", 401)])
async def test_a_refused_token_is_the_fault_of_its_owner(
    application: Application,
    echo_server: EchoServer,
    caplog: pytest.LogCaptureFixture,
    path: str,
    status: int,
) -> None:
    """The application's is logged, and the caller's is told."""
    echo_server.refuse(grpc.StatusCode.UNAUTHENTICATED, "Jwt is expired", times=None)
    async with application.client() as client:
        response = await client.get(path, headers={"Authorization": "Bearer x"})
    assert response.status_code == status
    assert ("Jwt is expired" in response.text) == (status == 401)
    assert ("Jwt is expired" in caplog.text) == (status == 500)


async def test_under_an_override_the_probe_passes_and_the_callers_stub_is_asked_for(
    application: Application,
) -> None:
    """`on_behalf_of_caller` is a dependency of its own, with an override of its own."""
    application.app.dependency_overrides[application.echo] = object
    async with application.client() as client:
        assert (await client.get("/ready")).status_code == 200
        with pytest.raises(ConfigurationError, match="on_behalf_of_caller"):
            await application.echo.on_behalf_of_caller(_request(application.app))


def _request(app: FastAPI) -> Request:
    return Request({"type": "http", "app": app, "headers": [(b"authorization", b"Bearer x")]})


async def test_ready_tells_whether_token_and_connection_are_there(echo_server: EchoServer) -> None:
    """503 with the reason in the log, then 200."""
    tokens = ScriptedTokens()
    async with Application(echo_server, tokens).client() as client:
        assert (await client.get("/ready")).status_code == 200
    tokens.fail(RuntimeError("down"), times=None)
    async with Application(echo_server, tokens).client() as client:
        response = await client.get("/ready")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == "TokenRefusedError: see the log."


async def test_several_lifespans_end_in_reverse_order(echo_server: EchoServer) -> None:
    """`lifespans(one, another, my_own)`; the states that they yield are merged."""
    order: list[str] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        await first()  # it is open already
        order.append("own begins")
        yield {"answer": 42}
        order.append("own ends")
        await first()  # it is still open

    first = Grpc(
        echo_server.target,
        EchoStub,
        credentials=static_token("a"),
        ssl_credentials=echo_server.ssl_credentials,
    )
    app = FastAPI(lifespan=lifespans(first, own))
    async with app.router.lifespan_context(app) as state:
        assert dict(state or {}) == {"answer": 42}
    assert order == ["own begins", "own ends"]
    with pytest.raises(ConfigurationError):
        await first()


async def test_an_application_is_run_with_the_connections_of_a_test(
    application: Application, echo_server: EchoServer
) -> None:
    """`app_client()` opens those in place of its own, and closes them; afterwards its own is back."""
    for token in ("one", "another"):
        connection = echo_server.connect(EchoStub, credentials=static_token(token))
        async with app_client(application.app, {application.echo: connection}) as client:
            assert (await client.get("/echo")).json() == "x"
            assert (await client.get("/ready")).json() == "ready"
    async with app_client(application.app, {}) as client:
        await client.get("/echo")
    sent = [call.values("authorization")[0] for call in echo_server.calls]
    assert sent == ["Bearer one", "Bearer another", "Bearer of-the-service"]


async def test_the_own_connection_is_back_after_a_test(application: Application) -> None:
    """Also where the lifespan could not begin."""
    own = application.echo.connection
    tokens = ScriptedTokens()
    tokens.fail(TokenRefusedError("The account was disabled."))
    broken = connect("localhost:1", EchoStub, credentials=tokens, plaintext=True, ready_timeout=1)
    with pytest.raises(TokenRefusedError):
        async with app_client(application.app, {application.echo: broken}):
            pass
    assert application.echo.connection is own


async def test_an_open_connection_is_not_replaced(application: Application) -> None:
    """It could not be closed by the lifespan any more."""
    async with application.client():
        with (
            pytest.raises(ConfigurationError, match="the lifespan has begun"),
            application.echo.using(application.echo.connection),
        ):
            pass


def test_the_schema_tells_of_the_bearer(application: Application) -> None:
    """The endpoints on behalf of the caller have a padlock in the OpenAPI pages."""
    paths = application.app.openapi()["paths"]
    assert paths["/mine"]["get"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in paths["/echo"]["get"]
