"""FastAPI: one object that the lifespan opens, and that hands its stub to endpoints."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, Unpack

import grpc.aio
from fastapi import FastAPI, HTTPException, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from aio_authgrpc import AuthGrpcError, ConfigurationError, ConnectArguments, Connection, connect
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc.web import CallersTokens, Problem, log_problem, no_bearer, not_ready, problem_of

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""What `FastAPI(lifespan=...)` takes."""

_log = logging.getLogger("aio_authgrpc")

# The key in a request's scope that its calls were made with the caller's token.
_ON_BEHALF = "aio_authgrpc.on_behalf_of_caller"
# Seconds. A token request and a handshake fit, and most probes wait longer.
_READY_WITHIN = 2.0

# Shows the padlock in the OpenAPI pages; the header itself is read by `CallersTokens`.
_bearer = HTTPBearer(auto_error=False, description="The bearer is passed on to the gRPC service.")


class _ProblemException(HTTPException):
    """A refusal of a dependency: problem+json by `handle_grpc_errors()`, else FastAPI's own answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.body["detail"], problem.headers)
        self.problem = problem


class Grpc(Generic[T]):
    """A connection to a gRPC service, for the lifespan and the endpoints of a FastAPI application.

        bookstore = Grpc("bookstore-xyz.a.run.app", BookstoreStub, credentials=id_token())
        app = FastAPI(lifespan=bookstore.lifespan)
        Bookstore = Annotated[BookstoreStub, Depends(bookstore)]

    A test replaces the connection, with `app_client()`, or the stub, with FastAPI's own
    `app.dependency_overrides[bookstore]`; the lifespan then opens nothing. Made anywhere, also before a fork:
    it holds nothing until the lifespan begins.

    Args:
        target: See `connect`.
        stub: A generated stub class.
        **arguments: The keyword arguments of `connect`.

    Attributes:
        connection: What `connect()` returned.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    @hiding_arguments
    def __init__(
        self,
        target: str,
        stub: Callable[[grpc.aio.Channel], T],
        **arguments: Unpack[ConnectArguments],
    ) -> None:
        self.connection = connect(target, stub, **arguments)
        self._make_stub = stub
        self._stub: T | None = None
        self._callers = CallersTokens()

    @contextmanager
    def using(self, connection: Connection[T]) -> Generator[None]:
        """Let the lifespan open another connection inside of this block; for tests, as by `app_client()`.

        Raises:
            ConfigurationError: The lifespan has opened a connection already.
        """
        if self._stub is not None:
            raise ConfigurationError(
                "the lifespan has begun.", field="connection", hint="Enter using() before it."
            )
        own, self.connection = self.connection, connection
        try:
            yield
        finally:
            self.connection = own

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncGenerator[None]:
        """Open the connection for the application's life; for `FastAPI(lifespan=...)` and `lifespans()`."""
        if self in app.dependency_overrides:
            yield
            return
        async with self.connection as stub:
            self._stub = stub
            try:
                yield
            finally:
                self._stub = None

    async def __call__(self) -> T:
        """Return the stub: `Depends(bookstore)`.

        Raises:
            ConfigurationError: The lifespan has not opened the connection.
        """
        if self._stub is None:
            raise ConfigurationError(
                "the connection is not open.",
                field="lifespan",
                hint=(
                    "Pass its .lifespan to FastAPI(lifespan=...), of the outer application where one is "
                    "mounted; in tests enter the lifespan."
                ),
            )
        return self._stub

    async def on_behalf_of_caller(
        self, request: Request, bearer: Annotated[object, Security(_bearer)] = None
    ) -> T:
        """Return a stub whose calls carry the bearer of this request: `Depends(x.on_behalf_of_caller)`.

        Its calls keep that identity wherever they are made, in background tasks and streamed responses, too.

        Raises:
            HTTPException: 401, with `WWW-Authenticate`: the request has no bearer token (RFC 6750).
        """
        del bearer
        source = self._callers.source(request.headers.get("authorization"))
        if source is None:
            raise _ProblemException(no_bearer())
        if self in request.app.dependency_overrides:
            raise ConfigurationError(
                "it is overridden, and this dependency is not.",
                field="dependency_overrides",
                hint="Override its on_behalf_of_caller, too.",
            )
        await self()  # refuses where the lifespan has not opened the connection
        request.scope[_ON_BEHALF] = True  # for handle_grpc_errors()
        return self._make_stub(self.connection.channel.with_identity(source))

    async def ready(self, request: Request) -> None:
        """Return if there is a token, and the service is connected, within 2 s; for a readiness route.

            @app.get("/ready", dependencies=[Depends(bookstore.ready)])

        Raises:
            HTTPException: 503; the log says why.
        """
        if self in request.app.dependency_overrides:
            return
        try:
            await self.connection.check(_READY_WITHIN)
        except AuthGrpcError as error:
            _log.warning("Not ready: %s", error)
            raise _ProblemException(not_ready(error)) from None


def lifespans(*parts: Grpc[Any] | Lifespan) -> Lifespan:
    """Return one lifespan of several: `Grpc` objects and lifespan functions, ended in the reverse order.

    States that the functions yield are merged. If one cannot be opened, those before it are closed.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[Mapping[str, Any] | None]:
        state: dict[str, Any] = {}
        async with AsyncExitStack() as stack:
            for part in parts:
                open_part = part.lifespan if isinstance(part, Grpc) else part
                yielded: Mapping[str, Any] | None = await stack.enter_async_context(open_part(app))
                state.update(yielded or {})
            yield state or None

    return lifespan


@asynccontextmanager
async def app_client(
    app: FastAPI, connections: Mapping[Grpc[Any], Connection[Any]]
) -> AsyncGenerator[httpx.AsyncClient]:
    """Run an application in a test, and give an HTTP client of it; it needs httpx.

        async with app_client(app, {bookstore: authgrpc_bookstore_server.connect(BookstoreStub)}) as client:
            assert (await client.get("/shelves")).json() == ["Fiction", "Fantasy"]

    The lifespan runs, and opens these connections in place of the application's own. There is no socket
    between client and application: what an endpoint raises, and the application does not handle, the client's
    method raises. The end of the block closes the client, the lifespan and the connections.

    Args:
        app: The application.
        connections: What each of its `Grpc` objects opens, such as `server.connect(...)` of a server of
            `aio_authgrpc.testing`. A `Grpc` that is left out opens its own.
    """
    import httpx  # noqa: PLC0415 - tests alone need it

    async with AsyncExitStack() as stack:
        for grpc_object, connection in connections.items():
            stack.enter_context(grpc_object.using(connection))
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app)
        yield await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://app"))


def handle_grpc_errors(app: FastAPI) -> None:
    """Answer gRPC errors that an endpoint raises with the HTTP status of their code, as problem+json.

    See `aio_authgrpc.web.problem_of` for what the answer tells the caller. Errors of the service itself, a
    5xx status, are logged. The refusals of `Grpc.on_behalf_of_caller` and `Grpc.ready` have this form, too.
    """

    async def answer(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, grpc.aio.AioRpcError)
        problem = problem_of(error, on_behalf_of_caller=_ON_BEHALF in request.scope)
        log_problem(problem, error, request.url.path)
        return _response(problem)

    async def refuse(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, _ProblemException)
        return _response(error.problem)

    app.add_exception_handler(grpc.aio.AioRpcError, answer)
    app.add_exception_handler(_ProblemException, refuse)


def _response(problem: Problem) -> JSONResponse:
    return JSONResponse(problem.body, problem.status, problem.headers, problem.content_type)
