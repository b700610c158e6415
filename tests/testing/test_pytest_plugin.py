"""The pytest plugin, as a user's suite gets it: each test runs pytest in a process of its own."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Mapping

import pytest

pytestmark = pytest.mark.timeout(60)  # each starts processes

ROOT = pathlib.Path(__file__).parents[2]

SCOPES = ("function", "class", "module", "package", "session")

FIXTURES = """
    import asyncio
    import os

    import pytest
    import pytest_asyncio

    from aio_authgrpc.bookstore import BookstoreStub, Empty
    from aio_authgrpc.testing import EchoStub

    async def test_bookstore(authgrpc_authority, authgrpc_bookstore_server):
        async with authgrpc_bookstore_server.connect(BookstoreStub) as bookstore:
            assert await bookstore.ListShelves(Empty(), timeout=10)
        assert authgrpc_authority.token_requests == 1

    async def test_echo(authgrpc_echo_server, authgrpc_clock):
        authgrpc_clock.advance(1)
        async with authgrpc_echo_server.connect(EchoStub) as echo:
            assert await echo.UnaryUnary(b"a", timeout=10) == b"a"

    async def test_google_cloud(authgrpc_google_cloud):
        assert os.environ["HTTPS_PROXY"] == authgrpc_google_cloud.proxy.url
        url = "http://metadata.google.internal/computeMetadata/v1/project/project-id"
        async with authgrpc_google_cloud.session() as session:
            async with session.get(url, proxy=authgrpc_google_cloud.proxy.url) as response:
                assert response.status == 403
"""

ON_EVERY_LOOP = """
    import pytest
    import pytest_asyncio

    from aio_authgrpc.bookstore import BookstoreStub, Empty

    @pytest_asyncio.fixture(loop_scope="{scope}")
    async def bookstore(authgrpc_authority, authgrpc_bookstore_server):
        await authgrpc_authority.service_account_info()
        async with authgrpc_bookstore_server.connect(BookstoreStub) as bookstore:
            yield bookstore

    @pytest.mark.asyncio(loop_scope="{scope}")
    class TestLoop:
        async def test_servers_are_on_the_loop_of_the_test(self, bookstore):
            assert await bookstore.ListShelves(Empty(), timeout=10)

        async def test_next_test_has_servers_of_its_own(self, bookstore, authgrpc_bookstore_server):
            assert await bookstore.ListShelves(Empty(), timeout=10)
            assert authgrpc_bookstore_server.calls == 1
"""

WITH_ANYIO = """
    import pytest

    from aio_authgrpc.bookstore import BookstoreStub, Empty

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend():
        return {backend}

    @pytest.fixture
    async def bookstore(authgrpc_bookstore_server):
        async with authgrpc_bookstore_server.connect(BookstoreStub) as bookstore:
            yield bookstore

    async def test_bookstore(bookstore):
        assert await bookstore.ListShelves(Empty(), timeout=10)
"""


@pytest.fixture
def installed(tmp_path: pathlib.Path) -> pathlib.Path:
    """Give a folder with the entry points of pyproject.toml, whether this checkout is installed or not."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    folder = tmp_path / "site" / "the_plugin-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: the-plugin\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {module}" for name, module in found.items())
    (folder / "entry_points.txt").write_text(f"[pytest11]\n{lines}\n")
    return folder.parent


@pytest.fixture
def suite(tmp_path: pathlib.Path) -> pathlib.Path:
    """Give an empty folder for a suite."""
    folder = tmp_path / "suite"
    folder.mkdir()
    return folder


def write(suite: pathlib.Path, files: Mapping[str, str]) -> None:
    for name, source in files.items():
        (suite / name).write_text(textwrap.dedent(source))


def run(
    *arguments: str, cwd: pathlib.Path, installed: pathlib.Path | None = None
) -> subprocess.CompletedProcess[str]:
    path = [str(installed)] if installed else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment)


# Importing hypothesis takes half of the time of such a suite.
QUIET = ("-m", "pytest", "-pno:hypothesispytest", "-pno:cacheprovider", "-q")


