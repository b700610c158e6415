"""The shape of the package: imports point down, leaves stay leaves, everything public is documented."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

import aio_authgrpc

pytestmark = pytest.mark.timeout(60)  # each starts processes

PACKAGE = Path(aio_authgrpc.__file__).parent
SCRIPT = Path(__file__).parents[1] / "scripts" / "layers.py"


def script() -> Any:
    """Return the script that has the table."""
    spec = importlib.util.spec_from_file_location("layers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


layers = script()
LEVEL = {name: level for level, row in enumerate(layers.LAYERS) for name in row}


def room_of(module: str) -> str:
    """Return what a dotted module of the package belongs to: its first part."""
    return module.split(".", maxsplit=1)[0] or "__init__"


def name_of(path: Path) -> str:
    """Return the dotted name of a module below the package; "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path: Path, *, late: bool = True) -> set[str]:
    """Return the modules of the package that a module imports at run time, `TYPE_CHECKING` blocks left out.

    Without `late`, the imports inside of functions are left out, too.
    """
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if not late and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = {name for name in names if name.removeprefix("aio_authgrpc.") in MODULES}
            found |= submodules if submodules == names else {node.module, *submodules}
        pending += ast.iter_child_nodes(node)
    own = (name.removeprefix("aio_authgrpc").lstrip(".") for name in found if name.startswith("aio_authgrpc"))
    return {name for name in own if name in MODULES}


def test_the_table_has_ten_rows_and_every_room_once() -> None:
    """A new room has to be put somewhere."""
    named = [name for row in layers.LAYERS for name in row]
    assert len(layers.LAYERS) == 10
    assert sorted(named) == sorted({room_of(name) for name in MODULES})


@pytest.mark.parametrize("module", MODULES, ids=lambda name: name or "aio_authgrpc")
def test_imports_point_down(module: str) -> None:
    """The reader who follows a call reads each file once, top down."""
    own = room_of(module)
    if own in layers.LEAVES:
        public = {"", *(name for name in LEVEL if not name.startswith("_")), *layers.LEAVES[own], own}
        foreign = {name for name in imported(MODULES[module]) if room_of(name) not in public | {"__init__"}}
        assert foreign == set()
        return
    upward = {
        name
        for name in imported(MODULES[module])
        if room_of(name) != own and LEVEL[room_of(name)] >= LEVEL[own] and name
    }
    assert upward == set()


@pytest.mark.parametrize("module", MODULES, ids=lambda name: name or "aio_authgrpc")
def test_a_leaf_is_imported_by_the_leaves_that_may(module: str) -> None:
    """The testing kit may serve the Bookstore, and the command line both."""
    own = room_of(module)
    leaves = {room_of(name) for name in imported(MODULES[module])} & layers.LEAVES.keys()
    assert leaves <= {own, *layers.LEAVES.get(own, ())}


def test_no_module_imports_itself_by_way_of_another() -> None:
    """A circle of modules cannot be read top down."""
    graph = {name: imported(path, late=False) - {name, ""} for name, path in MODULES.items() if name}
    assert graph.keys() <= set(TopologicalSorter(graph).static_order())  # a circle raises `CycleError`


def test_a_guard_sees_an_import_that_points_up(tmp_path: Path) -> None:
    """The tests above can fail."""
    path = tmp_path / "token.py"
    path.write_text(
        "def f():\n    from aio_authgrpc._client import connect\n    import aio_authgrpc.testing.clock\n"
    )
    assert imported(path) == {"_client.connect", "testing.clock"}
    assert imported(path, late=False) == set()
    with pytest.raises(CycleError):
        list(TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


def test_the_picture_in_the_design_page_is_the_table() -> None:
    """`python scripts/layers.py` draws it anew."""
    assert layers.main(["--check"]) == 0


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
