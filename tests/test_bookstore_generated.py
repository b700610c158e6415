"""The Bookstore's generated modules are what its .proto file says."""

from __future__ import annotations

import hashlib
import importlib.util
import pathlib
import subprocess
import sys
from types import ModuleType

import pytest
from google.protobuf import descriptor_pb2

from aio_authgrpc.bookstore import bookstore_pb2

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROTO = ROOT / "aio_authgrpc" / "bookstore" / "bookstore.proto"

needs_protoc = pytest.mark.skipif(
    importlib.util.find_spec("grpc_tools") is None,
    reason="needs grpcio-tools, from the dependency group `generate`",
)


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_bookstore", ROOT / "scripts" / "generate_bookstore.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_protoc
def test_proto_compiled_again_gives_the_checked_in_descriptor(tmp_path: pathlib.Path) -> None:
    """What protoc reads in the .proto file is what bookstore_pb2 holds."""
    output = tmp_path / "descriptors"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO.parent}", f"-o{output}", PROTO.name]
    subprocess.run(command, check=True)
    [descriptor] = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file
    for message in descriptor.message_type:
        for field in message.field:
            field.ClearField("json_name")  # protoc leaves it out of Python modules
    assert descriptor == descriptor_pb2.FileDescriptorProto.FromString(bookstore_pb2.DESCRIPTOR.serialized_pb)


def test_modules_generated_again_are_the_checked_in_ones() -> None:
    """The generator, in the versions of the `generate` group, writes what is there already."""
    generator = load_generator()
    wrong = generator.wrong_versions()
    if wrong:
        pytest.skip(f"needs the dependency group `generate`: {'; '.join(wrong)}")
    assert generator.differences() == ""


def test_descriptor_equals_the_one_of_the_tutorials() -> None:
    """The bookstore_pb2 of the tutorials can be imported beside ours: both describe the same file."""
    digest = hashlib.sha256(bookstore_pb2.DESCRIPTOR.serialized_pb).hexdigest()
    assert digest == "0a9b85af91781aa67f0f6a0cb4008c0f047b8963878a291ff940f32a613f2047"
