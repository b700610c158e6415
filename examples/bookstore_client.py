"""List the shelves of a Bookstore: the client of the Cloud Endpoints tutorial, on asyncio.

    python bookstore_client.py --host HOST --port 443 --use_tls --auth_token "$JWT_TOKEN"

The server runs elsewhere. Other users of the machine can read the token on the command line; in your own
program, use `service_account_jwt()` instead (`endpoints_jwt.py`).
"""

import argparse
import asyncio
import pathlib

import google.auth.credentials
import grpc.aio

import aio_authgrpc
from aio_authgrpc.bookstore import BookstoreStub, Empty


async def run(arguments: argparse.Namespace) -> None:
    """Make one call and print the answer."""
    credentials: aio_authgrpc.TokenSource | google.auth.credentials.Credentials
    credentials = google.auth.credentials.AnonymousCredentials()
    if arguments.auth_token:
        credentials = aio_authgrpc.static_token(arguments.auth_token)
    tls = None
    if arguments.ca_path:
        tls = aio_authgrpc.SslCredentials(root_certificates=arguments.ca_path)
    async with aio_authgrpc.connect(
        f"{arguments.host}:{arguments.port}",
        BookstoreStub,
        credentials=credentials,
        api_key=arguments.api_key,
        ssl_credentials=tls,
        plaintext=not arguments.use_tls,
    ) as bookstore:
        shelves = await bookstore.ListShelves(Empty(), timeout=arguments.timeout)
        print(f"ListShelves: {shelves}")


def main() -> str | None:
    """Read the command line, call, and return what went wrong."""
    parser = argparse.ArgumentParser(description="List the shelves of a Bookstore.")
    parser.add_argument("--host", default="localhost", help="the host to connect to")
    parser.add_argument("--port", type=int, default=8000, help="the port to connect to")
    parser.add_argument("--timeout", type=float, default=10, help="seconds that the call may take")
    parser.add_argument("--api_key", help="the API key to send")
    parser.add_argument("--auth_token", help="the JWT to send")
    parser.add_argument("--use_tls", action="store_true", help="connect with TLS")
    parser.add_argument("--ca_path", type=pathlib.Path, help="the PEM file of the authority to trust")
    try:
        asyncio.run(run(parser.parse_args()))
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    except aio_authgrpc.ConfigurationError as error:
        return str(error)
    return None


if __name__ == "__main__":
    raise SystemExit(main())
