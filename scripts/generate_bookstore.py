"""Generate the Python modules of `aio_authgrpc/bookstore/bookstore.proto`, or check that they are current.

    python scripts/generate_bookstore.py            writes the four modules
    python scripts/generate_bookstore.py --check    writes nothing; fails and shows what differs

It needs the `generate` dependency group of pyproject.toml, in exactly its versions: those of grpcio-tools
become the lower bounds of grpcio and protobuf that the generated modules insist on.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "aio_authgrpc" / "bookstore"
MODULES = ("bookstore_pb2.py", "bookstore_pb2.pyi", "bookstore_pb2_grpc.py", "bookstore_pb2_grpc.pyi")

# protoc is run from inside the package, because the file's name in the descriptor has to be the tutorial's.
# It then takes the modules for top-level ones.
_TOP_LEVEL_IMPORT = re.compile(r"^import bookstore_pb2 as (\w+)$", re.MULTILINE)


def wrong_versions() -> list[str]:
    """Return how the installed generators differ from the `generate` group; empty when they do not."""
    group: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["generate"]
    wrong: list[str] = []
    for requirement in group:
        name, _, wanted = requirement.partition("==")
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "absent"
        if installed != wanted:
            wrong.append(f"{name} is {installed}, not {wanted}")
    return wrong


def generate(target: pathlib.Path) -> None:
    """Write the four modules into the directory `target`."""
    scripts = pathlib.Path(sys.executable).parent
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={PACKAGE}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out=quiet:{target}",
            # only_async: one stub class, whose methods are those of grpc.aio whatever it is passed to.
            f"--mypy_grpc_out=quiet,only_async:{target}",
            "bookstore.proto",
        ],
        check=True,
    )
    for module in MODULES:
        path = target / module
        source = _TOP_LEVEL_IMPORT.sub(
            r"from aio_authgrpc.bookstore import bookstore_pb2 as \1", path.read_text()
        )
        path.write_text(source)


def differences() -> str:
    """Return what generating the modules now would change, as a unified diff; empty when nothing would."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        generate(pathlib.Path(directory))
        for module in MODULES:
            current = PACKAGE / module
            old = current.read_text().splitlines(keepends=True) if current.exists() else []
            new = (pathlib.Path(directory) / module).read_text().splitlines(keepends=True)
            lines += difflib.unified_diff(old, new, f"checked in/{module}", f"generated/{module}")
    return "".join(lines)


def main() -> str | None:
    """Run the command line; return the message to fail with, if any."""
    parser = argparse.ArgumentParser(description="Generate the Bookstore's modules from its .proto file.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when the modules are not current"
    )
    arguments = parser.parse_args()
    if wrong := wrong_versions():
        return f"{'; '.join(wrong)}: install the `generate` dependency group of pyproject.toml"
    if arguments.check:
        return differences() or None
    generate(PACKAGE)
    return None


if __name__ == "__main__":
    sys.exit(main())
