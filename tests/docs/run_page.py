"""Run the Python of one Markdown page, block by block, in the directory that is current.

    python -W error run_page.py page.md

What stands between the fences is not changed. The info string says what a block is:

    python                      is run, in the namespace of the page; `await` may stand at its top level
    python title="name.py"      is written to that file before anything is run; if the name begins with
                                `test_`, pytest runs it after the page's other blocks
    text title="Output"         is what the block before it has to print

Other languages are for reading. A block that imports a module of `OPTIONAL` which is not installed is left
out, and a line of the output says so.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib.util
import inspect
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

# What pages import that neither the package nor its tests need.
OPTIONAL = frozenset(
    {
        *(
            "a2a",
            "connectrpc",
            "envoy.service.discovery.v3",
            "fastapi",
            "gcloud.aio.auth",
            "google.cloud.firestore",
            "google.cloud.firestore_v1",
            "google.cloud.secretmanager_v1",
            "grpclib",
            "httpx",
            "opentelemetry",
        ),
        *("prometheus_client", "pyqwest", "qdrant_client", "redis"),
    }
)

# What the system's packages bring.
REDIS_SERVERS = ("redis-server", "valkey-server")

_OPENING = re.compile(r"(?P<indent> *)```(?P<language>\S*)(?:.*?title=\"(?P<title>[^\"]+)\")?.*")

# No settings of a folder above, and nothing written but what the page writes.
_PYTEST = (
    *("-m", "pytest", "-q", "-Werror", "-pno:cacheprovider", "-c", os.devnull, "--rootdir=."),
    "-pno:hypothesispytest",  # importing it takes longer than most pages
    "-ppytest_aio_authgrpc",  # loaded already, if what is installed has the entry point
)
# The page with the settings of pytest, to which the others link.
_SETTINGS_PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "how-to" / "testing.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What stands between two fences.

    Attributes:
        language: The first word after the opening fence; empty where there is none.
        title: Its `title`; empty where it has none.
        line: The number of its first line.
        text: The lines, without the fence's indentation.
    """

    language: str
    title: str
    line: int
    text: str


def blocks(page: pathlib.Path) -> Iterator[Block]:
    """Return the fenced blocks of a page, in order."""
    lines = iter(enumerate(page.read_text().splitlines(), start=1))
    for number, line in lines:
        opening = _OPENING.fullmatch(line)
        if opening is None:
            continue
        indent, text = len(opening["indent"]), ""
        for _, inner in lines:
            if inner.strip() == "```":
                break
            text += inner[indent:] + "\n"
        yield Block(language=opening["language"], title=opening["title"] or "", line=number + 1, text=text)


def run(page: pathlib.Path) -> int:
    """Write the page's files, run its other blocks and then its tests; return the exit code."""
    found = list(blocks(page))
    files = [block for block in found if block.language == "python" and block.title]
    for block in files:
        pathlib.Path(block.title).write_text(block.text)
    namespace: dict[str, object] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for block, following in zip(found, [*found[1:], None], strict=True):
            if block.language == "python" and not block.title and not _left_out(block):
                printed = _execute(block, page, namespace, runner)
                if following is not None and (following.language, following.title) == ("text", "Output"):
                    assert printed == following.text, f"{page}:{following.line}: it printed\n{printed}"
    tests = [block.title for block in files if block.title.startswith("test_")]
    left_out = [block.title for block in files if _left_out(block)]
    if not tests or left_out:
        return 0
    # A process of its own: pytest wants to import first what it rewrites.
    return subprocess.run([sys.executable, *_PYTEST, *_settings(), *tests], check=False).returncode


def _settings() -> list[str]:
    """Return the settings that the pages tell their readers to make, as options of pytest."""
    (block,) = (block for block in blocks(_SETTINGS_PAGE) if block.language == "toml")
    settings = tomllib.loads(block.text)["tool"]["pytest"]["ini_options"]
    return [f"-o{name}={value}" for name, value in settings.items()]


def is_installed(module: str) -> bool:
    """Return whether a module, and the packages that it is in, can be imported."""
    parts = module.split(".")
    packages = (".".join(parts[:number]) for number in range(1, len(parts) + 1))
    return all(importlib.util.find_spec(name) is not None for name in packages)


def _left_out(block: Block) -> bool:
    """Return whether a block needs what is not installed, and say so."""
    missing = sorted(name for name in _imports(block) & OPTIONAL if not is_installed(name))
    if "RedisServer" in block.text and not any(map(shutil.which, REDIS_SERVERS)):
        missing.append(REDIS_SERVERS[0])
    if missing:
        print(f"Left out, for want of {', '.join(missing)}: line {block.line}")  # noqa: T201 - for the test
    return bool(missing)


def _imports(block: Block) -> set[str]:
    """Return the names of the modules that a block imports, and of the packages that they are in."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {
        ".".join(parts[:n]) for parts in (name.split(".") for name in names) for n in range(1, len(parts) + 1)
    }


def _execute(block: Block, page: pathlib.Path, namespace: dict[str, object], runner: asyncio.Runner) -> str:
    # Blank lines before it, so that a traceback names the page's own lines.
    source = "\n" * (block.line - 1) + block.text
    code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        coroutine = eval(code, namespace)
        if inspect.iscoroutine(coroutine):
            runner.run(coroutine)
    return printed.getvalue()


if __name__ == "__main__":
    # As for a script of the reader's: the modules of the page are imported from where it is run.
    sys.path.insert(0, str(pathlib.Path.cwd()))
    sys.exit(run(pathlib.Path(sys.argv[1])))
