"""The command `bookstore`: every RPC of the Bookstore, with the flags of the tutorials' client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from aio_authgrpc import SslCredentials, anonymous, connect, static_token
from aio_authgrpc.bookstore import (
    Book,
    BookstoreStub,
    CreateBookRequest,
    CreateShelfRequest,
    DeleteBookRequest,
    DeleteShelfRequest,
    Empty,
    GetBookRequest,
    GetShelfRequest,
    ListBooksRequest,
    Shelf,
)
from aio_authgrpc.cli.console import print_json, progress
from aio_authgrpc.cli.options import BookstoreRpc
from aio_authgrpc.errors import ConfigurationError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the Bookstore is. The names are those of the flags."""

    host: str
    port: int
    timeout: float
    api_key: str | None = field(repr=False)
    auth_token: str | None = field(repr=False)
    use_tls: bool
    ca_path: Path | None
    servername: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What requests are made of."""

    shelf: int | None
    book: int | None
    theme: str | None
    author: str | None
    title: str | None


async def run(rpc: BookstoreRpc, server: Server, fields: Fields) -> int:
    """Make one RPC, and print its answer as JSON."""
    if server.ca_path is not None and not server.use_tls:
        raise ConfigurationError("it is for TLS.", field="--ca_path", hint="Add --use_tls true.")
    request = request_of(rpc, fields)
    opened = connect(
        f"{server.host}:{server.port}",
        BookstoreStub,
        credentials=anonymous() if server.auth_token is None else static_token(_token(server.auth_token)),
        api_key=server.api_key,
        plaintext=not server.use_tls,
        ssl_credentials=SslCredentials(root_certificates=server.ca_path) if server.use_tls else None,
        authority=server.servername,
    )
    async with opened as bookstore, progress(f"Waiting for {rpc}"):
        answer: Message = await getattr(bookstore, rpc.value)(request, timeout=server.timeout)
    print_json(json_format.MessageToDict(answer))
    return 0


def request_of(rpc: BookstoreRpc, fields: Fields) -> Message:
    """Return the request of an RPC.

    Raises:
        ConfigurationError: The RPC needs an option that was not given.
    """
    return _REQUESTS[rpc](fields)


_REQUESTS: dict[BookstoreRpc, Callable[[Fields], Message]] = {
    BookstoreRpc.LIST_SHELVES: lambda _: Empty(),
    BookstoreRpc.CREATE_SHELF: lambda given: CreateShelfRequest(shelf=Shelf(theme=_theme(given))),
    BookstoreRpc.GET_SHELF: lambda given: GetShelfRequest(shelf=_shelf(given)),
    BookstoreRpc.DELETE_SHELF: lambda given: DeleteShelfRequest(shelf=_shelf(given)),
    BookstoreRpc.LIST_BOOKS: lambda given: ListBooksRequest(shelf=_shelf(given)),
    BookstoreRpc.CREATE_BOOK: lambda given: CreateBookRequest(shelf=_shelf(given), book=_new_book(given)),
    BookstoreRpc.GET_BOOK: lambda given: GetBookRequest(shelf=_shelf(given), book=_book(given)),
    BookstoreRpc.DELETE_BOOK: lambda given: DeleteBookRequest(shelf=_shelf(given), book=_book(given)),
}


def _shelf(given: Fields) -> int:
    return _needed("--shelf", given.shelf)


def _book(given: Fields) -> int:
    return _needed("--book", given.book)


def _theme(given: Fields) -> str:
    return _needed("--theme", given.theme)


def _new_book(given: Fields) -> Book:
    return Book(author=given.author or "", title=_needed("--title", given.title))


def _needed(option: str, value: T | None) -> T:
    if value is None:
        raise ConfigurationError("this RPC needs it.", field=option)
    return value


def _token(given: str) -> str:
    """Return the token, or that of `@FILE`: other users of the machine see a command's arguments."""
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{given[1:]} cannot be read ({type(error).__name__}).",
            field="--auth_token",
            hint="@ stands before a path.",
        ) from error
