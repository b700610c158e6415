"""The layers of the package: the table, and the picture of it in docs/explanation/design.md.

    python scripts/layers.py            writes the picture
    python scripts/layers.py --check    fails where the picture is another

tests/test_layers.py reads the imports of every module against the same table.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "aio_authgrpc"
PAGE = ROOT / "docs" / "explanation" / "design.md"

# From the bottom up. A module imports from its own package, and from the rows below its own.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("_checks",),
    ("_loop",),
    ("_http", "_tls", "_channels"),
    ("_tokens",),
    ("_sources",),
    ("_calls",),
    ("_client",),
    ("__init__", "credentials", "events", "tokens"),
    (
        "__main__",
        "aiohttp",
        "bookstore",
        "cli",
        "fastapi",
        "gapic",
        "httpx",
        "otel",
        "redis",
        "testing",
        "web",
    ),
)
# The last row: integrations. They import the public names, and what is said here beside them. The command
# line cuts secrets out of its output as the errors do, parses targets, and impersonates with the credentials
# that were found.
LEAVES: dict[str, frozenset[str]] = {
    "aiohttp": frozenset({"_checks", "_tokens", "web"}),
    "fastapi": frozenset({"_checks", "web"}),
    "httpx": frozenset({"_tokens"}),
    "otel": frozenset({"_checks"}),
    "redis": frozenset({"_checks", "_loop", "_sources", "_tokens"}),
    "web": frozenset({"_checks"}),
    "bookstore": frozenset(),
    "gapic": frozenset(),
    "testing": frozenset({"bookstore"}),
    "cli": frozenset({"_checks", "_client", "_sources", "bookstore", "testing"}),
    "__main__": frozenset({"cli"}),
}

_BEGIN, _END = "<!-- layers: begin -->", "<!-- layers: end -->"
# Characters: as wide as the text of a page on a screen of 1280 pixels.
_WIDTH = 80
_INDENT = 15


def picture() -> str:
    """Return the rows from the top down, with the sentence and the modules of each package."""
    rule = "─" * _WIDTH
    rows = ["\n".join(_lines(name)) for row in reversed(LAYERS) for name in (*row, "")]
    text = "\n".join(rows).replace("\n\n", f"\n{rule}\n").rstrip("\n─")
    return f"{_BEGIN}\n```text\n{text}\n```\n{_END}"


def _lines(name: str) -> list[str]:
    if not name:
        return [""]
    folder, module = PACKAGE / name, PACKAGE / f"{name}.py"
    if module.exists():
        return _labelled(module.name, _sentence(module))
    names = [path.name.removesuffix(".py") for path in sorted(folder.iterdir()) if _is_room(path)]
    return [*_labelled(f"{name}/", _sentence(folder / "__init__.py")), *_wrapped(names)]


def _labelled(label: str, sentence: str) -> list[str]:
    lines = textwrap.wrap(sentence, _WIDTH - _INDENT)
    return [f"{part:<{_INDENT}}{line}" for part, line in zip_longest((label,), lines, fillvalue="")]


def _is_room(path: Path) -> bool:
    hidden = path.name.startswith("__") or "_pb2" in path.name
    return not hidden and (path.suffix == ".py" or (path / "__init__.py").exists())


def _sentence(module: Path) -> str:
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    return docstring.split("\n\n", maxsplit=1)[0].replace("\n", " ")


def _wrapped(names: list[str]) -> list[str]:
    lines = [" " * (_INDENT - 1)]
    for name in names:
        if len(lines[-1]) + len(name) + 3 > _WIDTH:
            lines.append(" " * (_INDENT - 1))
        lines[-1] += f" {name} ·"
    return [line.removesuffix(" ·") for line in lines]


def main(arguments: list[str]) -> int:
    """Write the picture, or compare it."""
    page = PAGE.read_text()
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    drawn = before + picture() + after
    if arguments == ["--check"]:
        return int(drawn != page)
    PAGE.write_text(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
