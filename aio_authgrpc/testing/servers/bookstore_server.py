"""The Bookstore behind a guard, on the loopback interface, as Cloud Endpoints shows it to clients."""

from __future__ import annotations

from typing import Unpack

from aio_authgrpc.bookstore import BookstoreServicer, InMemoryBookstore, add_BookstoreServicer_to_server
from aio_authgrpc.testing.google.authority import Authority
from aio_authgrpc.testing.servers.guarded_server import GuardArguments, GuardedServer


class BookstoreServer(GuardedServer):
    """Serve the Bookstore of the Cloud Endpoints tutorials behind the guard of `GuardedServer`. For tests.

    Args:
        authority: As for `GuardedServer`; None means that calls need no token.
        service: Serves the accepted calls; None means a new `InMemoryBookstore`.
        **guard: The keyword arguments of `GuardedServer`.
    """

    def __init__(
        self,
        authority: Authority | None = None,
        *,
        service: BookstoreServicer | None = None,
        **guard: Unpack[GuardArguments],
    ) -> None:
        servicer = InMemoryBookstore() if service is None else service
        super().__init__(authority, add_BookstoreServicer_to_server, servicer, **guard)
