"""Meet each error, on purpose, and see what to do about it."""

import asyncio
from collections.abc import Awaitable
from functools import partial

import grpc.aio

import aio_authgrpc as auth
from aio_authgrpc.bookstore import BookstoreStub, Empty, GetShelfRequest
from aio_authgrpc.testing import Authority, BookstoreServer


async def meet(calling: Awaitable[object]) -> None:
    """Await a call that fails, and print what to do about it."""
    try:
        await calling
    except auth.ConfigurationError as error:
        print(f"No RPC was made, for a {type(error).__name__}; correct {error}")
    except auth.errors.TokenUnavailableError as error:
        print(f"Retry later (retryable is {error.retryable}): {error.details()}")
    except auth.errors.TokenRefusedError as error:
        print(f"Do not retry, an operator has to act: {error.hint}")
    except auth.errors.TokenDeadlineExceededError as error:
        print(f"Give it more time; the RPC was not sent: {error.details()}")
    except auth.errors.ConnectionNotReadyError as error:
        print(f"Do not start yet: {error.details()}")
    except auth.errors.ChannelClosedError as error:
        print(f"Use a stub inside of its block: {error.details()}")
    except auth.errors.WrongEventLoopError as error:
        print(f"Open a connection on each loop: {error.details()}")
    except grpc.aio.AioRpcError as error:
        print(f"The service said {error.code().name}: {error.details()}")


async def call(connection: auth.Connection[BookstoreStub], shelf: int = 1, timeout: float = 10) -> None:
    """Open the connection and read one shelf."""
    async with connection as bookstore:
        await bookstore.GetShelf(GetShelfRequest(shelf=shelf), timeout=timeout)


async def list_shelves(bookstore: BookstoreStub) -> object:
    """Make a call on the current event loop."""
    return await bookstore.ListShelves(Empty())


async def main() -> None:
    """Start the servers, let them misbehave, and make mistakes."""
    async with Authority() as authority, BookstoreServer(authority) as server:
        connect = partial(auth.connect, server.target, BookstoreStub, ssl_credentials=server.ssl_credentials)
        key_file = await authority.service_account_info("client@my-project.iam.gserviceaccount.com")

        def account() -> auth.TokenSource:  # a new one has no token yet
            return auth.service_account(key_file, scopes=["https://www.googleapis.com/auth/cloud-platform"])

        await meet(call(connect(credentials=auth.service_account("missing.json"))))
        no_files = auth.SslCredentials(client_certificate=auth.client_certificate_files("missing.pem"))
        await meet(call(connect(credentials=account(), ssl_credentials=no_files)))
        await meet(call(connect(credentials=account()), shelf=99))
        authority.reset_connections(times=None)
        await meet(call(connect(credentials=account())))
        authority.behave()
        with authority.hold():
            await meet(call(connect(credentials=account()), timeout=0.2))
        unreachable = auth.connect("localhost:1", BookstoreStub, credentials=account(), ready_timeout=0.5)
        await meet(call(unreachable))
        async with connect(credentials=account()) as bookstore:
            await meet(asyncio.to_thread(lambda: asyncio.run(list_shelves(bookstore))))
        await meet(list_shelves(bookstore))
        authority.revoke("client@my-project.iam.gserviceaccount.com")
        await meet(call(connect(credentials=auth.service_account(key_file, scopes=["a-scope"]))))


if __name__ == "__main__":
    asyncio.run(main())
