"""aiohttp: an application's connection and stub, and the same tokens for REST."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Generic, TypeVar, Unpack

import grpc.aio
from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse, ClientSession, web
from yarl import URL

from aio_authgrpc import (
    AiohttpRequest,
    AuthGrpcError,
    ConfigurationError,
    ConnectArguments,
    Connection,
    connect,
)
from aio_authgrpc._checks.frames import hiding_arguments
from aio_authgrpc._tokens.source import header_of
from aio_authgrpc.tokens import TokenCache
from aio_authgrpc.web import CallersTokens, Problem, log_problem, no_bearer, not_ready, problem_of

T = TypeVar("T")

_log = logging.getLogger("aio_authgrpc")

# The key in a request that its calls were made with the caller's token.
_ON_BEHALF = web.RequestKey("aio_authgrpc.on_behalf_of_caller", bool)
# Seconds. A token request and a handshake fit, and most probes wait longer.
_READY_WITHIN = 2.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Grpc(Generic[T]):
    """A connection to a gRPC service, for an aiohttp application.

        BOOKSTORE = Grpc("bookstore-xyz.a.run.app", BookstoreStub, credentials=id_token())
        app.cleanup_ctx.append(BOOKSTORE)
        shelves = await BOOKSTORE.of(request).ListShelves(Empty(), timeout=10)

    Each application that it is appended to opens a connection of its own. A test lets it open another one,
    with `using()`, or puts a stub into `app[BOOKSTORE.key]` instead.

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

    @hiding_arguments
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
        self._replacement: Connection[T] | None = None
        self._callers = CallersTokens()
        self.key: web.AppKey[T] = web.AppKey(f"aio_authgrpc stub for {target}")
        self.connection_key: web.AppKey[Connection[T]] = web.AppKey(f"aio_authgrpc connection to {target}")

    @contextmanager
    def using(self, connection: Connection[T]) -> Generator[None]:
        """Let applications that start inside of this block open another connection; for tests."""
        before, self._replacement = self._replacement, connection
        try:
            yield
        finally:
            self._replacement = before

    async def __call__(self, app: web.Application) -> AsyncGenerator[None]:
        """Open the connection for the application's life: `app.cleanup_ctx.append(...)`."""
        arguments: ConnectArguments = {**self._arguments}
        if self._session is not None:
            arguments["request"] = AiohttpRequest(app[self._session])
        connection = self._replacement or connect(self._target, self._make_stub, **arguments)
        async with connection as stub:
            app[self.key], app[self.connection_key] = stub, connection
            yield

    def of(self, request: web.Request) -> T:
        """Return the stub of a request's application.

        Raises:
            ConfigurationError: The application has no stub.
        """
        return _found(request, self.key)

    async def ready(self, request: web.Request) -> web.Response:
        """Answer a readiness probe: `app.router.add_get("/ready", BOOKSTORE.ready)`.

        200 if there is a token, and the service is connected, within 2 s; else 503, and the log says why.
        """
        try:
            await _found(request, self.connection_key).check(_READY_WITHIN)
        except AuthGrpcError as error:
            _log.warning("Not ready: %s", error)
            return _response(not_ready(error))
        return web.Response(text="ready")

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
        request[_ON_BEHALF] = True  # for grpc_errors
        return self._make_stub(_found(request, self.connection_key).channel.with_identity(source))


def _found(request: web.Request, key: web.AppKey[T]) -> T:
    try:
        return request.config_dict[key]
    except KeyError:
        raise ConfigurationError(
            "the connection is not open.",
            field="cleanup_ctx",
            hint="Write app.cleanup_ctx.append(...) with the Grpc object.",
        ) from None


@web.middleware
async def grpc_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer gRPC errors with the HTTP status of their code: `web.Application(middlewares=[grpc_errors])`.

    See `aio_authgrpc.web.problem_of` for what the answer tells the caller. Errors of the service itself, a
    5xx status, are logged.
    """
    try:
        return await handler(request)
    except grpc.aio.AioRpcError as error:
        problem = problem_of(error, on_behalf_of_caller=_ON_BEHALF in request)
        log_problem(problem, error, request.path)
        return _response(problem)


def _response(problem: Problem) -> web.Response:
    return web.Response(
        status=problem.status, headers=problem.headers, text=problem.text, content_type=problem.content_type
    )


def token_middleware(tokens: TokenCache, origin: str) -> ClientMiddlewareType:
    """Return a middleware that adds the token of a cache to a `ClientSession`'s requests for one origin.

        ClientSession(middlewares=[token_middleware(connection.auth, "https://bookstore.example.com")])

    A request that is refused with 401 is sent once more with a new token, if it has no body. Cancelling a
    request that waits for its token does not affect others. A request without a token raises `AuthRpcError`.

    Args:
        tokens: The cache, of a connection (`connection.auth`) or one of yours. It stays open.
        origin: The URL whose scheme, host and port get the token. Requests to others, also by a redirect,
            are sent without. `http://` is taken for this machine alone.

    Raises:
        ConfigurationError: The origin is not an https URL.
    """
    if "://" not in origin:
        raise ConfigurationError(
            "it is no URL.", field="origin", hint="Write it with its scheme: 'https://bookstore.example.com'."
        )
    guarded = URL(origin).origin()
    if guarded.scheme != "https" and guarded.host not in ("localhost", "127.0.0.1", "::1"):
        raise ConfigurationError(
            "the token would cross the network in the clear.", field="origin", hint="Use an https:// URL."
        )

    header = header_of(tokens.source, None) or "authorization"

    async def add_token(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if request.url.origin() != guarded:
            return await handler(request)
        token = await tokens.get()
        request.headers.update(token.as_metadata(header))
        response = await handler(request)
        if response.status != 401 or request.body:
            return response
        if not tokens.reject(token, challenge=response.headers.get("WWW-Authenticate", "")):
            return response
        response.release()
        token = await tokens.get()
        request.headers.update(token.as_metadata(header))
        return await handler(request)

    return add_token
