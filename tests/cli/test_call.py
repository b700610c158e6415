"""`call`: the four arities over real servers, by reflection and by files; JSON in and out."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from aio_authgrpc.cli.call import Order, parsed_metadata
from aio_authgrpc.cli.call import run as run_call
from aio_authgrpc.cli.call.messages import JsonSequence
from aio_authgrpc.cli.options import CallIdentityOptions, ConnectionOptions, CredentialOptions, IdentityKind
from aio_authgrpc.errors import ConfigurationError
from aio_authgrpc.testing import Authority, BookstoreServer

from .chat_server import PROTO, SERVICE, ChatServer, descriptors, timestamp_descriptors
from .command import COMMAND, environment, run

pytestmark = pytest.mark.timeout(90)

Shell = Callable[..., Awaitable[tuple[int, list[Any], str]]]


@pytest.fixture
async def chat() -> AsyncIterator[ChatServer]:
    async with ChatServer() as server:
        yield server


@pytest.fixture
def call(chat: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Give the command without its process: the exit code, the JSON lines of stdout, and stderr."""
    (tmp_path / "ca.pem").write_bytes(chat.ca_pem)

    async def call(method: str = "", data: str = "", **changes: Any) -> tuple[int, list[Any], str]:
        options: dict[str, Any] = {
            "target": chat.target,
            "metadata": (),
            "describe": False,
            "verbose": False,
            "timeout": None,
            "compression": "none",
            "protos": (),
            "imports": (),
            "descriptor_set": None,
        }
        connection = ConnectionOptions(root_certificates=tmp_path / "ca.pem")
        order = Order(method=method, data=data, **(options | changes))
        code = await run_call(order, CredentialOptions(), CallIdentityOptions(), connection)
        out, err = capsys.readouterr()
        lines = [json.loads(line) if line.startswith("{") else line for line in out.splitlines()]
        return code, lines, err

    return call


# The four arities


@pytest.mark.parametrize(
    ("method", "data", "answers"),
    [
        ("Say", '{"text": "hi"}', [{"text": "hi"}]),
        ("Listen", '{"text": "a", "times": 2}', [{"text": "a"}, {"text": "a", "times": 1}]),
        ("Count", '{"text": "a"} {"text": "b"}\n{}', [{"times": 3}]),
        ("Talk", '{"text": "a"}\n{"text": "b"}', [{"text": "A"}, {"text": "B"}]),
    ],
)
async def test_each_arity_is_called(call: Shell, method: str, data: str, answers: list[Any]) -> None:
    """Each answer is one line of JSON."""
    assert await call(f"{SERVICE}/{method}", data) == (0, answers, "")


@pytest.mark.parametrize(
    "name", ["tests.cli.Chat/Say", "tests.cli.Chat.Say", "Chat/Say", "/tests.cli.Chat/Say"]
)
async def test_method_has_several_names(call: Shell, name: str) -> None:
    """As gRPC writes it, as grpcurl does, and by the end of its service's name."""
    assert await call(name, '{"times": 1}') == (0, [{"times": 1}], "")


async def test_unary_rpc_without_data_sends_an_empty_message(call: Shell) -> None:
    """`-d` may be left out."""
    assert await call("Chat/Say") == (0, [{}], "")


async def test_stream_without_data_sends_no_message(call: Shell) -> None:
    """The stream of requests is empty."""
    assert await call("Chat/Count") == (0, [{}], "")


async def test_every_kind_of_field_comes_back(call: Shell) -> None:
    """As protobuf's JSON writes it."""
    line = {
        "text": "ä",
        "times": -1,
        "mood": "ANGRY",
        "marks": {"a": "1"},
        "replies": [{"text": "b"}],
        "at": "2026-01-02T03:04:05Z",
        "id": "7",
        "blob": "AA==",
        "weight": 1.5,
        "loud": True,
    }
    assert await call("Chat/Say", json.dumps(line)) == (0, [line], "")


async def test_data_of_a_file_is_read(call: Shell, tmp_path: Path) -> None:
    """`-d @FILE`."""
    (tmp_path / "request.json").write_text('{"text": "from a file"}')
    assert await call("Chat/Say", f"@{tmp_path / 'request.json'}") == (0, [{"text": "from a file"}], "")


