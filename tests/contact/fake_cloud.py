"""A server that has RPCs of google-cloud's services, made of their own messages, behind a guard."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import trustme

from aio_authgrpc.testing import Authority, GuardedServer

# One for all servers of the process: some clients take no certificates, and trust what conftest.py says.
CERTIFICATE_AUTHORITY = trustme.CA()


@dataclass(frozen=True, kw_only=True)
class Rpc:
    """One RPC of a service.

    Attributes:
        path: Such as `/google.datastore.v1.Datastore/Lookup`.
        arity: Such as `unary_stream`.
        request: The class of the requests, proto-plus or plain.
        response: The class of the responses.
        answer: Makes the responses: of all requests, or of each in a bidirectional stream.
    """

    path: str
    arity: str = "unary_unary"
    request: Any
    response: Any
    answer: Callable[[Sequence[Any]], Sequence[Any]]


class FakeCloud(GuardedServer):
    """Serve RPCs to callers with a token of an authority.

    Args:
        authority: Its tokens are accepted; with None, calls need none.
        rpcs: What is served.
        names: The names in its certificate.
        **guard: As for `GuardedServer`.
    """

    def __init__(
        self,
        authority: Authority | None,
        rpcs: Sequence[Rpc],
        *,
        names: Sequence[str] = ("localhost", "127.0.0.1"),
        **guard: Any,
    ) -> None:
        super().__init__(authority, _add_to_server, rpcs, **guard)
        self._names = names

    def bearers(self) -> list[tuple[str | bytes, ...]]:
        """Return the values of `authorization` of each call."""
        return [call.values("authorization") for call in self.recorded]

    def _make_credentials(self) -> grpc.ServerCredentials:
        self._ca = CERTIFICATE_AUTHORITY
        certificate = self._ca.issue_cert(*self._names)
        chain = b"".join(link.bytes() for link in certificate.cert_chain_pems)
        return grpc.ssl_server_credentials(
            [(certificate.private_key_pem.bytes(), chain)],
            root_certificates=self.ca_pem if self.mutual_tls else None,
            require_client_auth=self.mutual_tls,
        )


def _add_to_server(rpcs: Sequence[Rpc], server: grpc.aio.Server) -> None:
    services: dict[str, dict[str, Any]] = {}
    for rpc in rpcs:
        _, service, name = rpc.path.split("/")
        services.setdefault(service, {})[name] = _handler(rpc)
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(name, found) for name, found in services.items())
    )


def _handler(rpc: Rpc) -> Any:
    behaviours = {
        "unary_unary": _unary_unary,
        "unary_stream": _unary_stream,
        "stream_unary": _stream_unary,
        "stream_stream": _stream_stream,
    }
    make = getattr(grpc, f"{rpc.arity}_rpc_method_handler")
    return make(
        behaviours[rpc.arity](rpc),
        # proto-plus and plain messages name them differently.
        request_deserializer=getattr(rpc.request, "deserialize", None) or rpc.request.FromString,
        response_serializer=getattr(rpc.response, "serialize", None) or rpc.response.SerializeToString,
    )


def _unary_unary(rpc: Rpc) -> Any:
    async def serve(request: Any, context: Any) -> Any:
        return rpc.answer([request])[0]

    return serve


def _unary_stream(rpc: Rpc) -> Any:
    async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
        for response in rpc.answer([request]):
            yield response

    return serve


def _stream_unary(rpc: Rpc) -> Any:
    async def serve(requests: AsyncIterator[Any], context: Any) -> Any:
        return rpc.answer([request async for request in requests])[0]

    return serve


def _stream_stream(rpc: Rpc) -> Any:
    async def serve(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            for response in rpc.answer([request]):
                yield response

    return serve


@asynccontextmanager
async def on_a_loop_of_its_own(cloud: FakeCloud) -> AsyncGenerator[FakeCloud]:
    """Open a server in a thread: it answers a client that blocks this loop, too."""
    opened: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async with cloud:
            end = asyncio.Event()
            opened.set_result((asyncio.get_running_loop(), end))
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="fake cloud")
    thread.start()
    loop, end = await asyncio.wrap_future(opened)
    try:
        yield cloud
    finally:
        loop.call_soon_threadsafe(end.set)
        await asyncio.to_thread(thread.join)
