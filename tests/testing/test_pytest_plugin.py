"""The fixtures, as a user's suite gets them."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import textwrap

import pytest

SUITE = {
    "conftest.py": 'pytest_plugins = ["aio_authgrpc.testing.pytest_plugin"]\n',
    "test_fixtures.py": """
        import os

        import grpc.aio

        from aio_authgrpc.bookstore import BookstoreStub, Empty
        from aio_authgrpc.testing import EchoStub

        async def test_bookstore(authority, bookstore_server):
            metadata = (("authorization", f"Bearer {authority.issue_access_token()}"),)
            credentials = bookstore_server.ssl_credentials
            async with grpc.aio.secure_channel(bookstore_server.target, credentials) as channel:
                assert await BookstoreStub(channel).ListShelves(Empty(), metadata=metadata)

        async def test_echo(echo_server, fake_clock):
            fake_clock.advance(1)
            async with grpc.aio.secure_channel(echo_server.target, echo_server.ssl_credentials) as channel:
                assert await EchoStub(channel).UnaryUnary(b"a") == b"a"

        async def test_google_cloud(google_cloud):
            assert os.environ["HTTPS_PROXY"] == google_cloud.proxy.url
            url = "http://metadata.google.internal/computeMetadata/v1/project/project-id"
            async with google_cloud.session() as session:
                async with session.get(url, proxy=google_cloud.proxy.url) as response:
                    assert response.status == 403
    """,
}

pytestmark = pytest.mark.timeout(60)  # each starts processes

OPTIONS = ("-Werror", "-oasyncio_default_fixture_loop_scope=function", "-pno:cacheprovider", "-q")


def run(*arguments: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_fixtures_work_in_either_mode(tmp_path: pathlib.Path, mode: str) -> None:
    """A suite that opts in gets open servers, in both modes of pytest-asyncio."""
    for name, source in SUITE.items():
        (tmp_path / name).write_text(textwrap.dedent(source))
    if mode == "strict":
        marked = "import pytest\npytestmark = pytest.mark.asyncio\n" + textwrap.dedent(
            SUITE["test_fixtures.py"]
        )
        (tmp_path / "test_fixtures.py").write_text(marked)
    result = run("-m", "pytest", *OPTIONS, f"-oasyncio_mode={mode}", cwd=tmp_path)
    assert "3 passed" in result.stdout, result.stdout + result.stderr


def test_fakes_import_without_pytest(tmp_path: pathlib.Path) -> None:
    """Only the plugin needs pytest."""
    program = "import sys, aio_authgrpc.testing; assert not {'pytest', 'pytest_asyncio'} & set(sys.modules)"
    assert run("-c", program, cwd=tmp_path).stderr == ""


@pytest.mark.parametrize("missing", ["jwt", "trustme"])
def test_missing_extra_is_named(tmp_path: pathlib.Path, missing: str) -> None:
    """Without the extra, the import says how to get it."""
    program = f"import sys; sys.modules[{missing!r}] = None; import aio_authgrpc.testing"
    assert "pip install 'aio-authgrpc[testing]'" in run("-c", program, cwd=tmp_path).stderr