# Bad JSON


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ('{"times": "x"}', 'times: expected a 32-bit integer, not "x"'),
        ('{"times": 3000000000}', "times: expected a 32-bit integer, not 3000000000"),
        (
            '{"replies": [{}, {"replies": [{"times": true}]}]}',
            "replies[1].replies[0].times: expected a 32-bit",
        ),
        ('{"replies": {}}', "replies: expected a list, not {}"),
        ('{"replies": [7]}', "replies[0]: expected an object (tests.cli.Line), not 7"),
        ('{"marks": {"a": "x"}}', "marks['a']: expected a 64-bit integer, not \"x\""),
        ('{"marks": 1}', "marks: expected an object, not 1"),
        ('{"mood": "GLAD"}', 'mood: expected one of CALM, ANGRY, not "GLAD"'),
        ('{"at": "noon"}', 'at: expected a google.protobuf.Timestamp, not "noon"'),
        ('{"txet": ""}', "txet: tests.cli.Line has no such field; did you mean text?"),
        ('{"text": 1}', "text: expected a string, not 1"),
        ('{"loud": "yes"}', 'loud: expected true or false, not "yes"'),
        ("[]", "expected an object (tests.cli.Line), not []"),
        ("7", "expected an object (tests.cli.Line), not 7"),
        ('{"text": ', "it is not JSON: line 1, column 10: Expecting value"),
        ('{"text": "a"}\n\n{oops}', "it is not JSON: line 3, column 2: Expecting property name"),
        ("request.json", "it is not JSON: line 1, column 1: Expecting value. -d @FILE reads a file"),
        ("{} {}", "Say takes one message, and 2 were given"),
    ],
)
async def test_bad_json_is_answered_with_the_path_of_the_field(
    call: Shell, chat: ChatServer, data: str, problem: str
) -> None:
    """Nothing is sent."""
    with pytest.raises(ConfigurationError) as raised:
        await call("Chat/Say", data)
    assert str(raised.value).startswith(f"--data: {problem}")
    assert chat.metadata == []


@pytest.mark.parametrize("method", ["Talk", "Count"])
async def test_bad_json_within_a_stream_ends_the_rpc(call: Shell, method: str) -> None:
    """The messages before it were sent."""
    with pytest.raises(ConfigurationError, match=r"times: expected"):
        await call(f"Chat/{method}", '{"text": "a"} {"times": "x"}')


@pytest.mark.parametrize("size", [1, 3, 7])
def test_json_in_pieces_is_cut_into_its_values(size: int) -> None:
    """Each value comes as soon as it is complete, wherever the pieces end."""
    text = '{"a": "}{"} [1, true]\n\n{"b": 2}12 "x"'
    sequence = JsonSequence()
    found = [value for at in range(0, len(text), size) for value in sequence.feed(text[at : at + size])]
    assert [*found, *sequence.end()] == [{"a": "}{"}, [1, True], {"b": 2}, 12, "x"]


def test_wrong_json_is_refused_before_its_end() -> None:
    """A stream from a terminal does not end."""
    with pytest.raises(ConfigurationError, match="line 1"):
        list(JsonSequence().feed('{"a": oops}\n'))


# Listing


async def test_services_are_listed_with_their_methods(call: Shell) -> None:
    """A line for each method; streams are marked."""
    code, lines, _ = await call()
    assert code == 0
    assert "tests.cli.Chat/Say(tests.cli.Line) returns (tests.cli.Line)" in lines
    assert "grpc.reflection.v1alpha.ServerReflection" in lines  # the server does not describe it
    assert "tests.cli.Chat/Talk(stream tests.cli.Line) returns (stream tests.cli.Line)" in lines


async def test_a_service_is_listed_alone(call: Shell) -> None:
    """By its full name."""
    _, lines, _ = await call(SERVICE)
    assert len(lines) == 5


async def test_a_method_is_described_with_its_messages_and_an_example(call: Shell) -> None:
    """The example can be sent."""
    _, lines, _ = await call("Chat/Say", describe=True)
    assert "  map<string, int64> marks = 4;" in lines
    assert "  repeated tests.cli.Line replies = 5;" in lines
    assert "enum tests.cli.Mood {" in lines
    example = str(lines[-1]).removeprefix("-d '").removesuffix("'")
    assert (await call("Chat/Say", example.replace('"at": {}, ', "")))[0] == 0


@pytest.mark.parametrize(
    ("name", "hint"), [("Chat/Sya", "Did you mean Say"), ("Chta/Say", "Did you mean tests.cli.Chat")]
)
async def test_an_unknown_name_is_answered_with_the_nearest(call: Shell, name: str, hint: str) -> None:
    """Of the services, or of the service's methods."""
    with pytest.raises(ConfigurationError) as raised:
        await call(name)
    assert raised.value.hint.startswith(hint)


