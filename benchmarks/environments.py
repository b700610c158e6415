"""Virtual environments with this package and a chosen Python and grpcio, made once and kept."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Ignored by git, as every `.venv*`.
_KEPT = ROOT / ".venv-versions"
NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python (such as `3.11`) and a grpcio (a version, or `newest`) to run a script with."""

    python: str
    grpcio: str

    @property
    def name(self) -> str:
        """What it is called, as a part of a path as well."""
        return f"python-{self.python}-grpcio-{self.grpcio}"

    def make(self) -> Path | None:
        """Return its interpreter, installed at the first time; None where this machine lacks the Python."""
        found = interpreter_of(self.python)
        if found is None:
            return None
        directory = _KEPT / self.name
        made = directory / "bin" / "python"
        if not (directory / "complete").exists():
            subprocess.run([found, "-m", "venv", "--clear", directory], check=True)
            grpcio = "grpcio" if self.grpcio == NEWEST else f"grpcio=={self.grpcio}"
            install = [made, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*install, "--editable", f"{ROOT}[cli]", grpcio], check=True)
            (directory / "complete").touch()
        return made


def interpreter_of(version: str) -> str | None:
    """Return a Python of this minor version: on the path, or one of pyenv's."""
    for name in (f"python{version}", *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))):
        path = shutil.which(name)
        if path is not None and _version_of(path) == version:
            return path
    return None


def _version_of(path: str) -> str:
    told = "import sys; print('%d.%d' % sys.version_info[:2])"
    ran = subprocess.run([path, "-c", told], capture_output=True, text=True, check=False)
    return ran.stdout.strip()  # empty for a shim of pyenv's that leads nowhere


def lowest_grpcio() -> str:
    """Return the lowest grpcio that the package admits."""
    lowest = (ROOT / "tests" / "lowest.txt").read_text()
    found = re.search(r"^grpcio==(\S+)$", lowest, re.MULTILINE)
    if found is None:
        raise RuntimeError("tests/lowest.txt has no line for grpcio")
    return found[1]


def admitted_grpcio() -> list[str]:
    """Return the lowest grpcio that the package admits, and the last patch of each minor version since."""
    asked = [sys.executable, "-m", "pip", "index", "versions", "grpcio"]
    ran = subprocess.run(asked, capture_output=True, text=True, check=True)
    found = re.search(r"Available versions: (.*)", ran.stdout)
    if found is None:
        raise RuntimeError("pip names no versions of grpcio")
    lowest = lowest_grpcio()
    last: dict[tuple[int, ...], str] = {}
    for version in found[1].split(", "):  # the newest first
        if _as_numbers(version) > _as_numbers(lowest):
            last.setdefault(_as_numbers(version)[:2], version)
    return [lowest, *sorted(last.values(), key=_as_numbers)]


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
