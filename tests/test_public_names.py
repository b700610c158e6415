"""The public face: few names on top, imported at their first use, and modules that only re-export."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import aio_authgrpc

pytestmark = pytest.mark.timeout(60)  # each starts processes

FACE = Path(aio_authgrpc.__file__)
MODULES = ["credentials", "events", "tokens"]  # errors.py has its classes itself


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_there_are_few_names_on_top() -> None:
    """A reader takes them in at one glance."""
    assert len(aio_authgrpc.__all__) <= 30


def test_the_names_are_the_same_for_users_type_checkers_and_the_interpreter() -> None:
    """The imports, most of them under TYPE_CHECKING, and the table that `__getattr__` reads."""
    body = ast.parse(FACE.read_text()).body
    typed = next(node for node in body if isinstance(node, ast.If))
    for_type_checkers = {
        alias.name: (node.module or "").removeprefix("aio_authgrpc").removeprefix(".")
        for node in (*body, *typed.body)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name  # what type checkers take for public
    }
    modules = dict.fromkeys(aio_authgrpc._PUBLIC_MODULES, "")
    assert for_type_checkers == aio_authgrpc._MODULES | modules
    assert sorted(aio_authgrpc._MODULES) == aio_authgrpc.__all__


@pytest.mark.parametrize("name", sorted(aio_authgrpc._MODULES))
def test_a_name_on_top_is_imported_at_its_first_use(name: str) -> None:
    """And is the object of the module that makes it."""
    module = importlib.import_module(f"aio_authgrpc.{aio_authgrpc._MODULES[name]}")
    assert getattr(aio_authgrpc, name) is getattr(module, name)
    assert name in dir(aio_authgrpc)


def test_the_first_use_of_a_name_loads_no_other_package() -> None:
    """It may be in a coroutine: what takes long was loaded by `import aio_authgrpc`."""
    code = """
import sys, aio_authgrpc
before = set(sys.modules)
for name in aio_authgrpc.__all__:
    getattr(aio_authgrpc, name)
print(*(sys.modules.keys() - before))
"""
    others = [name for name in run(code).split() if not name.startswith("aio_authgrpc.")]
    assert [name for name in others if name.partition(".")[0] not in sys.stdlib_module_names] == []


def test_modules_are_attributes_without_an_import_of_their_own() -> None:
    """`import aio_authgrpc` is enough for `except aio_authgrpc.errors.TokenRefusedError`."""
    code = (
        "import aio_authgrpc as a; print(a.errors.TokenRefusedError.__name__, a.tokens.TokenCache.__name__)"
    )
    assert run(code) == "TokenRefusedError TokenCache"


def test_a_misspelt_name_is_an_attribute_error() -> None:
    """Also for `from aio_authgrpc import ...`, as an ImportError."""
    with pytest.raises(AttributeError, match="module 'aio_authgrpc' has no attribute 'conn'"):
        aio_authgrpc.conn  # noqa: B018 - the access is what raises
    with pytest.raises(ImportError, match="conn"):
        from aio_authgrpc import conn  # noqa: F401 - the import is what raises


def public_modules() -> list[ModuleType]:
    return [importlib.import_module(f"aio_authgrpc.{name}") for name in MODULES]


@pytest.mark.parametrize("module", public_modules(), ids=MODULES)
def test_a_public_module_only_re_exports(module: ModuleType) -> None:
    """One sentence, imports, and `__all__` in order."""
    body = ast.parse(Path(module.__file__ or "").read_text()).body
    assert [type(node) for node in body if not isinstance(node, ast.ImportFrom)] == [ast.Expr, ast.Assign]
    imported = {alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(imported) == sorted(module.__all__)
