"""tox finds the Pythons of version managers, and says at the end which environments were not run.

pyenv, asdf and mise put shims on PATH that run only the versions that are selected, so tox would take the
others for missing.
"""

from __future__ import annotations

import atexit
import importlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import cast

from tox.config.cli.parser import ToxParser
from tox.config.sets import ConfigSet
from tox.plugin import impl
from tox.session.state import State
from tox.tox_env.errors import Skip
from tox.tox_env.python.api import Python

_EXECUTABLE = re.compile(r"python3\.(\d+)t?")
_OLDEST = 11
_RUNNING = {"legacy", "run", "r", "run-parallel", "p"}


def _installed() -> list[str]:
    """Return the executables of every Python 3.11 and later in the usual places, the newest first."""
    data = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    places = [
        Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions",
        Path(os.environ.get("ASDF_DATA_DIR") or "~/.asdf").expanduser() / "installs" / "python",
        Path(os.environ.get("MISE_DATA_DIR") or data / "mise") / "installs" / "python",
        data / "uv" / "python",
        Path("/opt"),
        Path("/opt/python"),
    ]
    paths = [path for place in places for path in place.glob("*/bin/python3.*")]
    found = [
        (int(match[1]), str(path))
        for path in paths
        if (match := _EXECUTABLE.fullmatch(path.name))
        and int(match[1]) >= _OLDEST
        and os.access(path, os.X_OK)
    ]
    return [path for _, path in sorted(found, reverse=True)]


@impl
def tox_add_option(parser: ToxParser) -> None:
    """Add these Pythons to those on PATH, as `--discover` would; it overrides them. Name uv, beside tox."""
    os.environ.setdefault("TOX_DISCOVER", ";".join(_installed()))
    with suppress(ImportError):  # then tox makes an environment that has it, and runs itself again there
        os.environ.setdefault("UV", importlib.import_module("uv").find_uv_bin())


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    """Report the environments that were not run after everything else has been printed."""
    if state.conf.options.command in _RUNNING:
        atexit.register(_report_not_run, state)


def _report_not_run(state: State) -> None:
    for name in state.envs.iter(only_active=True):
        try:
            cast("Python", state.envs[name]).base_python  # noqa: B018 - it raises where there is none
        except Skip as reason:
            print(f"  {name}: not run, {reason}")