# Files in place of reflection


@pytest.fixture
def descriptor_set(tmp_path: Path) -> Path:
    path = tmp_path / "chat.pb"
    content = FileDescriptorSet(file=[descriptors(), timestamp_descriptors()])
    path.write_bytes(content.SerializeToString())
    return path


async def test_a_descriptor_set_needs_no_reflection(call: Shell, descriptor_set: Path) -> None:
    """The server is not asked for its services."""
    async with ChatServer(reflects=False, tls=False) as server:
        with pytest.raises(ConfigurationError, match="no reflection"):
            await call_plaintext(server, call)
        done = await run(
            *("call", server.target, "Chat/Say", "-d", '{"text": "x"}'),
            *("--plaintext", "--descriptor-set", str(descriptor_set)),
        )
    assert (done.code, done.lines, done.err) == (0, [{"text": "x"}], "")


async def call_plaintext(server: ChatServer, call: Shell) -> None:
    connection = ConnectionOptions(plaintext=True)
    order = Order(
        target=server.target,
        method="Chat/Say",
        data="",
        metadata=(),
        describe=False,
        verbose=False,
        timeout=None,
        compression="none",
        protos=(),
        imports=(),
        descriptor_set=None,
    )
    await run_call(order, CredentialOptions(), CallIdentityOptions(), connection)


async def test_a_descriptor_set_without_its_imports_is_refused(call: Shell, tmp_path: Path) -> None:
    """The error names the file that is missing, and the option of protoc."""
    path = tmp_path / "chat.pb"
    path.write_bytes(FileDescriptorSet(file=[descriptors()]).SerializeToString())
    with pytest.raises(ConfigurationError, match=r"google/protobuf/timestamp\.proto.*--include_imports"):
        await call("Chat/Say", descriptor_set=path)


async def test_a_file_that_is_no_descriptor_set_is_refused(call: Shell, tmp_path: Path) -> None:
    """Such as a .proto."""
    (tmp_path / "chat.proto").write_text(PROTO)
    with pytest.raises(ConfigurationError, match="holds no descriptor set"):
        await call("Chat/Say", descriptor_set=tmp_path / "chat.proto")


has_protoc = importlib.util.find_spec("grpc_tools") is not None or shutil.which("protoc") is not None


@pytest.mark.skipif(not has_protoc, reason="needs grpcio-tools or protoc")
async def test_a_proto_is_compiled(call: Shell, tmp_path: Path) -> None:
    """With what it imports."""
    (tmp_path / "chat.proto").write_text(PROTO)
    done = await call("Chat/Say", '{"text": "x"}', protos=(tmp_path / "chat.proto",))
    assert done == (0, [{"text": "x"}], "")


@pytest.mark.skipif(not has_protoc, reason="needs grpcio-tools or protoc")
async def test_a_proto_with_a_mistake_is_answered_in_protocs_words(call: Shell, tmp_path: Path) -> None:
    """They name the line."""
    (tmp_path / "chat.proto").write_text(PROTO.replace("Line)", "Lein)", 1))
    with pytest.raises(ConfigurationError, match=r'protoc refuses it: .*"Lein" is not defined'):
        await call("Chat/Say", protos=(tmp_path / "chat.proto",))


# Metadata, errors, exit codes


async def test_metadata_is_sent(call: Shell, chat: ChatServer) -> None:
    """`-H 'KEY: VALUE'`, with keys in lower case."""
    await call("Chat/Say", metadata=parsed_metadata(["X-Request-Id: a:b", "x-empty:"]))
    assert chat.metadata[0]["x-request-id"] == "a:b"
    assert chat.metadata[0]["x-empty"] == ""


@pytest.mark.parametrize("given", ["x-request-id", ": value"])
def test_metadata_of_another_form_is_refused(given: str) -> None:
    """A key and a colon are needed."""
    with pytest.raises(ConfigurationError, match="--header"):
        parsed_metadata([given])


async def test_verbose_call_shows_the_servers_metadata(call: Shell) -> None:
    """On stderr, so that stdout stays JSON."""
    _, lines, err = await call("Chat/Say", verbose=True)
    assert lines == [{}]
    assert "initial metadata: x-mood: good" in err