def run_pytest(
    suite: pathlib.Path, installed: pathlib.Path, *options: str, scope: str = "function"
) -> subprocess.CompletedProcess[str]:
    common = ("-Werror", f"-oasyncio_default_fixture_loop_scope={scope}")
    return run(*QUIET, *common, *options, cwd=suite, installed=installed)


def assert_passed(result: subprocess.CompletedProcess[str], number: int) -> None:
    summary = result.stdout.rstrip().rpartition("\n")[2]
    assert summary.startswith(f"{number} passed in"), result.stdout + result.stderr


# Under each plugin that runs coroutines


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_fixtures_work_in_either_mode_of_pytest_asyncio(
    suite: pathlib.Path, installed: pathlib.Path, mode: str
) -> None:
    """Without a line in a conftest.py, and with every warning an error."""
    marked = FIXTURES.replace("async def test", "@pytest.mark.asyncio\n    async def test")
    write(suite, {"test_fixtures.py": marked if mode == "strict" else FIXTURES})
    assert_passed(run_pytest(suite, installed, f"-oasyncio_mode={mode}"), 3)


@pytest.mark.parametrize("default", ["function", "session"])
def test_fixtures_are_on_the_loop_of_the_test(
    suite: pathlib.Path, installed: pathlib.Path, default: str
) -> None:
    """Of whatever scope it is, and whatever the default for fixtures."""
    write(suite, {f"test_{scope}.py": ON_EVERY_LOOP.format(scope=scope) for scope in SCOPES})
    assert_passed(run_pytest(suite, installed, scope=default), 2 * len(SCOPES))


def test_fixtures_follow_the_default_scope_of_tests(suite: pathlib.Path, installed: pathlib.Path) -> None:
    """A test without the argument has a loop, too."""
    write(suite, {"test_fixtures.py": FIXTURES})
    options = ("-oasyncio_mode=auto", "-oasyncio_default_test_loop_scope=session")
    assert_passed(run_pytest(suite, installed, *options), 3)


@pytest.mark.parametrize(
    ("backend", "others"),
    [
        pytest.param('"asyncio"', (), id="beside-pytest-asyncio"),
        pytest.param('("asyncio", {"debug": True})', ("-pno:asyncio",), id="alone"),
    ],
)
def test_fixtures_work_under_anyio_s_plugin(
    suite: pathlib.Path, installed: pathlib.Path, backend: str, others: tuple[str, ...]
) -> None:
    """On the loop of anyio's test, also where pytest-asyncio is installed."""
    write(suite, {"test_anyio.py": WITH_ANYIO.replace("{backend}", backend)})
    if others:
        result = run(*QUIET, "-Werror", *others, cwd=suite, installed=installed)
    else:
        result = run_pytest(suite, installed)
    assert_passed(result, 1)


def test_another_loop_than_asyncio_s_is_refused(suite: pathlib.Path, installed: pathlib.Path) -> None:
    """grpc.aio needs asyncio; the error says what to write."""
    source = """
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "trio"

        def test_it(anyio_backend, authgrpc_authority):
            pass
    """
    write(suite, {"test_anyio.py": source})
    result = run_pytest(suite, installed)
    assert "authgrpc_authority needs asyncio: let the fixture anyio_backend return it" in result.stdout


def test_without_a_plugin_for_coroutines_the_error_names_one(
    suite: pathlib.Path, installed: pathlib.Path
) -> None:
    """The fixtures need a loop."""
    write(suite, {"test_sync.py": "def test_it(authgrpc_authority): pass\n"})
    result = run(*QUIET, "-pno:asyncio", cwd=suite, installed=installed)
    assert "authgrpc_authority needs an event loop: install pytest-asyncio" in result.stdout


def test_fixtures_work_in_the_processes_of_xdist(suite: pathlib.Path, installed: pathlib.Path) -> None:
    """Each process has servers of its own."""
    write(suite, {"test_one.py": FIXTURES, "test_two.py": FIXTURES})
    assert_passed(run_pytest(suite, installed, "-n2", "-oasyncio_mode=auto"), 6)


# At pytest's start


def test_nothing_is_imported_until_a_fixture_is_used(suite: pathlib.Path, installed: pathlib.Path) -> None:
    """Neither grpc nor the package: a suite that has other tests pays nothing."""
    source = """
        import sys

        def test_modules():
            assert "pytest_aio_authgrpc" in sys.modules
            assert not {"aio_authgrpc", "grpc", "aiohttp", "google.auth"} & set(sys.modules)
    """
    write(suite, {"test_modules.py": source})
    assert_passed(run_pytest(suite, installed), 1)


