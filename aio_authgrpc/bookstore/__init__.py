"""The Bookstore of the Cloud Endpoints tutorials: messages, stub, and a service that keeps it in memory.

It is the service that the examples call and that `aio_authgrpc.testing.BookstoreServer` guards.
`ListShelves` takes an `Empty`, which is exported here for convenience.
"""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from aio_authgrpc.bookstore.bookstore_pb2 import (
    Book,
    CreateBookRequest,
    CreateShelfRequest,
    DeleteBookRequest,
    DeleteShelfRequest,
    GetBookRequest,
    GetShelfRequest,
    ListBooksRequest,
    ListBooksResponse,
    ListShelvesResponse,
    Shelf,
)
from aio_authgrpc.bookstore.bookstore_pb2_grpc import (
    BookstoreServicer,
    BookstoreStub,
    add_BookstoreServicer_to_server,
)
from aio_authgrpc.bookstore.service import InMemoryBookstore

__all__ = [
    "Book",
    "BookstoreServicer",
    "BookstoreStub",
    "CreateBookRequest",
    "CreateShelfRequest",
    "DeleteBookRequest",
    "DeleteShelfRequest",
    "Empty",
    "GetBookRequest",
    "GetShelfRequest",
    "InMemoryBookstore",
    "ListBooksRequest",
    "ListBooksResponse",
    "ListShelvesResponse",
    "Shelf",
    "add_BookstoreServicer_to_server",
]
