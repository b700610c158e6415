"""`serve` and `bookstore`: two processes that speak with each other; and Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aio_authgrpc import ConfigurationError
from aio_authgrpc.cli.bookstore import Fields, request_of
from aio_authgrpc.cli.options import BookstoreRpc
from aio_authgrpc.testing import Authority, BookstoreServer, EchoServer, MetadataServer

from .command import COMMAND, environment, run

pytestmark = pytest.mark.timeout(90)

# A suite in the background ignores SIGINT, which its processes inherit.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from aio_authgrpc.cli import main
main()
"""


@asynccontextmanager
async def started(
    *arguments: str, interruptible: bool = False, **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    command = (sys.executable, "-P", "-c", INTERRUPTIBLE) if interruptible else COMMAND
    process = await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**more),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode()


# serve


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_is_ended_by_a_signal_and_leaves_nothing(number: signal.Signals) -> None:
    """The exit code is 0, stderr is empty, and the key file is gone."""
    async with started("serve", "--json", interruptible=True) as process:
        settings = json.loads(await line_of(process))
        key = Path(settings["GOOGLE_APPLICATION_CREDENTIALS"])
        assert key.exists()
        process.send_signal(number)
        _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert not key.parent.exists()


async def test_served_bookstore_is_called_with_what_was_printed() -> None:
    """The lines are for a shell; the variables are enough for `call`, `token` and `doctor`."""
    async with started("serve") as process:
        lines = [await line_of(process) for _ in range(5)]
        assert all(line.startswith("export ") for line in lines)
        settings = dict(line.removeprefix("export ").strip().split("=", maxsplit=1) for line in lines)
        target = settings["BOOKSTORE_TARGET"]
        called = await run("call", target, "Bookstore/ListShelves", "--identity", "id", **settings)
        refused = await run("call", target, "Bookstore/ListShelves", **settings)
        examined = await run("doctor", target, "--identity", "id", "--json", **settings)
        process.terminate()
        await process.wait()
    assert (called.code, called.err) == (0, "")
    assert len(called.json["shelves"]) == 2
    assert refused.code == 64 + 16
    assert examined.json["healthy"] is True


async def test_served_metadata_server_has_the_machines_identity() -> None:
    """Where no file is named, `GCE_METADATA_HOST` leads to it."""
    async with started("serve", "--json") as process:
        settings = json.loads(await line_of(process))
        found = await run(
            "explain", "--json", NO_GCE_CHECK="false", GCE_METADATA_HOST=settings["GCE_METADATA_HOST"]
        )
        process.terminate()
        await process.wait()
    assert found.json["found"] == "compute_engine"


# bookstore


@pytest.fixture
async def flags(authority: Authority, tmp_path: Path) -> AsyncIterator[list[str]]:
    """Give the flags for a guarded server that demands an API key, too."""
    async with BookstoreServer(authority, api_keys=["the-key"]) as server:
        (tmp_path / "ca.pem").write_bytes(server.ca_pem)
        token = authority.issue_id_token(audience=server.audience, email="a@b")
        (tmp_path / "token").write_text(f"{token}\n")
        yield [
            *("--host", "127.0.0.1", "--port", str(server.port), "--servername", "localhost"),
            *("--use_tls", "true", "--ca_path", str(tmp_path / "ca.pem")),
            *("--auth_token", f"@{tmp_path / 'token'}", "--api_key", "the-key"),
        ]


async def test_bookstore_lists_shelves_with_the_flags_of_the_tutorials(flags: list[str]) -> None:
    """ListShelves is the RPC where none is named."""
    done = await run("bookstore", *flags)
    assert (done.code, done.err) == (0, "")
    assert [shelf["theme"] for shelf in done.json["shelves"]] == ["Fiction", "Fantasy"]


async def test_bookstore_makes_and_reads_a_book(flags: list[str]) -> None:
    """Other RPCs take their fields as options."""
    made = await run("bookstore", "CreateBook", "--shelf", "1", "--author", "A", "--title", "T", *flags)
    read = await run("bookstore", "GetBook", "--shelf", "1", "--book", made.json["id"], *flags)
    assert read.json == {"id": made.json["id"], "author": "A", "title": "T"}


