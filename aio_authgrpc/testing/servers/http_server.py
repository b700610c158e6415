"""An HTTP server on the loopback interface that records its requests and misbehaves on demand."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from aiohttp import web

from aio_authgrpc.testing.servers.lifecycle import Lifecycle
from aio_authgrpc.testing.servers.misbehaviour import ANYWHERE, Gate, Script
from aio_authgrpc.testing.servers.sockets import bound_socket, reset, stop_accepting
from aio_authgrpc.tokens import Clock, SystemClock

_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Fault: TypeAlias = Callable[[web.Request, _Handler], Awaitable[web.StreamResponse]]

# How long closing waits for requests in progress. Requests at a gate were released before.
_SHUTDOWN_TIMEOUT = 0.1
_SOME_OF_A_FLOOD = b" " * 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """A request that the server received. Its `repr` leaves out the fields that may contain a secret.

    Attributes:
        method: The HTTP method.
        path: The path, without the query.
        query: The query's fields.
        headers: The headers; look-ups ignore case.
        body: The whole body.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def form(self) -> dict[str, str]:
        """The fields of a body that is a form."""
        return dict(urllib.parse.parse_qsl(self.body.decode()))


class LoopbackHttpServer(Lifecycle):
    """Listen on a free port of 127.0.0.1, record every request, and misbehave on demand.

    A test can order faults (`fail`, `send_garbage`, `truncate`, `mislabel`, `redirect`, `flood`,
    `reset_connections`) and waits (`hold`, `delay`), each
    for the next `times` requests (None: until `behave()`) to one `path`: None means `main_path`, "*" any.
    A request first passes all its waits, so that a fault can be ordered while it is held. Then it takes one
    fault, first come first served.

    Args:
        routes: What a server of your own answers, such as `[web.get("/token", give_token)]` with aiohttp's
            `web`.
        clock: Times `delay()`; None means the machine's clock.

    Attributes:
        main_path: The path of orders that name none.
        requests: Every request received, in order.
    """

    main_path: ClassVar[str] = ANYWHERE

    def __init__(self, *, routes: Iterable[web.RouteDef] = (), clock: Clock | None = None) -> None:
        self._given_routes = tuple(routes)
        self.requests: list[RecordedRequest] = []
        self._clock: Clock = SystemClock() if clock is None else clock
        self._listening: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self._url: str | None = None
        self._gates: list[Gate] = []
        self._waits: Script[Callable[[], Awaitable[None]]] = Script()
        self._faults: Script[_Fault] = Script()

    @property
    def url(self) -> str:
        """The address it listens on, without a path.

        Raises:
            RuntimeError: It is not open.
        """
        if self._url is None:
            raise self._not_open()
        return self._url

    def hold(self, *, times: int | None = None, path: str | None = None) -> Gate:
        """Hold requests at a gate until it is released. Closing the server releases it."""
        gate = Gate()
        self._gates.append(gate)
        self._waits.add(gate.pass_through, times=times, where=self._where(path))
        return gate

    def delay(self, seconds: float, *, times: int | None = None, path: str | None = None) -> None:
        """Answer after `seconds` of the server's clock."""
        self._waits.add(functools.partial(self._clock.sleep, seconds), times=times, where=self._where(path))

    def fail(
        self,
        status: int = 503,
        body: Mapping[str, object] | str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        times: int | None = 1,
        path: str | None = None,
    ) -> None:
        """Answer with `status` and `body`: a mapping is sent as JSON; None means an error in OAuth's form."""
        if body is None:
            body = {"error": "internal_failure", "error_description": f"The test ordered a {status}."}

        async def answer(_: web.Request, __: _Handler) -> web.Response:
            if isinstance(body, str):
                return web.Response(status=status, text=body, headers=headers)
            return web.json_response(dict(body), status=status, headers=headers)

        self._faults.add(answer, times=times, where=self._where(path))

    def send_garbage(self, *, times: int | None = 1, path: str | None = None) -> None:
        """Answer 200 with a body that is not JSON."""
        self.fail(200, "<html>This is not what you asked for.", times=times, path=path)

    def redirect(
        self, location: str, *, status: int = 307, times: int | None = 1, path: str | None = None
    ) -> None:
        """Redirect to `location`."""
        self.fail(status, "", headers={"Location": location}, times=times, path=path)

    def truncate(self, *, times: int | None = 1, path: str | None = None) -> None:
        """Answer with the first half of the body, as if it were complete: truncated JSON."""

        async def answer(request: web.Request, handler: _Handler) -> web.Response:
            body = await _body(request, handler)
            return web.Response(body=body[: len(body) // 2], content_type="application/json")

        self._faults.add(answer, times=times, where=self._where(path))

    def mislabel(
        self, content_type: str = "text/html", *, times: int | None = 1, path: str | None = None
    ) -> None:
        """Answer with the right body and a wrong content type."""

        async def answer(request: web.Request, handler: _Handler) -> web.Response:
            return web.Response(body=await _body(request, handler), content_type=content_type)

        self._faults.add(answer, times=times, where=self._where(path))

    def flood(self, *, times: int | None = 1, path: str | None = None) -> None:
        """Answer 200 with an endless body, until the client leaves."""
        self._faults.add(_flood, times=times, where=self._where(path))

    def reset_connections(self, *, times: int | None = 1, path: str | None = None) -> None:
        """Reset the connection (TCP RST) instead of answering."""
        self._faults.add(_reset, times=times, where=self._where(path))

    def behave(self) -> None:
        """Forget the remaining orders, and release every gate."""
        self._waits.clear()
        self._faults.clear()
        while self._gates:
            self._gates.pop().release()

    def _routes(self) -> Iterable[web.RouteDef]:
        return self._given_routes

    def _where(self, path: str | None) -> str:
        return self.main_path if path is None else path

    def _ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context of the server; None serves plain HTTP."""
        return None

    async def _open(self) -> None:
        app = web.Application(middlewares=[self._serve])
        app.router.add_routes(self._routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        await self._runner.setup()
        context = self._ssl_context()
        self._listening = bound_socket()
        await web.SockSite(self._runner, self._listening, ssl_context=context).start()
        scheme = "http" if context is None else "https"
        self._url = f"{scheme}://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _close(self) -> None:
        self.behave()
        if self._listening is not None:
            await stop_accepting(self._listening)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._listening is not None:
            self._listening.close()

    @web.middleware
    async def _serve(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        await self._record(request)
        for wait in self._waits.take_all(request.path):
            await wait()
        fault = self._faults.take(request.path)
        return await (handler(request) if fault is None else fault(request, handler))

    async def _record(self, request: web.Request) -> None:
        recorded = RecordedRequest(
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
            body=await request.read(),
        )
        self.requests.append(recorded)


async def _body(request: web.Request, handler: _Handler) -> bytes:
    response = await handler(request)
    assert isinstance(response, web.Response), "these servers stream nothing"
    return bytes(response.body) if isinstance(response.body, bytes | bytearray) else b""


async def _flood(request: web.Request, _: _Handler) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):  # the client has left
        while True:
            await response.write(_SOME_OF_A_FLOOD)
    return response


async def _reset(request: web.Request, _: _Handler) -> web.Response:
    if request.transport is not None:
        reset(request.transport)
    return web.Response()