def test_names_begin_with_the_package_s(suite: pathlib.Path, installed: pathlib.Path) -> None:
    """A suite that has fixtures, markers and options of its own meets none of ours."""
    own = """
        import pytest

        @pytest.fixture
        def authority():
            return 1

        def test_own(authority):
            assert authority == 1
    """
    write(suite, {"test_own.py": own})
    assert_passed(run_pytest(suite, installed), 1)
    shown = run("-m", "pytest", "--fixtures", "-v", cwd=suite, installed=installed).stdout
    ours = [line.split()[0] for line in shown.splitlines() if "pytest_aio_authgrpc.py" in line]
    assert ours
    assert [name for name in ours if not name.startswith(("authgrpc_", "_authgrpc_"))] == []


@pytest.mark.parametrize("named", ["pytest_aio_authgrpc", "aio_authgrpc.testing.pytest_plugin"])
def test_plugin_may_be_named_beside_its_entry_point(
    suite: pathlib.Path, installed: pathlib.Path, named: str
) -> None:
    """In a conftest.py, or by `-p`; the second brings the short names."""
    write(suite, {"conftest.py": f'pytest_plugins = ["{named}"]\n', "test_fixtures.py": FIXTURES})
    assert_passed(run_pytest(suite, installed, "-ppytest_aio_authgrpc", "-oasyncio_mode=auto"), 3)


def test_short_names_are_the_same_objects(suite: pathlib.Path, installed: pathlib.Path) -> None:
    """For a suite that opts in."""
    source = """
        async def test_it(
            authority, bookstore_server, echo_server, fake_clock, google_cloud,
            authgrpc_authority, authgrpc_bookstore_server, authgrpc_echo_server, authgrpc_clock,
            authgrpc_google_cloud,
        ):
            assert authority is authgrpc_authority
            assert bookstore_server is authgrpc_bookstore_server
            assert echo_server is authgrpc_echo_server
            assert fake_clock is authgrpc_clock
            assert google_cloud is authgrpc_google_cloud
    """
    conftest = 'pytest_plugins = ["aio_authgrpc.testing.pytest_plugin"]\n'
    write(suite, {"conftest.py": conftest, "test_names.py": source})
    assert_passed(run_pytest(suite, installed, "-oasyncio_mode=auto"), 1)


# The marker

BLOCKING = """
    import time

    import pytest

    import aio_authgrpc
    from aio_authgrpc.testing import EchoStub, ScriptedTokens

    class Impolite:
        def __init__(self, careful):
            self.careful = careful

        async def fetch(self, request):
            try:
                time.sleep(0.001)
            except Exception:
                if not self.careful:
                    raise
            return aio_authgrpc.Token("a-token", expires_at=request.time + 3600)

    async def call(server, source):
        async with server.connect(EchoStub, credentials=source) as echo:
            assert await echo.UnaryUnary(b"a", timeout=10) == b"a"

    @pytest.mark.authgrpc_blockbuster
    async def test_blocks(authgrpc_echo_server):
        await call(authgrpc_echo_server, Impolite(careful=False))

    @pytest.mark.authgrpc_blockbuster
    async def test_blocks_and_hides_it(authgrpc_echo_server):
        await call(authgrpc_echo_server, Impolite(careful=True))

    @pytest.mark.authgrpc_blockbuster
    async def test_expects_an_error(authgrpc_echo_server):
        with pytest.raises(aio_authgrpc.errors.TokenRefusedError):
            await call(authgrpc_echo_server, Impolite(careful=False))

    @pytest.mark.authgrpc_blockbuster
    async def test_does_not_block(authgrpc_echo_server):
        await call(authgrpc_echo_server, aio_authgrpc.static_token("a-token"))

    @pytest.mark.authgrpc_blockbuster
    async def test_logs_a_failure(authgrpc_echo_server):
        source = ScriptedTokens()
        source.fail(aio_authgrpc.errors.TokenRefusedError("no"))
        with pytest.raises(aio_authgrpc.errors.TokenRefusedError):
            await call(authgrpc_echo_server, source)

    @pytest.mark.authgrpc_blockbuster
    async def test_blocks_itself():
        time.sleep(0.001)

    @pytest.mark.authgrpc_blockbuster(__name__)
    async def test_is_a_module_to_watch():
        time.sleep(0.001)

    async def test_is_not_marked(authgrpc_echo_server):
        await call(authgrpc_echo_server, Impolite(careful=False))
"""


