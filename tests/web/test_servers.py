"""A FastAPI application in real servers: uvicorn's workers and reloader, gunicorn, their ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from aio_authgrpc.testing import Authority, BookstoreServer, EchoServer

APPLICATION = """
import json, os
from typing import Annotated

from fastapi import Depends, FastAPI

from aio_authgrpc import LazyChannel, service_account
from aio_authgrpc.fastapi import Grpc, handle_grpc_errors
from aio_authgrpc.testing import EchoStub

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
echo = Grpc(
    os.environ["ECHO_TARGET"],
    EchoStub,
    credentials=service_account(os.environ["KEY_FILE"], scopes=SCOPES),
    plaintext=True,
)
app = FastAPI(lifespan=echo.lifespan)
handle_grpc_errors(app)


@app.get("/echo")
async def call(stub: Annotated[EchoStub, Depends(echo)]) -> int:
    await stub.UnaryUnary(b"x", timeout=60)
    return os.getpid()


lazy = EchoStub(
    LazyChannel(
        os.environ["ECHO_TARGET"],
        credentials=service_account(os.environ["KEY_FILE"], scopes=SCOPES),
        plaintext=True,
    )
)


@app.get("/lazy")
async def call_lazily() -> int:
    await lazy.UnaryUnary(b"x", timeout=60)
    return os.getpid()


@app.get("/ready", dependencies=[Depends(echo.ready)])
async def ready() -> str:
    return "ready"
"""

SERVERS = {
    "uvicorn with 2 workers": "-m uvicorn application:app --workers 2 --port {port} --log-level warning",
    "gunicorn that preloads": (
        "-m gunicorn application:app --preload --workers 2 --bind 127.0.0.1:{port} --log-level warning "
        "--worker-class uvicorn_worker.UvicornWorker --graceful-timeout 60"
    ),
}


SHELVES = """
import os
from typing import Annotated

from fastapi import Depends, FastAPI

from aio_authgrpc import SslCredentials, id_token, service_account
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.fastapi import Grpc

bookstore = Grpc(
    os.environ["BOOKSTORE"],
    BookstoreStub,
    credentials=id_token(credentials=service_account("key.json")),
    ssl_credentials=SslCredentials(root_certificates="ca.pem"),
)
app = FastAPI(lifespan=bookstore.lifespan)


@app.get("/shelves")
async def shelves(stub: Annotated[BookstoreStub, Depends(bookstore)]) -> list[str]:
    answer = await stub.ListShelves(Empty(), timeout=60)
    return ["first edition", *(shelf.theme for shelf in answer.shelves)]
"""


# What Python and asyncio write about what was left open, or went wrong behind the answers.
COMPLAINT = re.compile(r"Warning\b.*|Exception ignored.*|Traceback|never retrieved|was destroyed")


# Below those that a system gives to whoever asks for any port, which are 32768 on Linux and up, and 49152
# elsewhere: of these, another test may get the port before the server has started.
PORTS = range(20_000, 32_000)


def free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(params=SERVERS.values(), ids=SERVERS.keys())
async def served(
    request: pytest.FixtureRequest, tmp_path: Path, authority: Authority, plaintext_server: EchoServer
) -> AsyncIterator[tuple[subprocess.Popen[bytes], str]]:
    """Give the process of a server with two workers, and the application's URL."""
    (tmp_path / "application.py").write_text(APPLICATION)
    key_file = tmp_path / "key.json"
    key_file.write_text(json.dumps(await authority.service_account_info()))
    environment = {"ECHO_TARGET": plaintext_server.target, "KEY_FILE": str(key_file)}
    async with serving(request.param, tmp_path, environment) as (process, url):
        await until_it_answers(process, f"{url}/docs")
        yield process, url