async def test_rich_details_of_an_error_are_decoded(call: Shell) -> None:
    """Google's, the service's own, and base64 for an unknown one; 64 + 9 is FAILED_PRECONDITION."""
    code, lines, err = await call("Chat/Refuse", '{"text": "x"}')
    assert (code, lines) == (64 + 9, [])
    assert err.splitlines() == [
        "error: FAILED_PRECONDITION: not now",
        'google.rpc.ErrorInfo: {"reason": "CLOSED", "domain": "chat.example", "metadata": {"until": "9:00"}}',
        'tests.cli.Line: {"text": "x"}',
        'other.Thing: "AQ=="',
    ]


async def test_deadline_ends_a_stream(call: Shell, tmp_path: Path, chat: ChatServer) -> None:
    """The exit code is that of DEADLINE_EXCEEDED; stdin stays open."""
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "call", chat.target, "Chat/Talk", "-d", "-", "--timeout", "3"),
        *("--root-certificates", str(tmp_path / "ca.pem")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b'{"text": "a"}\n')
    # The answer comes while the stream of requests is open.
    assert json.loads(await process.stdout.readline()) == {"text": "A"}
    assert await process.wait() == 64 + 4
    assert b"DEADLINE_EXCEEDED" in await process.stderr.read()


# The identity


async def test_call_of_a_stranger_carries_no_token(call: Shell, chat: ChatServer) -> None:
    """A host that is not Google's gets one only where an option says so."""
    await call("Chat/Say")
    assert "authorization" not in chat.metadata[0]


async def test_guarded_server_is_called_with_an_id_token(authority: Authority, tmp_path: Path) -> None:
    """`--credentials` asks for one, for the audience that the target names. The server's guard takes it."""
    async with BookstoreServer(authority) as server:
        (tmp_path / "ca.pem").write_bytes(server.ca_pem)
        (tmp_path / "key.json").write_text(json.dumps(await authority.service_account_info()))
        descriptors = tmp_path / "bookstore.pb"
        descriptors.write_bytes(bookstore_descriptors())
        arguments = ["call", server.target, "Bookstore/ListShelves", "--descriptor-set", str(descriptors)]
        arguments += ["--root-certificates", str(tmp_path / "ca.pem")]
        called = await run(*arguments, "--credentials", str(tmp_path / "key.json"))
        other = ["--credentials", str(tmp_path / "key.json"), "--audience", "https://other.example.com"]
        for_another = await run(*arguments, *other)
        refused = await run(*arguments)
    assert for_another.code == 64 + 7
    assert for_another.err.endswith("is not the one that the service expects: pass that one as --audience.\n")
    assert (called.code, called.err) == (0, "")
    assert [shelf["theme"] for shelf in called.json["shelves"]] == ["Fiction", "Fantasy"]
    assert refused.code == 64 + 16
    assert "hint: no token was looked up: " in refused.err


def bookstore_descriptors() -> bytes:
    from google.protobuf import empty_pb2

    from aio_authgrpc.bookstore import bookstore_pb2

    files = FileDescriptorSet()
    for module in (empty_pb2, bookstore_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    return files.SerializeToString()


@pytest.mark.parametrize(
    ("host", "options", "kind"),
    [
        ("bookstore-xyz.a.run.app", {}, IdentityKind.ID),
        ("bookstore-xyz.a.run.app:443", {}, IdentityKind.ID),
        ("pubsub.googleapis.com", {}, IdentityKind.ACCESS),
        ("googleapis.com.example.com", {}, IdentityKind.NONE),
        ("run.app.example.com", {}, IdentityKind.NONE),
        ("localhost:50051", {}, IdentityKind.NONE),
        ("bookstore.example.com", {"audience": "bookstore"}, IdentityKind.ID),
        ("bookstore.example.com", {"scopes": ["email"]}, IdentityKind.ACCESS),
        ("bookstore.example.com", {"impersonate": "a@b"}, IdentityKind.ID),
    ],
)
def test_host_decides_which_token_it_gets(host: str, options: dict[str, Any], kind: IdentityKind) -> None:
    """An ID token for Cloud Run, an access token for Google's APIs, none for a stranger."""
    from aio_authgrpc.cli.identity import chosen_for_host

    named = ConnectionOptions().named(host)
    chosen = chosen_for_host(named, CredentialOptions(**options), CallIdentityOptions())
    assert chosen.kind is kind


def test_a_token_in_the_metadata_is_the_only_one() -> None:
    """`-H 'authorization: …'` takes the place of the identity."""
    from aio_authgrpc.cli.identity import chosen_for_host

    named = ConnectionOptions().named("bookstore-xyz.a.run.app")
    chosen = chosen_for_host(named, CredentialOptions(), CallIdentityOptions(), metadata=["authorization"])
    assert chosen.kind is IdentityKind.NONE
