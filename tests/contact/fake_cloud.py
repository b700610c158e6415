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

from aio_authgrpc.testing import Authority, BookstoreServer, Gate

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


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call that passed the guard. Its `repr` has no metadata, which holds the token."""

    path: str
    metadata: tuple[tuple[str, str | bytes], ...]

    def values(self, key: str) -> list[str | bytes]:
        return [value for name, value in self.metadata if name == key]

    def __repr__(self) -> str:
        return f"<Call of {self.path}>"


class FakeCloud(BookstoreServer):
    """Serve RPCs to callers with a token of an authority.

    Args:
        authority: Its tokens are accepted; with None, calls need none.
        rpcs: What is served.
        names: The names in its certificate.
        **others: As for `BookstoreServer`.

    Attributes:
        received: The calls that passed the guard, in order.
        refusals: The status codes that the next calls end with, after they were recorded.
        gate: Holds every call until its release.
    """

    def __init__(
        self,
        authority: Authority | None,
        rpcs: Sequence[Rpc],
        *,
        names: Sequence[str] = ("localhost", "127.0.0.1"),
        **others: Any,
    ) -> None:
        super().__init__(authority, **others)
        self.names = names
        self.received: list[Call] = []
        self.refusals: list[grpc.StatusCode] = []
        self.gate = Gate()
        self.gate.release()
        self._rpcs = rpcs

    def hold(self) -> Gate:
        """Hold every call from now on."""
        self.gate = Gate()
        return self.gate

    def bearers(self) -> list[list[str | bytes]]:
        """Return the values of `authorization` of each call."""
        return [call.values("authorization") for call in self.received]

    def _make_credentials(self) -> grpc.ServerCredentials:
        self._ca = CERTIFICATE_AUTHORITY
        certificate = self._ca.issue_cert(*self.names)
        chain = b"".join(link.bytes() for link in certificate.cert_chain_pems)
        return grpc.ssl_server_credentials(
            [(certificate.private_key_pem.bytes(), chain)],
            root_certificates=self.ca_pem if self.mutual_tls else None,
            require_client_auth=self.mutual_tls,
        )

    def _register(self, server: grpc.aio.Server) -> None:
        services: dict[str, dict[str, Any]] = {}
        for rpc in self._rpcs:
            _, service, name = rpc.path.split("/")
            services.setdefault(service, {})[name] = self._handler(rpc)
        server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(name, found) for name, found in services.items())
        )

    def _handler(self, rpc: Rpc) -> Any:
        make = getattr(grpc, f"{rpc.arity}_rpc_method_handler")
        behaviour = {
            "unary_unary": self._unary_unary,
            "unary_stream": self._unary_stream,
            "stream_unary": self._stream_unary,
            "stream_stream": self._stream_stream,
        }[rpc.arity]
        return make(
            behaviour(rpc),
            # proto-plus and plain messages name them differently.
            request_deserializer=getattr(rpc.request, "deserialize", None) or rpc.request.FromString,
            response_serializer=getattr(rpc.response, "serialize", None) or rpc.response.SerializeToString,
        )

    async def _note_call(self, rpc: Rpc, context: Any, requests: AsyncIterator[Any] | None = None) -> None:
        metadata = tuple((key, value) for key, value in context.invocation_metadata() or ())
        self.received.append(Call(path=rpc.path, metadata=metadata))
        await self.gate.pass_through()
        if self.refusals:
            # A grpc.aio client that is still writing reports INTERNAL (https://github.com/grpc/grpc/issues/36066).
            if requests is not None:
                async for _ in requests:
                    pass
            await context.abort(self.refusals.pop(0), "the test ordered a refusal")

    def _unary_unary(self, rpc: Rpc) -> Any:
        async def serve(request: Any, context: Any) -> Any:
            await self._note_call(rpc, context)
            return rpc.answer([request])[0]

        return serve

    def _unary_stream(self, rpc: Rpc) -> Any:
        async def serve(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._note_call(rpc, context)
            for response in rpc.answer([request]):
                yield response

        return serve

    def _stream_unary(self, rpc: Rpc) -> Any:
        async def serve(requests: AsyncIterator[Any], context: Any) -> Any:
            await self._note_call(rpc, context, requests)
            return rpc.answer([request async for request in requests])[0]

        return serve

    def _stream_stream(self, rpc: Rpc) -> Any:
        async def serve(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            await self._note_call(rpc, context, requests)
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
