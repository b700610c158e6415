"""aiohttp: one object that is a cleanup context, and hands its stub to handlers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar, Unpack

import grpc.aio
from aiohttp import ClientSession, web

from aio_authgrpc import AiohttpRequest, ConfigurationError, ConnectArguments, Connection, connect
from aio_authgrpc.web import CallersTokens, Problem, log_problem, no_bearer, problem_of

T = TypeVar("T")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Grpc(Generic[T]):
    """A connection to a gRPC service, for an aiohttp application.

        BOOKSTORE = Grpc("bookstore-xyz.a.run.app", BookstoreStub, credentials=id_token())
        app.cleanup_ctx.append(BOOKSTORE)
        shelves = await BOOKSTORE.of(request).ListShelves(Empty(), timeout=10)

    Each application that it is appended to opens a connection of its own. A test puts a stub into
    `app[BOOKSTORE.key]` instead.

    Args:
        target: See `connect`.
        stub: A generated stub class.
        session: The key of the application's `ClientSession`, for token requests. A cleanup context before
            this one, or the application's maker, must set it; it stays the application's. None makes one.
        **arguments: The keyword arguments of `connect`.

    Attributes:
        key: The application's key of the stub.
        connection_key: The application's key of the `Connection`.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def __init__(
        self,
        target: str,
        stub: Callable[[grpc.aio.Channel], T],
        *,
        session: web.AppKey[ClientSession] | None = None,
        **arguments: Unpack[ConnectArguments],
    ) -> None:
        if session is not None and arguments.get("request") is not None:
            raise ConfigurationError(
                "it excludes request, and both were given.", field="session", hint="Leave out one of them."
            )
        connect(target, stub, **arguments)  # refuses an argument where it was written
        self._target = target
        self._make_stub = stub
        self._session = session
        self._arguments: ConnectArguments = arguments
        self._callers = CallersTokens()
        self.key: web.AppKey[T] = web.AppKey(f"aio_authgrpc stub for {target}")
        self.connection_key: web.AppKey[Connection[T]] = web.AppKey(f"aio_authgrpc connection to {target}")

    async def __call__(self, app: web.Application) -> AsyncGenerator[None]:
        """Open the connection for the application's life: `app.cleanup_ctx.append(...)`."""
        arguments: ConnectArguments = {**self._arguments}
        if self._session is not None:
            arguments["request"] = AiohttpRequest(app[self._session])
        connection = connect(self._target, self._make_stub, **arguments)
        async with connection as stub:
            app[self.key], app[self.connection_key] = stub, connection
            yield

    def of(self, request: web.Request) -> T:
        """Return the stub of a request's application."""
        return request.config_dict[self.key]

    def on_behalf_of_caller(self, request: web.Request) -> T:
        """Return a stub whose calls carry the bearer of this request, wherever they are made.

        Raises:
            aiohttp.web.HTTPUnauthorized: With `WWW-Authenticate`: there is no bearer token (RFC 6750).
        """
        source = self._callers.source(request.headers.get("Authorization"))
        if source is None:
            problem = no_bearer()
            raise web.HTTPUnauthorized(
                headers=problem.headers, text=problem.text, content_type=problem.content_type
            )
        channel = request.config_dict[self.connection_key].channel
        return self._make_stub(channel.with_identity(source))


@web.middleware
async def grpc_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer gRPC errors with the HTTP status of their code: `web.Application(middlewares=[grpc_errors])`.

    See `aio_authgrpc.web.problem_of` for what the answer tells the caller. Errors of the service itself, a
    5xx status, are logged.
    """
    try:
        return await handler(request)
    except grpc.aio.AioRpcError as error:
        problem = problem_of(error)
        log_problem(problem, error, request.path)
        return _response(problem)


def _response(problem: Problem) -> web.Response:
    return web.Response(
        status=problem.status, headers=problem.headers, text=problem.text, content_type=problem.content_type
    )
