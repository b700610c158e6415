"""Every script of examples/ is run as it stands, in a process of its own."""

from __future__ import annotations

import importlib.util
import pathlib
import re
from typing import Any

import pytest

from aio_authgrpc.testing import Authority, BookstoreServer

pytestmark = pytest.mark.timeout(60)  # each starts processes

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
CLIENT = EXAMPLES / "bookstore_client.py"
TESTS = sorted(EXAMPLES.glob("test_*.py"))
SCRIPTS = sorted(set(EXAMPLES.glob("*.py")) - set(TESTS))

# What each prints, line by line, as far as it is always the same.
OUTPUTS = {
    "a2a_agent": ["Hello, reader!", "gRPC Error UNAUTHENTICATED: Jwt is missing", "1 token request"],
    "call_credentials": [
        "composite channel credentials: 2 shelves",
        "credentials of one call: 2 shelves",
        "a synchronous channel:",
        "1 token request",
    ],
    "aiohttp_service": ["GET /ready 200 ready", 'GET /shelves 200 ["Fiction", "Fantasy"]'],
    "certificate_rotation": ["first@example.com, then second@example.com", "2 connections"],
    "cloud_run": ["2 shelves, as compute_engine", "2 shelves, as a service account"],
    "cloud_run_on_behalf_of_a_user": [
        "200 for ann@example.com, by way of front@project.iam.gserviceaccount.com",
        "200 for bob@example.com, by way of front@project.iam.gserviceaccount.com",
        "401 without a user",
    ],
    "emulator": ["2 shelves, in the clear, without a token"],
    "endpoints_jwt": [
        "2 shelves",
        "PERMISSION_DENIED: Audiences in Jwt are not allowed",
        "UNAUTHENTICATED: Method doesn't allow unregistered callers",
        "0 token requests",
    ],
    "error_handling": [
        "No RPC was made, for a ConfigurationError; correct file_or_info: missing.json cannot be read",
        "No RPC was made, for a ClientCertificateError; correct client_certificate: missing.pem",
        "The service said NOT_FOUND: shelf 99 does not exist",
        "Retry later (retryable is True)",
        "Give it more time; the RPC was not sent",
        "Do not start yet: localhost:1 was not reached",
        "Open a connection on each loop",
        "Use a stub inside of its block",
        "Do not retry, an operator has to act: The token endpoint does not know the account",
    ],
    "fastapi_service": ['GET /ready 200 "ready"', 'GET /shelves 200 ["Fiction","Fantasy"]'],
    "long_stream": [
        "Handled job 1",
        "Handled job 2",
        "The stream ended: UNAUTHENTICATED: The token of the stream has ended",
        "Handled job 3",
        "Handled job 4",
        "The stream ended: UNAUTHENTICATED: The token of the stream has ended",
        "Handled job 5",
        "3 streams",
    ],
    "on_behalf_of_the_caller": ["ann, bob, cem, service"],
    "pubsub_pull": [
        "The stream ended: the message was acknowledged",
        "The stream ended: the message was acknowledged",
        "b'an order' b'an order' b'an order'",
    ],
    "service_account": ["100 answers, 1 token request", "Fiction, Fantasy", "The token is fresh."],
    "several_stubs": ["Hello, reader: 2 shelves", "1 token request"],
    "streaming": [
        "one request, one response: b'hello'",
        "one request, many responses: b'hello'",
        "one request, many responses: b'hello'",
        "many requests, one response: b'first second'",
        "many requests, many responses: b'ping'",
        "many requests, many responses: b'pong'",
        "tokens in each call: [1, 1, 1, 1]",
    ],
    "tls_options": [
        "1, ssl_credentials: no client certificate",
        "2, client_cert_callback: callback@example.com",
        "3, SslCredentials: workload@example.com",
        "4, neither: workload@example.com",
    ],
    "token_of_your_own": ["a coroutine function: 2 shelves", "a class: 2 shelves"],
}
# What an example needs that no other environment than `contact` of tox has.
NEEDS = {"a2a_agent": "a2a", "pubsub_pull": "google.pubsub_v1"}


