"""The servers that the checks call, and two instruments: a watch on the loop, a listener that counts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
import grpc.aio

from aio_authgrpc import Connection, TokenSource, connect, service_account
from aio_authgrpc.bookstore import BookstoreStub, Empty, InMemoryBookstore, ListShelvesResponse
from aio_authgrpc.testing import Authority, BookstoreServer, endpoint_user_info
from aio_authgrpc.testing.servers.lifecycle import Lifecycle

# The server accepts a token for this many seconds after its `exp`. `exp` is in whole seconds, up to one
# second earlier than the expiry that the client was told; half a second more is for the call's transit.
SKEW = 1.5

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
# Fine enough for stalls of some milliseconds, at less than 5 % of one core.
_TICK = 0.001
_SCHEDSTAT = Path("/proc/thread-self/schedstat")


UserInfo: TypeAlias = Callable[[grpc.aio.ServicerContext[Any, Any]], Mapping[str, object] | None]
"""Returns the payload of the token of a handler's caller."""


def _from_the_same_process(_: grpc.aio.ServicerContext[Any, Any]) -> Mapping[str, object] | None:
    return endpoint_user_info()


class WitnessBookstore(InMemoryBookstore):
    """A Bookstore that remembers the callers of ListShelves, from the payload that its guard passes on.

    Args:
        user_info: Returns the payload of a caller; None means that of `BookstoreServer`'s guard.

    Attributes:
        last_caller: The email of the last caller; empty if no token was needed.
        token_ids: The `jti` of every token.
    """

    def __init__(self, *, user_info: UserInfo | None = None) -> None:
        super().__init__()
        self._user_info = _from_the_same_process if user_info is None else user_info
        self.last_caller = ""
        self.token_ids: set[str] = set()

    async def ListShelves(
        self,
        request: Empty,
        context: grpc.aio.ServicerContext[Empty, Awaitable[ListShelvesResponse]],
    ) -> ListShelvesResponse:
        """Return every shelf, and remember the caller."""
        payload = self._user_info(context)
        if payload is not None:
            self.last_caller = str(payload.get("email"))
            self.token_ids.add(str(payload.get("jti")))
        return await super().ListShelves(request, context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Open servers, and a service account that they accept.

    Attributes:
        authority: Issues tokens.
        server: Demands them.
        witness: The service behind the server's guard.
        account: The key file of a service account, as a dict.
    """

    authority: Authority
    server: BookstoreServer
    witness: WitnessBookstore
    account: Mapping[str, str] = field(repr=False)

    @property
    def target(self) -> str:
        """The target for clients."""
        return self.server.target

    @property
    def ssl_credentials(self) -> grpc.ChannelCredentials:
        """Channel credentials for it."""
        return self.server.ssl_credentials

    @property
    def audience(self) -> str:
        """The audience that tokens need."""
        return self.server.audience

    @property
    def credentials(self) -> TokenSource:
        """The source that exchanges the account's assertions for access tokens."""
        return service_account(self.account, scopes=_SCOPES)

    def connect(self) -> Connection[BookstoreStub]:
        """Return a cold client: no token, no connection."""
        return connect(
            self.target, BookstoreStub, credentials=self.credentials, ssl_credentials=self.ssl_credentials
        )

    async def new_keys_are_known(self) -> None:
        """Wait until the guard accepts tokens of the authority's newest key."""
        # `BookstoreServer` fetches the keys when a token has an unknown key id: there is nothing to wait for.


@asynccontextmanager
async def open_stage() -> AsyncGenerator[Stage]:
    """Start the servers on the loopback interface, and stop them."""
    witness = WitnessBookstore()
    async with (
        Authority() as authority,
        BookstoreServer(authority, skew=SKEW, service=witness) as server,
    ):
        account = await authority.service_account_info()
        yield Stage(authority=authority, server=server, witness=witness, account=account)


class LoopWatch:
    """Measure the stalls of the event loop that this process caused, inside `async with`.

    A loop also stalls while the machine runs other processes. Linux reports that time, and it is not counted.

    Attributes:
        longest: The longest stall so far, in seconds.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._ticker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ticker = asyncio.create_task(self._tick(), name="demo ticker")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker

    async def _tick(self) -> None:
        while True:
            queued, due_at = _time_in_queue(), time.perf_counter() + _TICK
            await asyncio.sleep(_TICK)
            stall = time.perf_counter() - due_at - (_time_in_queue() - queued)
            self.longest = max(self.longest, stall)


def _time_in_queue() -> float:
    """Return the seconds that this thread has waited for a processor; 0.0 if unknown."""
    try:
        # https://docs.kernel.org/scheduler/sched-stats.html: the second figure, in nanoseconds.
        return int(_SCHEDSTAT.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class CountingListener(Lifecycle):
    """Listen on a free port of 127.0.0.1, answer nothing, and count what arrives.

    Attributes:
        connections: The number of connections.
        bytes: The number of bytes that they sent.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.bytes = 0
        self._transports: list[asyncio.BaseTransport] = []
        self._server: asyncio.Server | None = None

    @property
    def target(self) -> str:
        """The target for a channel: address and port."""
        if self._server is None:
            raise self._not_open()
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def made(self, transport: asyncio.BaseTransport) -> None:
        """Count a connection. Called by its protocol."""
        self.connections += 1
        self._transports.append(transport)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Counting(self), "127.0.0.1", 0)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            for transport in self._transports:
                transport.close()
            await self._server.wait_closed()


class _Counting(asyncio.Protocol):
    def __init__(self, listener: CountingListener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._listener.made(transport)

    def data_received(self, data: bytes) -> None:
        self._listener.bytes += len(data)
