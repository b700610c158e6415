"""A Bookstore that lives in memory and answers every mistake with a status that names it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import grpc
import grpc.aio
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
from aio_authgrpc.bookstore.bookstore_pb2_grpc import BookstoreServicer

_Q = TypeVar("_Q")
_R = TypeVar("_R")

# The generated base class declares the context of a unary method like this.
_Context: TypeAlias = "grpc.aio.ServicerContext[_Q, Awaitable[_R]]"

# A NOT_FOUND lists at most this many ids: enough to see the mistake, too few to fill a terminal.
_IDS_SHOWN = 10


class _RefusedError(Exception):
    """A request that ends with a status other than OK."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


@dataclass(slots=True, kw_only=True)
class _ShelfOfBooks:
    id: int
    theme: str
    books: dict[int, Book] = field(default_factory=dict[int, Book])
    last_book_id: int = 0

    def add(self, *, author: str, title: str) -> Book:
        self.last_book_id += 1
        book = Book(id=self.last_book_id, author=author, title=title)
        self.books[book.id] = book
        return book

    def message(self) -> Shelf:
        return Shelf(id=self.id, theme=self.theme)


class InMemoryBookstore(BookstoreServicer):
    """Serve the Bookstore from memory, starting with the two shelves of the tutorials.

    Shelf 1, "Fiction", holds "REAMDE" by Neal Stephenson; shelf 2, "Fantasy", holds "A Game of Thrones" by
    George R.R. Martin. Shelves are numbered from 1, the books of each shelf too, and no number is used twice.

    A missing shelf or book is refused with NOT_FOUND, which lists the ids that exist; an invalid request
    with INVALID_ARGUMENT, which names the field. (The tutorials' own server answers UNKNOWN to both.)
    """

    def __init__(self) -> None:
        self._shelves: dict[int, _ShelfOfBooks] = {}
        self._last_shelf_id = 0
        self._add_shelf("Fiction").add(author="Neal Stephenson", title="REAMDE")
        self._add_shelf("Fantasy").add(author="George R.R. Martin", title="A Game of Thrones")

    async def ListShelves(
        self, request: Empty, context: _Context[Empty, ListShelvesResponse]
    ) -> ListShelvesResponse:
        """Return every shelf, by id."""
        return ListShelvesResponse(shelves=[shelf.message() for shelf in self._shelves.values()])

    async def CreateShelf(
        self, request: CreateShelfRequest, context: _Context[CreateShelfRequest, Shelf]
    ) -> Shelf:
        """Add a shelf and return it with its id."""
        return await _answer(self._create_shelf, request, context)

    async def GetShelf(self, request: GetShelfRequest, context: _Context[GetShelfRequest, Shelf]) -> Shelf:
        """Return one shelf."""
        return await _answer(self._get_shelf, request, context)

    async def DeleteShelf(
        self, request: DeleteShelfRequest, context: _Context[DeleteShelfRequest, Empty]
    ) -> Empty:
        """Remove a shelf and the books on it."""
        return await _answer(self._delete_shelf, request, context)

    async def ListBooks(
        self, request: ListBooksRequest, context: _Context[ListBooksRequest, ListBooksResponse]
    ) -> ListBooksResponse:
        """Return the books of one shelf, by id."""
        return await _answer(self._list_books, request, context)

    async def CreateBook(
        self, request: CreateBookRequest, context: _Context[CreateBookRequest, Book]
    ) -> Book:
        """Put a book on a shelf and return it with its id."""
        return await _answer(self._create_book, request, context)

    async def GetBook(self, request: GetBookRequest, context: _Context[GetBookRequest, Book]) -> Book:
        """Return one book."""
        return await _answer(self._get_book, request, context)

    async def DeleteBook(
        self, request: DeleteBookRequest, context: _Context[DeleteBookRequest, Empty]
    ) -> Empty:
        """Take one book off its shelf."""
        return await _answer(self._delete_book, request, context)

    def _create_shelf(self, request: CreateShelfRequest) -> Shelf:
        _require(request.HasField("shelf"), "shelf", "is missing")
        _require(bool(request.shelf.theme.strip()), "shelf.theme", "must not be empty")
        return self._add_shelf(request.shelf.theme).message()

    def _get_shelf(self, request: GetShelfRequest) -> Shelf:
        return self._find_shelf(request.shelf).message()

    def _delete_shelf(self, request: DeleteShelfRequest) -> Empty:
        del self._shelves[self._find_shelf(request.shelf).id]
        return Empty()

    def _list_books(self, request: ListBooksRequest) -> ListBooksResponse:
        return ListBooksResponse(books=self._find_shelf(request.shelf).books.values())

    def _create_book(self, request: CreateBookRequest) -> Book:
        _require(request.HasField("book"), "book", "is missing")
        _require(bool(request.book.title.strip()), "book.title", "must not be empty")
        return self._find_shelf(request.shelf).add(author=request.book.author, title=request.book.title)

    def _get_book(self, request: GetBookRequest) -> Book:
        return _find_book(self._find_shelf(request.shelf), request.book)

    def _delete_book(self, request: DeleteBookRequest) -> Empty:
        shelf = self._find_shelf(request.shelf)
        del shelf.books[_find_book(shelf, request.book).id]
        return Empty()

    def _add_shelf(self, theme: str) -> _ShelfOfBooks:
        self._last_shelf_id += 1
        shelf = _ShelfOfBooks(id=self._last_shelf_id, theme=theme)
        self._shelves[shelf.id] = shelf
        return shelf

    def _find_shelf(self, shelf_id: int) -> _ShelfOfBooks:
        _require(shelf_id > 0, "shelf", f"must be the id of a shelf, which is above zero, not {shelf_id}")
        shelf = self._shelves.get(shelf_id)
        if shelf is None:
            raise _not_found(f"shelf {shelf_id} does not exist", "shelves", self._shelves)
        return shelf


def _find_book(shelf: _ShelfOfBooks, book_id: int) -> Book:
    _require(book_id > 0, "book", f"must be the id of a book, which is above zero, not {book_id}")
    book = shelf.books.get(book_id)
    if book is None:
        raise _not_found(f"book {book_id} does not exist on shelf {shelf.id}", "books there", shelf.books)
    return book


def _require(condition: bool, field_name: str, complaint: str) -> None:
    if not condition:
        raise _RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"{field_name}: {complaint}")


def _not_found(what: str, those: str, ids: Iterable[int]) -> _RefusedError:
    shown = [str(one) for one in ids]
    there_is = f"the {those} are {', '.join(shown[:_IDS_SHOWN])}" if shown else f"there are no {those}"
    return _RefusedError(
        grpc.StatusCode.NOT_FOUND, f"{what}; {there_is}{', …' if len(shown) > _IDS_SHOWN else ''}"
    )


async def _answer(decide: Callable[[_Q], _R], request: _Q, context: _Context[_Q, _R]) -> _R:
    try:
        return decide(request)
    except _RefusedError as refused:
        await context.abort(refused.code, refused.details)
