"""The shape of the package: imports point down, leaves stay leaves, everything public is documented."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import aio_authgrpc

PACKAGE = Path(aio_authgrpc.__file__).parent

# From the bottom up; a module may import those of its own layer and below.
LAYERS = [
    {"errors"},
    {"_checks", "_loop"},
    {"_http", "_tls", "_channels"},
    {"_tokens"},
    {"_sources"},
    {"_calls"},
    {"_client"},
    {"credentials", "events", "tokens"},
]
LEAVES = {"bookstore", "testing", "cli", "__main__"}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def part(module: str) -> str:
    """Return what a dotted module of the package belongs to: its first part."""
    return module.split(".", maxsplit=1)[0]


def modules() -> list[tuple[str, Path]]:
    names = ((path.relative_to(PACKAGE).with_suffix(""), path) for path in PACKAGE.rglob("*.py"))
    return [
        (".".join(name.parts).removesuffix(".__init__"), path)
        for name, path in names
        if name.name != "__init__" or name.parts[:-1]
    ]


def imports(path: Path) -> set[str]:
    """Return the parts of the package that a module imports at run time, `TYPE_CHECKING` blocks left out."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {part(name.removeprefix("aio_authgrpc.")) for name in found if name.startswith("aio_authgrpc.")}


@pytest.mark.parametrize(
    ("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_imports_point_down(module: str, path: Path) -> None:
    """Whoever follows a call reads each file once, top down."""
    own = part(module)
    if own in LEAVES:
        return  # leaves import what they like of the core; the next test sees that nothing imports them
    upward = {
        name
        for name in imports(path)
        if LEVEL[name] > LEVEL[own] or (LEVEL[name] == LEVEL[own] and name != own)
    }
    assert upward == set()


@pytest.mark.parametrize(
    ("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_nothing_imports_a_leaf(module: str, path: Path) -> None:
    """They are the users' side; testing may serve the Bookstore, and the command line both."""
    allowed = {"testing": {"testing", "bookstore"}, "cli": LEAVES, "bookstore": {"bookstore"}}
    allowed["__main__"] = {"cli"}
    assert imports(path) & LEAVES <= allowed.get(part(module), set())


def test_a_guard_sees_an_import_that_points_up(tmp_path: Path) -> None:
    """The two tests above can fail."""
    path = tmp_path / "token.py"
    path.write_text(
        "def f():\n    from aio_authgrpc._client import connect\n    import aio_authgrpc.testing.clock\n"
    )
    assert imports(path) == {"_client", "testing"}


def test_importing_the_package_loads_no_framework_no_command_line_and_no_fakes() -> None:
    """Nor what takes long: anyio's backend, cryptography, requests."""
    heavy = [
        "fastapi",
        "starlette",
        "typer",
        "click",
        "rich",
        "pytest",
        "trustme",
        "jwt",
        "requests",
        "cryptography",
    ]
    heavy += ["anyio._backends._asyncio", "google.oauth2.service_account", "google.auth.crypt"]
    heavy += ["aio_authgrpc.bookstore", "aio_authgrpc.testing", "aio_authgrpc.cli"]
    code = f"import sys, aio_authgrpc; print([name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_everything_public_is_documented() -> None:
    """Classes, functions and methods that users see."""
    missing = []
    modules = [aio_authgrpc, aio_authgrpc.credentials, aio_authgrpc.events, aio_authgrpc.tokens]
    for name, thing in [(name, getattr(place, name)) for place in modules for name in place.__all__]:
        members = vars(thing).items() if inspect.isclass(thing) else ()
        documented = inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing)
        public = [(name, thing)] * documented + [  # an alias of types has its docstring beside it
            (f"{name}.{member}", value)
            for member, value in members
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
        ]
        missing += [label for label, value in public if not inspect.getdoc(value)]
    assert missing == []


def test_the_error_tree_in_the_docstring_is_the_tree() -> None:
    """Each error with its code, in the place where it stands."""
    text = inspect.getdoc(aio_authgrpc.errors) or ""
    for line in text.splitlines():
        name = line.lstrip("│├└─ ").split(" ")[0]
        kind = getattr(aio_authgrpc.errors, name, None)
        if (
            inspect.isclass(kind)
            and issubclass(kind, aio_authgrpc.AuthRpcError)
            and "──" in line
            and kind.status.name != "UNKNOWN"
        ):
            assert kind.status.name in line
    named = {name for name in vars(aio_authgrpc.errors) if name.endswith("Error")}
    assert all(name in text for name in named)


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_module_prints(path: Path) -> None:
    """A library logs or raises; the command line alone talks."""
    if "cli" in path.parts:
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
