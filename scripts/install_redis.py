"""Install a Redis or Valkey server from the system's packages, for tests/redis_store, if there is none.

    python scripts/install_redis.py

It needs apt-get, and root or sudo without a password; elsewhere it says what to install.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# The packages have the names of the programs. Debian 13 has both, Debian 12 the first.
SERVERS = ("redis-server", "valkey-server")
# Two environments of tox may install it at the same time.
LOCK = Path(tempfile.gettempdir()) / "aio_authgrpc-install-redis.lock"


def is_installed() -> bool:
    """Return whether there is a server."""
    return any(map(shutil.which, SERVERS))


def install() -> None:
    """Install the first package that there is."""
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = [*root, "apt-get", "-o", "DPkg::Lock::Timeout=120", "-qq"]
    if shutil.which("apt-get") is None or (root and shutil.which("sudo") is None):
        return
    subprocess.run([*apt, "update"], env=environment, check=False)
    for package in SERVERS:
        if not is_installed():
            command = [*apt, "install", "--yes", "--no-install-recommends", package]
            subprocess.run(command, env=environment, check=False)


def main() -> int:
    """Return 0 where there is a server now."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_installed():
            install()
    if is_installed():
        return 0
    print("There is no Redis and no Valkey: install the package redis-server, or valkey-server.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