def outcomes(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    found = re.findall(r"^(PASSED|FAILED|ERROR) test_blocking.py::(\w+)", result.stdout, re.MULTILINE)
    return {name: outcome for outcome, name in found}


def test_marker_fails_a_test_whose_credentials_block_the_loop(
    suite: pathlib.Path, installed: pathlib.Path
) -> None:
    """Also if somebody caught blockbuster's error. Only what aio_authgrpc calls counts, and named modules."""
    write(suite, {"test_blocking.py": BLOCKING})
    result = run_pytest(suite, installed, "-oasyncio_mode=auto", "-rA", "--strict-markers")
    assert outcomes(result) == {
        "test_blocks": "FAILED",
        "test_blocks_and_hides_it": "FAILED",
        "test_expects_an_error": "FAILED",
        "test_does_not_block": "PASSED",
        "test_logs_a_failure": "PASSED",
        "test_blocks_itself": "PASSED",
        "test_is_a_module_to_watch": "FAILED",
        "test_is_not_marked": "PASSED",
    }, result.stdout


def test_failure_names_the_call_and_its_line(suite: pathlib.Path, installed: pathlib.Path) -> None:
    """So that it is found."""
    write(suite, {"test_blocking.py": BLOCKING})
    result = run_pytest(suite, installed, "-oasyncio_mode=auto", "-k", "hides")
    assert "Blocking call to time.sleep on the event loop:" in result.stdout
    assert "in fetch\n    time.sleep(0.001)" in result.stdout


def test_blocking_in_a_fixture_fails_its_phase(suite: pathlib.Path, installed: pathlib.Path) -> None:
    """A fixture may fetch the token, or close what fetched it."""
    source = (
        BLOCKING.partition("    @pytest.mark")[0]
        + """
    @pytest.fixture
    async def echo(authgrpc_echo_server):
        await call(authgrpc_echo_server, Impolite(careful=True))
        yield

    @pytest.fixture
    async def late(authgrpc_echo_server):
        yield
        await call(authgrpc_echo_server, Impolite(careful=True))

    @pytest.mark.authgrpc_blockbuster
    async def test_set_up(echo): pass

    @pytest.mark.authgrpc_blockbuster
    async def test_tear_down(late): pass
    """
    )
    write(suite, {"test_blocking.py": source})
    result = run_pytest(suite, installed, "-oasyncio_mode=auto")
    assert "1 passed, 2 errors" in result.stdout, result.stdout


def test_marker_without_blockbuster_names_it(suite: pathlib.Path, installed: pathlib.Path) -> None:
    """It is not among the requirements of the extra."""
    without = """
        import importlib.util

        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name: None if name == "blockbuster" else find(name)
    """
    write(suite, {"conftest.py": without, "test_blocking.py": BLOCKING})
    result = run_pytest(suite, installed, "-oasyncio_mode=auto")
    assert "authgrpc_blockbuster needs blockbuster: pip install blockbuster" in result.stderr + result.stdout


# Without pytest, and without the extra


def test_fakes_import_without_pytest(tmp_path: pathlib.Path) -> None:
    """Only the plugin needs pytest."""
    program = "import sys, aio_authgrpc.testing; assert not {'pytest', 'pytest_asyncio'} & set(sys.modules)"
    assert run("-c", program, cwd=tmp_path).stderr == ""


@pytest.mark.parametrize("missing", ["jwt", "trustme"])
def test_missing_extra_is_named(tmp_path: pathlib.Path, missing: str) -> None:
    """Without the extra, the import says how to get it."""
    program = f"import sys; sys.modules[{missing!r}] = None; import aio_authgrpc.testing"
    assert "pip install 'aio-authgrpc[testing]'" in run("-c", program, cwd=tmp_path).stderr