@contextlib.asynccontextmanager
async def serving(
    command: str, directory: Path, environment: dict[str, str]
) -> AsyncIterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a server in a directory, its errors in the file `errors` there; kill what is left of it."""
    port = free_port()
    with (directory / "errors").open("wb") as errors:
        process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes milliseconds
            [sys.executable, *command.format(port=port).split()],
            cwd=directory,
            env={**os.environ, **environment},
            stderr=errors,
            start_new_session=True,
        )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.to_thread(process.wait)
        print((directory / "errors").read_text())  # noqa: T201 - pytest shows it where the test fails


async def until_it_answers(process: subprocess.Popen[bytes], url: str, beginning: str = "") -> str:
    """Wait for an answer that begins so, and return it; the test's time limit bounds it."""
    async with httpx.AsyncClient(timeout=60) as client:
        while process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                response = await client.get(url)
                if response.status_code == 200 and response.text.startswith(beginning):
                    return response.text
            await asyncio.sleep(0.05)
    pytest.fail(f"the server ended with status {process.returncode}")


@pytest.mark.parametrize("path", ["echo", "lazy"], ids=["lifespan", "module-level"])
async def test_cold_workers_make_one_token_request_each(
    served: tuple[subprocess.Popen[bytes], str], authority: Authority, path: str
) -> None:
    """300 requests at once, each on a connection of its own; the stub is the lifespan's, or a lazy one."""
    _, url = served
    limits = httpx.Limits(max_connections=300, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        responses = await asyncio.gather(*(client.get(f"{url}/{path}") for _ in range(300)))
    assert {response.status_code for response in responses} == {200}
    workers = {response.json() for response in responses}
    assert authority.token_requests == len(workers)


async def test_a_server_that_is_told_to_stop_answers_what_it_has_begun(
    served: tuple[subprocess.Popen[bytes], str], plaintext_server: EchoServer
) -> None:
    """SIGTERM with requests under way."""
    process, url = served
    gate = plaintext_server.hold()
    async with httpx.AsyncClient(timeout=60) as client:
        requests = [asyncio.create_task(client.get(f"{url}/echo")) for _ in range(20)]
        await gate.wait_for(20)
        process.send_signal(signal.SIGTERM)
        plaintext_server.behave()
        responses = await asyncio.gather(*requests)
    assert [response.status_code for response in responses] == [200] * 20
    assert await asyncio.to_thread(process.wait) in (0, -signal.SIGTERM)


async def test_a_changed_file_is_served_by_the_next_process(tmp_path: Path, authority: Authority) -> None:
    """`uvicorn --reload`: a token request for each process; nothing complains, and nothing stays."""
    application, errors = tmp_path / "application.py", tmp_path / "errors"
    application.write_text(SHELVES)
    (tmp_path / "key.json").write_text(json.dumps(await authority.service_account_info()))
    command = "-W error -m uvicorn application:app --reload --reload-delay 0.05 --port {port}"
    async with BookstoreServer(authority) as server:
        (tmp_path / "ca.pem").write_bytes(server.ca_pem)
        async with serving(command, tmp_path, {"BOOKSTORE": server.target}) as (process, url):
            answer = await until_it_answers(process, f"{url}/shelves")
            assert json.loads(answer) == ["first edition", "Fiction", "Fantasy"]

            application.write_text(SHELVES.replace("first", "second"))
            changed_at = application.stat().st_mtime
            while "Reloading" not in errors.read_text():
                changed_at += 1  # the reloader may not have looked at the first edition yet
                os.utime(application, (changed_at, changed_at))
                await asyncio.sleep(0.05)
            answer = await until_it_answers(process, f"{url}/shelves", '["second')
            assert json.loads(answer) == ["second edition", "Fiction", "Fantasy"]

            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait) in (0, -signal.SIGTERM)
            async with httpx.AsyncClient() as client:
                with pytest.raises(httpx.ConnectError):  # no process has kept the socket
                    await client.get(url)
        assert authority.token_requests == 2
    assert COMPLAINT.findall(errors.read_text()) == []
