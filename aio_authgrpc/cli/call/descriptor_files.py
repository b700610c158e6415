"""Services from files: a descriptor set that protoc wrote, or a .proto that is compiled now."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError

from aio_authgrpc.cli.call.schema import Schema, schema_of
from aio_authgrpc.errors import ConfigurationError


def descriptor_set(path: Path, *, field: str = "--descriptor-set") -> Schema:
    """Return the schema of a file that `protoc --include_imports --descriptor_set_out` wrote.

    Raises:
        ConfigurationError: It cannot be read, or lacks a file that another one imports.
    """
    try:
        content = FileDescriptorSet.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise ConfigurationError(
            f"{path} holds no descriptor set ({type(error).__name__}).",
            field=field,
            hint="protoc --include_imports --descriptor_set_out=FILE writes one.",
        ) from error
    return schema_of([file.SerializeToString() for file in content.file], field=field)


async def compiled(protos: Sequence[Path], imports: Sequence[Path]) -> Schema:
    """Return the schema of .proto files, which protoc compiles.

    Raises:
        ConfigurationError: There is no protoc, or it refuses the files.
    """
    with tempfile.TemporaryDirectory() as directory:
        written = Path(directory) / "descriptors.pb"
        # protoc wants each file below one of the import paths, and the first that fits.
        folders = dict.fromkeys([*imports, *(proto.parent for proto in protos)])
        process = await asyncio.create_subprocess_exec(
            *_protoc(),
            *(f"--proto_path={folder}" for folder in folders),
            "--include_imports",
            f"--descriptor_set_out={written}",
            *map(str, protos),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, complaint = await process.communicate()
        if process.returncode != 0:
            text = " ".join(complaint.decode(errors="replace").split())
            raise ConfigurationError(
                f"protoc refuses it: {text}", field="--proto", hint="--import-path adds a folder of imports."
            )
        return descriptor_set(written, field="--proto")


def _protoc() -> list[str]:
    if importlib.util.find_spec("grpc_tools") is not None:
        # -P: a folder `google` in the working directory must not be taken for the package.
        return [sys.executable, "-P", "-m", "grpc_tools.protoc", *_own_protos()]
    found = shutil.which("protoc")
    if found is None:
        raise ConfigurationError(
            "there is no protoc to compile it.",
            field="--proto",
            hint="pip install grpcio-tools, or pass --descriptor-set FILE.",
        )
    return [found]


def _own_protos() -> list[str]:
    """Return the import path of google/protobuf/*.proto, which protoc's own command adds by itself."""
    spec = importlib.util.find_spec("grpc_tools")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return [f"--proto_path={Path(spec.submodule_search_locations[0]) / '_proto'}"]
