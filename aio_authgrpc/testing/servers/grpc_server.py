"""A gRPC server on the loopback interface, with a certificate from an authority of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar, Unpack, overload

import grpc
import grpc.aio
import trustme

from aio_authgrpc import AuthorizedChannel, ConnectArguments, Connection, anonymous, connect
from aio_authgrpc.testing.servers.certificates import LOCAL_NAMES, issue_pem
from aio_authgrpc.testing.servers.lifecycle import Lifecycle
from aio_authgrpc.testing.servers.ordered_calls import FollowOrders, OrderedCalls
from aio_authgrpc.tokens import Clock, TokenSource

S = TypeVar("S")

# Without grace gRPC logs a GOAWAY for each connected client. Idle clients leave at once; calls that are open
# at the end of the grace are cancelled.
_GRACE = 0.1


_OPTIONS = (
    # Otherwise another process can get the same port.
    ("grpc.so_reuseport", 0),
    # gRPC's servers drop calls at random when a thousand wait to be accepted. A test may make more.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
)


class LoopbackGrpcServer(OrderedCalls, Lifecycle):
    """Listen on a free port of 127.0.0.1, with TLS by default, record every call, and misbehave on demand.

    A test can order refusals (`refuse`) and waits (`hold`, `delay`), each for the next `times` calls (None:
    until `behave()`) of one method, such as "GetShelf", or of any ("*"). A call first passes all its waits,
    so that a refusal can be ordered while it is held.

    `EchoServer` and `GuardedServer` are such servers. `GuardedServer(None, add_to_server, servicer)` serves a
    service of your own without a guard. Methods are coroutine functions or asynchronous generators.

    Args:
        tls: Serve TLS, with a certificate for `localhost` and `127.0.0.1` from an authority made for this
            server.
        mutual_tls: Demand a client certificate from `issue_client_certificate()`.
        interceptors: The server's interceptors. They see a call before it is recorded.
        options: The server's channel arguments, such as `[("grpc.max_concurrent_streams", 100)]`.
        clock: Times `delay()`; None means the machine's clock.
    """

    def __init__(
        self,
        *,
        tls: bool = True,
        mutual_tls: bool = False,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        options: Sequence[tuple[str, object]] = (),
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        if mutual_tls and not tls:
            raise ValueError("mutual_tls needs tls=True: plaintext carries no client certificate")
        self._tls = tls
        self._mutual_tls = mutual_tls
        self._interceptors = (*interceptors, FollowOrders(self._receive))
        self._options = (*_OPTIONS, *options)
        self._server: grpc.aio.Server | None = None
        self._port: int | None = None
        self._ca: trustme.CA | None = None

    @property
    def tls(self) -> bool:
        """Whether it serves TLS."""
        return self._tls

    @property
    def mutual_tls(self) -> bool:
        """Whether it demands a client certificate."""
        return self._mutual_tls

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            RuntimeError: It is not open.
        """
        if self._port is None:
            raise self._not_open()
        return self._port

    @property
    def target(self) -> str:
        """The target for a channel: `localhost` and the port."""
        return f"localhost:{self.port}"

    @property
    def ca_pem(self) -> bytes:
        """The certificate of its authority, PEM.

        Raises:
            RuntimeError: It is not open, or without TLS.
        """
        return self._authority().cert_pem.bytes()

    @property
    def ssl_credentials(self) -> grpc.ChannelCredentials:
        """Channel credentials that trust its authority alone, and identify a client under `mutual_tls`."""
        if not self._mutual_tls:
            return grpc.ssl_channel_credentials(self.ca_pem)
        certificate_chain, private_key = self.issue_client_certificate()
        return grpc.ssl_channel_credentials(self.ca_pem, private_key, certificate_chain)

    @overload
    def connect(self, /, **arguments: Unpack[ConnectArguments]) -> Connection[AuthorizedChannel]: ...
    @overload
    def connect(
        self, stub: Callable[[grpc.aio.Channel], S], /, **arguments: Unpack[ConnectArguments]
    ) -> Connection[S]: ...
    def connect(
        self, stub: Callable[[grpc.aio.Channel], S] | None = None, /, **arguments: Unpack[ConnectArguments]
    ) -> Connection[S] | Connection[AuthorizedChannel]:
        """Connect to this server: `async with server.connect(OrdersStub) as orders:`.

        The arguments are those of `aio_authgrpc.connect()`, after the target. TLS is set up, unless
        `ssl_credentials` or `plaintext` is given. `credentials` default to an identity that the server
        accepts: a service account of its authority, or nobody if it demands no token.

        Raises:
            RuntimeError: It is not open.
        """
        if arguments.keys().isdisjoint({"ssl_credentials", "plaintext"}):
            arguments |= {"ssl_credentials": self.ssl_credentials} if self._tls else {"plaintext": True}
        arguments.setdefault("credentials", self._credentials())
        if stub is None:
            return connect(self.target, **arguments)
        return connect(self.target, stub, **arguments)

    def issue_client_certificate(self, name: str = "client@example.com") -> tuple[bytes, bytes]:
        """Return a client's certificate chain and private key, PEM, from the server's authority."""
        return issue_pem(self._authority(), name)

    def _credentials(self) -> TokenSource:
        """Return the identity of `connect()`."""
        return anonymous()

    def _register(self, server: grpc.aio.Server) -> None:
        raise NotImplementedError

    def _authority(self) -> trustme.CA:
        if not self._tls:
            raise RuntimeError(f"this {type(self).__name__} was made with tls=False: it has no certificate")
        if self._ca is None:
            raise self._not_open()
        return self._ca

    async def _open(self) -> None:
        self._server = grpc.aio.server(interceptors=self._interceptors, options=self._options)
        self._register(self._server)
        if self._tls:
            credentials = await asyncio.to_thread(self._make_credentials)
            self._port = self._server.add_secure_port("127.0.0.1:0", credentials)
        else:
            self._port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def _close(self) -> None:
        self.behave()
        if self._server is not None:
            await self._server.stop(_GRACE)

    def _make_credentials(self) -> grpc.ServerCredentials:
        self._ca = trustme.CA()
        certificate_chain, private_key = issue_pem(self._ca, *LOCAL_NAMES)
        pair = (private_key, certificate_chain)
        if not self._mutual_tls:
            return grpc.ssl_server_credentials([pair])
        return grpc.ssl_server_credentials([pair], self._ca.cert_pem.bytes(), require_client_auth=True)
