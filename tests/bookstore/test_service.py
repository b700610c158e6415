"""The Bookstore in memory, over a real channel."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import grpc
import grpc.aio
import pytest

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
    InMemoryBookstore,
    ListBooksRequest,
    Shelf,
    add_BookstoreServicer_to_server,
)

Call = Callable[[BookstoreStub], Awaitable[object]]


@pytest.fixture
async def bookstore() -> AsyncGenerator[BookstoreStub]:
    server = grpc.aio.server()
    add_BookstoreServicer_to_server(InMemoryBookstore(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield BookstoreStub(channel)
    await server.stop(None)


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details()


async def test_new_store_has_the_two_shelves_of_the_tutorials(bookstore: BookstoreStub) -> None:
    """A store starts with Fiction and Fantasy."""
    response = await bookstore.ListShelves(Empty())
    assert list(response.shelves) == [Shelf(id=1, theme="Fiction"), Shelf(id=2, theme="Fantasy")]


@pytest.mark.parametrize(
    ("shelf", "book"),
    [
        (1, Book(id=1, author="Neal Stephenson", title="REAMDE")),
        (2, Book(id=1, author="George R.R. Martin", title="A Game of Thrones")),
    ],
)
async def test_new_store_has_a_book_on_each_shelf(bookstore: BookstoreStub, shelf: int, book: Book) -> None:
    """Each of the first shelves holds the book of the tutorials."""
    response = await bookstore.ListBooks(ListBooksRequest(shelf=shelf))
    assert list(response.books) == [book]


async def test_created_shelf_can_be_read(bookstore: BookstoreStub) -> None:
    """A shelf gets the next id and can be read by it."""
    created = await bookstore.CreateShelf(CreateShelfRequest(shelf=Shelf(id=99, theme="Poetry")))
    assert created == Shelf(id=3, theme="Poetry") == await bookstore.GetShelf(GetShelfRequest(shelf=3))


async def test_created_book_can_be_read(bookstore: BookstoreStub) -> None:
    """A book gets the shelf's next id and can be read by it."""
    created = await bookstore.CreateBook(CreateBookRequest(shelf=1, book=Book(author="A", title="T")))
    assert (
        created
        == Book(id=2, author="A", title="T")
        == await bookstore.GetBook(GetBookRequest(shelf=1, book=2))
    )


async def test_deleted_shelf_is_gone(bookstore: BookstoreStub) -> None:
    """The list no longer contains it."""
    await bookstore.DeleteShelf(DeleteShelfRequest(shelf=1))
    assert [shelf.id for shelf in (await bookstore.ListShelves(Empty())).shelves] == [2]


async def test_deleted_book_is_gone(bookstore: BookstoreStub) -> None:
    """The list no longer contains it."""
    await bookstore.DeleteBook(DeleteBookRequest(shelf=1, book=1))
    assert not (await bookstore.ListBooks(ListBooksRequest(shelf=1))).books


async def test_shelf_created_after_a_deletion_gets_a_new_id(bookstore: BookstoreStub) -> None:
    """The id of a deleted shelf is not reused."""
    await bookstore.DeleteShelf(DeleteShelfRequest(shelf=2))
    assert (await bookstore.CreateShelf(CreateShelfRequest(shelf=Shelf(theme="Poetry")))).id == 3


async def test_book_created_after_a_deletion_gets_a_new_id(bookstore: BookstoreStub) -> None:
    """The id of a deleted book is not reused."""
    await bookstore.DeleteBook(DeleteBookRequest(shelf=1, book=1))
    assert (await bookstore.CreateBook(CreateBookRequest(shelf=1, book=Book(title="T")))).id == 2