def test_every_example_is_run() -> None:
    """The client is run against a server of this process, below; the others have servers of their own."""
    assert {path.stem for path in SCRIPTS} == {*OUTPUTS, CLIENT.stem}


@pytest.mark.parametrize("example", OUTPUTS)
async def test_an_example_does_what_it_says(world: Any, example: str) -> None:
    """It prints that, ends well, and warns of nothing."""
    if example in NEEDS and importlib.util.find_spec(NEEDS[example]) is None:
        pytest.skip(f"needs {NEEDS[example]}: tox -e contact")
    ran = await world.run(EXAMPLES / f"{example}.py")
    assert ran.code == 0, ran.errors
    assert ran.complaints == [], ran.errors
    for line, beginning in zip(ran.output.splitlines(), OUTPUTS[example], strict=True):
        assert line.startswith(beginning)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
async def test_the_tests_of_an_example_pass(world: Any, path: pathlib.Path) -> None:
    """In pytest-asyncio's strict mode, with warnings as errors, by the settings beside them."""
    plugins = ("-pno:hypothesispytest", "-pno:cacheprovider", "-ppytest_aio_authgrpc")
    ran = await world.run("-m", "pytest", "-q", *plugins, path)
    assert ran.code == 0, ran.output + ran.errors
    assert ran.complaints == [], ran.errors


@pytest.mark.parametrize("path", [*SCRIPTS, *TESTS], ids=lambda path: path.stem)
def test_an_example_is_short(path: pathlib.Path) -> None:
    """It fits on a page and says first what it is."""
    source = path.read_text()
    assert source.startswith('"""')
    assert len(source.splitlines()) <= 75


def test_the_pages_link_to_examples_that_exist() -> None:
    """By their addresses on the web."""
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    linked = set(re.findall(r"/blob/main/examples/([\w.]+)", pages))
    assert linked
    assert linked <= {path.name for path in EXAMPLES.iterdir()}


async def test_the_client_lists_the_shelves_with_a_token_and_a_key(world: Any, authority: Authority) -> None:
    """Over TLS, by the flags of the tutorial's client."""
    async with BookstoreServer(authority, api_keys=["a-key"]) as server:
        ca_path = world.directory / "ca.pem"
        ca_path.write_bytes(server.ca_pem)
        token = authority.issue_access_token()
        ran = await world.run(
            CLIENT,
            *("--host", "localhost", "--port", str(server.port), "--timeout", "10"),
            *("--use_tls", "--ca_path", ca_path, "--auth_token", token, "--api_key", "a-key"),
        )
    assert (ran.code, ran.complaints) == (0, []), ran.errors
    assert ran.output.startswith("ListShelves: shelves {")
    assert server.calls == 1


@pytest.mark.parametrize("flags", [(), ("--auth_token", "not-a-jwt")], ids=["no-token", "bad-token"])
async def test_the_client_says_why_it_was_refused(
    world: Any, authority: Authority, flags: tuple[str, ...]
) -> None:
    """In one line, with the status code; without TLS on this machine."""
    async with BookstoreServer(authority, tls=False) as server:
        ran = await world.run(CLIENT, "--port", str(server.port), *flags)
    assert (ran.code, server.calls, server.refused) == (1, 0, 1)
    assert ran.errors.startswith("UNAUTHENTICATED: Jwt is")


async def test_the_client_without_a_token_calls_an_open_server(world: Any) -> None:
    """As the tutorial's first step does."""
    async with BookstoreServer(tls=False) as server:
        ran = await world.run(CLIENT, "--port", str(server.port))
    assert (ran.code, ran.complaints) == (0, []), ran.errors
    assert 'theme: "Fiction"' in ran.output
