"""The command `serve`: a token authority, a guarded Bookstore and a metadata server for other programs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import signal
import tempfile
from pathlib import Path

import grpc.aio
from grpc_reflection.v1alpha import reflection
from rich.text import Text

from aio_authgrpc.bookstore import bookstore_pb2
from aio_authgrpc.cli.console import err, out, print_json, progress
from aio_authgrpc.testing import Authority, BookstoreServer, MetadataServer

_EMAIL = "tester@project.iam.gserviceaccount.com"
_SERVICE: str = bookstore_pb2.DESCRIPTOR.services_by_name["Bookstore"].full_name


class _ReflectingBookstore(BookstoreServer):
    """A guarded Bookstore with server reflection, which is behind the guard, too."""

    def _register(self, server: grpc.aio.Server) -> None:
        super()._register(server)
        reflection.enable_server_reflection([_SERVICE, reflection.SERVICE_NAME], server)


async def run(*, as_json: bool) -> int:
    """Serve until SIGINT or SIGTERM, which end it well."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no such handlers: there Ctrl-C cancels, and everything is closed, too.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aio-authgrpc-")))
        async with progress("Starting"):
            authority = await stack.enter_async_context(Authority())
            info = await authority.service_account_info(_EMAIL)
            metadata = await stack.enter_async_context(MetadataServer(authority))
            bookstore = await stack.enter_async_context(_ReflectingBookstore(authority, accept=[_EMAIL]))
        settings = _settings(directory, info, metadata, bookstore)
        if as_json:
            print_json(settings)
        else:
            _print(settings)
        await stopped.wait()
    return 0


def _settings(
    directory: Path, info: dict[str, str], metadata: MetadataServer, bookstore: BookstoreServer
) -> dict[str, str]:
    key, ca = directory / "key.json", directory / "ca.pem"
    key.write_text(json.dumps(info))
    ca.write_bytes(bookstore.ca_pem)
    return {
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
        "GCE_METADATA_HOST": metadata.host,
        # gRPC's C core, and with it most languages, trusts the authorities of this file.
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(ca),
        "BOOKSTORE_TARGET": bookstore.target,
        "BOOKSTORE_AUDIENCE": bookstore.audience,
    }


def _print(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        print(f"export {name}={shlex.quote(value)}")
    # So that a program that reads a pipe has them now.
    print(end="", flush=True)
    if out().is_terminal:
        example = "aio-authgrpc call $BOOKSTORE_TARGET Bookstore/ListShelves --identity id"
        err().print(Text(f"\nSet these in another terminal, and try: {example}", "dim"))
        err().print(Text("Ctrl-C ends it.", "dim"))