@pytest.mark.parametrize(
    ("call", "details"),
    [
        pytest.param(
            lambda bookstore: bookstore.GetShelf(GetShelfRequest(shelf=7)),
            "shelf 7 does not exist; the shelves are 1, 2",
            id="get-shelf",
        ),
        pytest.param(
            lambda bookstore: bookstore.DeleteShelf(DeleteShelfRequest(shelf=7)),
            "shelf 7 does not exist; the shelves are 1, 2",
            id="delete-shelf",
        ),
        pytest.param(
            lambda bookstore: bookstore.ListBooks(ListBooksRequest(shelf=7)),
            "shelf 7 does not exist; the shelves are 1, 2",
            id="list-books",
        ),
        pytest.param(
            lambda bookstore: bookstore.CreateBook(CreateBookRequest(shelf=7, book=Book(title="T"))),
            "shelf 7 does not exist; the shelves are 1, 2",
            id="create-book",
        ),
        pytest.param(
            lambda bookstore: bookstore.GetBook(GetBookRequest(shelf=2, book=9)),
            "book 9 does not exist on shelf 2; the books there are 1",
            id="get-book",
        ),
        pytest.param(
            lambda bookstore: bookstore.DeleteBook(DeleteBookRequest(shelf=2, book=9)),
            "book 9 does not exist on shelf 2; the books there are 1",
            id="delete-book",
        ),
    ],
)
async def test_missing_id_is_not_found(bookstore: BookstoreStub, call: Call, details: str) -> None:
    """NOT_FOUND names the missing id and the existing ones."""
    assert await refusal(call(bookstore)) == (grpc.StatusCode.NOT_FOUND, details)


async def test_missing_book_on_an_empty_shelf_says_that_there_are_none(bookstore: BookstoreStub) -> None:
    """NOT_FOUND says that there are none, instead of an empty list."""
    await bookstore.DeleteBook(DeleteBookRequest(shelf=1, book=1))
    _, details = await refusal(bookstore.GetBook(GetBookRequest(shelf=1, book=1)))
    assert details == "book 1 does not exist on shelf 1; there are no books there"


async def test_missing_book_on_a_full_shelf_lists_ten(bookstore: BookstoreStub) -> None:
    """NOT_FOUND lists ten ids and says that there are more."""
    for _ in range(10):
        await bookstore.CreateBook(CreateBookRequest(shelf=1, book=Book(title="T")))
    _, details = await refusal(bookstore.GetBook(GetBookRequest(shelf=1, book=99)))
    assert (
        details == "book 99 does not exist on shelf 1; the books there are 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …"
    )


@pytest.mark.parametrize(
    ("call", "details"),
    [
        pytest.param(
            lambda bookstore: bookstore.CreateShelf(CreateShelfRequest()), "shelf: is missing", id="no-shelf"
        ),
        pytest.param(
            lambda bookstore: bookstore.CreateShelf(CreateShelfRequest(shelf=Shelf(theme=" "))),
            "shelf.theme: must not be empty",
            id="blank-theme",
        ),
        pytest.param(
            lambda bookstore: bookstore.CreateBook(CreateBookRequest(shelf=1)),
            "book: is missing",
            id="no-book",
        ),
        pytest.param(
            lambda bookstore: bookstore.CreateBook(CreateBookRequest(shelf=1, book=Book(author="A"))),
            "book.title: must not be empty",
            id="no-title",
        ),
        pytest.param(
            lambda bookstore: bookstore.GetShelf(GetShelfRequest()),
            "shelf: must be the id of a shelf, which is above zero, not 0",
            id="zero-shelf",
        ),
        pytest.param(
            lambda bookstore: bookstore.ListBooks(ListBooksRequest(shelf=-3)),
            "shelf: must be the id of a shelf, which is above zero, not -3",
            id="negative-shelf",
        ),
        pytest.param(
            lambda bookstore: bookstore.GetBook(GetBookRequest(shelf=1, book=-1)),
            "book: must be the id of a book, which is above zero, not -1",
            id="negative-book",
        ),
    ],
)
async def test_invalid_field_is_an_invalid_argument(
    bookstore: BookstoreStub, call: Call, details: str
) -> None:
    """INVALID_ARGUMENT names the field."""
    assert await refusal(call(bookstore)) == (grpc.StatusCode.INVALID_ARGUMENT, details)