async def test_bookstore_without_a_token_exits_with_the_code_of_the_refusal(flags: list[str]) -> None:
    """64 and the number of UNAUTHENTICATED."""
    at = flags.index("--auth_token")
    done = await run("bookstore", *flags[:at], *flags[at + 2 :])
    assert (done.code, done.out) == (64 + 16, "")
    assert done.err == "error: UNAUTHENTICATED: Jwt is missing\n"


async def test_bookstore_needs_no_tls(authority: Authority) -> None:
    """Plaintext is the default, as in the tutorials."""
    async with BookstoreServer(tls=False) as server:
        done = await run("bookstore", "--host", "localhost", "--port", str(server.port))
    assert (done.code, done.err) == (0, "")


FIELDS: dict[str, Any] = {"shelf": 1, "book": 2, "theme": "t", "author": "a", "title": "b"}


@pytest.mark.parametrize("rpc", BookstoreRpc)
def test_each_rpc_has_its_request(rpc: BookstoreRpc) -> None:
    """Of the type that the service's description names."""
    from aio_authgrpc.bookstore import bookstore_pb2

    methods = bookstore_pb2.DESCRIPTOR.services_by_name["Bookstore"].methods_by_name
    assert request_of(rpc, Fields(**FIELDS)).DESCRIPTOR is methods[rpc.value].input_type
    assert len(methods) == len(BookstoreRpc)


@pytest.mark.parametrize(
    ("rpc", "option"),
    [
        (BookstoreRpc.CREATE_SHELF, "theme"),
        (BookstoreRpc.GET_SHELF, "shelf"),
        (BookstoreRpc.GET_BOOK, "book"),
        (BookstoreRpc.CREATE_BOOK, "title"),
    ],
)
def test_rpc_without_its_field_names_the_option(rpc: BookstoreRpc, option: str) -> None:
    """Nothing is sent."""
    with pytest.raises(ConfigurationError, match=f"--{option}: this RPC needs it"):
        request_of(rpc, Fields(**(FIELDS | {option: None})))


# The terminal


async def test_terminal_is_shown_what_is_waited_for() -> None:
    """Once a second has passed, on stderr: the server holds the call until the words were read."""
    async with EchoServer(tls=False) as server:
        gate = server.hold()
        main, other = pty.openpty()
        arguments = ["doctor", server.target, "aio_authgrpc.testing.Echo/UnaryUnary", "--plaintext"]
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, *arguments, "--timeout", "60"),
            stdout=asyncio.subprocess.PIPE,
            stderr=other,
            env=environment(TERM="xterm"),
        )
        os.close(other)
        with os.fdopen(main, "rb", buffering=0) as terminal:
            shown = b""
            while b"Examining" not in shown:
                shown += await asyncio.to_thread(terminal.read, 4096)
            gate.release()
            out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"\x1b" not in out


# Ctrl-C


async def test_ctrl_c_ends_a_call_with_130(tmp_path: Path) -> None:
    """One line, without a traceback; the server holds the call until then."""
    async with EchoServer(tls=False) as server:
        gate = server.hold()
        arguments = ["doctor", server.target, "aio_authgrpc.testing.Echo/UnaryUnary", "--plaintext"]
        async with started(*arguments, "--timeout", "60", interruptible=True) as process:
            await gate.wait_for(1)
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"Interrupted.\n")


async def test_ctrl_c_while_the_metadata_server_hangs_leaves_one_line(authority: Authority) -> None:
    """The look-up's HTTP session is closed."""
    async with MetadataServer(authority) as metadata:
        gate = metadata.hold(path="*")
        where = {"GCE_METADATA_HOST": metadata.host, "NO_GCE_CHECK": "", "HOME": "/nonexistent"}
        async with started("token", interruptible=True, **where) as process:
            await gate.wait_for(1)
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"Interrupted.\n")
