"""Envoy as a process: it always ends with its owner, and leaves no process and no file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from aio_authgrpc.testing import Authority, BookstoreServer, EnvoyProxy

# Opens an Envoy, prints its id, and waits to be killed.
OWNER = """
import asyncio, sys
from aio_authgrpc.testing import Authority, BookstoreServer, EnvoyProxy

async def main():
    async with Authority() as authority, BookstoreServer(tls=False) as server:
        async with EnvoyProxy(authority, server, directory=sys.argv[1]) as proxy:
            print(proxy.pid, flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def running(directory: pathlib.Path) -> list[int]:
    """Return the processes whose command line names a file in the directory."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{directory}/".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def left_in(directory: pathlib.Path) -> list[object]:
    """Return the remaining processes and files."""
    return [*running(directory), *directory.iterdir()]


MakeProxy = Callable[[], EnvoyProxy]


@pytest.fixture
async def make_proxy(authority: Authority, tmp_path: pathlib.Path) -> AsyncIterator[MakeProxy]:
    """Give a function that makes an unopened Envoy with its files in `tmp_path`."""
    async with BookstoreServer(tls=False) as server:
        yield lambda: EnvoyProxy(authority, server, directory=tmp_path)


@linux_only
async def test_envoy_has_a_process_group_of_its_own(make_proxy: MakeProxy, tmp_path: pathlib.Path) -> None:
    """A Ctrl-C of the terminal does not reach it."""
    async with make_proxy() as proxy:
        assert running(tmp_path) == [proxy.pid]
        assert os.getpgid(proxy.pid) == proxy.pid != os.getpgid(0)


async def test_closing_leaves_nothing_behind(make_proxy: MakeProxy, tmp_path: pathlib.Path) -> None:
    """No process and no file, also after a second close."""
    async with make_proxy() as proxy:
        assert left_in(tmp_path) != []
    await proxy.aclose()
    assert left_in(tmp_path) == []


async def test_private_keys_are_for_the_user_alone(make_proxy: MakeProxy, tmp_path: pathlib.Path) -> None:
    """The configuration contains them."""
    async with make_proxy():
        [configuration] = tmp_path.glob("*/envoy.json")
        assert "PRIVATE KEY" in configuration.read_text()
        assert (configuration.stat().st_mode & 0o777, configuration.parent.stat().st_mode & 0o777) == (
            0o600,
            0o700,
        )


async def test_closed_proxy_says_so(make_proxy: MakeProxy) -> None:
    """Its targets are gone; its log can still be read."""
    async with make_proxy() as proxy:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        _ = proxy.tls_target
    with pytest.raises(RuntimeError, match="not open"):
        await proxy.counts()
    assert "caught ENVOY_SIGTERM" in proxy.log


async def test_error_inside_ends_it(make_proxy: MakeProxy, tmp_path: pathlib.Path) -> None:
    """A test that fails leaves nothing behind."""
    with pytest.raises(ZeroDivisionError):
        async with make_proxy():
            raise ZeroDivisionError
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 13, 21, 34, 200])
async def test_cancelled_opening_leaves_nothing_behind(
    authority: Authority, make_proxy: MakeProxy, tmp_path: pathlib.Path, steps: int
) -> None:
    """At any point of the opening, which cannot finish without keys."""
    with authority.hold(path="/jwks"):
        opening = asyncio.create_task(make_proxy().__aenter__())
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    assert left_in(tmp_path) == []


async def test_opening_that_is_cancelled_while_envoy_starts_ends_it(
    authority: Authority, make_proxy: MakeProxy, tmp_path: pathlib.Path
) -> None:
    """The process runs but does not listen yet: it waits for the keys."""
    with authority.hold(path="/jwks") as gate:
        opening = asyncio.create_task(make_proxy().__aenter__())
        await gate.arrived.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    assert left_in(tmp_path) == []


async def test_envoy_that_takes_no_signal_is_killed(make_proxy: MakeProxy, tmp_path: pathlib.Path) -> None:
    """Closing is bounded: a stopped process does not handle SIGTERM."""
    async with make_proxy() as proxy:
        os.kill(proxy.pid, signal.SIGSTOP)
    assert left_in(tmp_path) == []


async def test_envoy_that_died_can_be_closed(make_proxy: MakeProxy, tmp_path: pathlib.Path) -> None:
    """Questions to it raise in the meantime."""
    async with make_proxy() as proxy:
        os.kill(proxy.pid, signal.SIGKILL)
        with pytest.raises(aiohttp.ClientError):
            while True:  # until the kernel has closed its sockets
                await proxy.counts()
    assert left_in(tmp_path) == []


@linux_only
def test_envoy_ends_when_its_owner_is_killed(tmp_path: pathlib.Path) -> None:
    """Not even SIGKILL leaves one running."""
    command = [sys.executable, "-P", "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        envoy = os.pidfd_open(int(owner.stdout.readline()))
        owner.kill()
    ended, _, _ = select.select([envoy], [], [], 10)
    os.close(envoy)
    assert ended == [envoy]
    assert running(tmp_path) == []


async def test_two_of_them_do_not_disturb_each_other(make_proxy: MakeProxy) -> None:
    """Each has ports of its own."""
    async with make_proxy() as one, make_proxy() as other:
        targets = {
            *(one.h2c_target, one.tls_target, one.mutual_tls_target),
            *(other.h2c_target, other.tls_target, other.mutual_tls_target),
        }
    assert len(targets) == 6


async def test_log_shows_no_key(make_proxy: MakeProxy) -> None:
    """Test reports show the log."""
    async with make_proxy() as proxy:
        assert "starting main dispatch loop" in proxy.log
        assert "PRIVATE KEY" not in proxy.log
