"""OpenTelemetry's own OTLP exporters, with tokens of this package by their variable for credentials."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aio_authgrpc.testing import Authority, MetadataServer

from .support.collector import Collector

pytestmark = pytest.mark.timeout(60)  # each starts a process

PROGRAM = """
import asyncio, os
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("test")

async def main(name):
    with tracer.start_as_current_span(name):
        pass

"""
# What a process needs of this one's environment to start.
NEEDED = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "PYTHONPATH")


class Process:
    """What an exporter's process finds: a collector, and default credentials."""

    def __init__(self, directory: Path, collector: Collector, provider: str) -> None:
        roots = directory / "roots.pem"
        roots.write_bytes(collector.ca_pem)
        self.environment = {name: os.environ[name] for name in NEEDED if name in os.environ} | {
            "CLOUDSDK_CONFIG": str(directory),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"https://{collector.target}",
            "OTEL_PYTHON_EXPORTER_OTLP_GRPC_CREDENTIAL_PROVIDER": provider,
        }

    async def run(self, program: str) -> str:
        """Run a program, every warning an error; return what it logged and printed."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-W", "error", "-c", PROGRAM + program],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


@pytest.fixture
async def machine(authority: Authority) -> AsyncIterator[MetadataServer]:
    """Give the metadata server of the machine that the exporter runs on."""
    async with MetadataServer(authority) as machine:
        yield machine


@pytest.fixture
async def collector(authority: Authority) -> AsyncIterator[Collector]:
    """Give a collector that takes the authority's tokens."""
    async with Collector(authority) as collector:
        yield collector


@pytest.fixture
def process(machine: MetadataServer, collector: Collector, tmp_path: Path) -> Process:
    """Give a process whose exporters send access tokens of the machine."""
    process = Process(tmp_path, collector, "aio_authgrpc")
    # A name, as in production: looking it up takes a thread.
    host = machine.url.removeprefix("http://").replace("127.0.0.1", "localhost").rstrip("/")
    process.environment |= {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}
    return process


def token_requests(machine: MetadataServer) -> int:
    return sum(request.path.endswith("/token") for request in machine.requests)


async def test_spans_that_are_flushed_after_asyncio_run_arrive(
    process: Process, collector: Collector, machine: MetadataServer, authority: Authority
) -> None:
    """Two exports, two runs of a loop that has ended by then, one token request."""
    program = """
for name in "first", "last":
    asyncio.run(main(name))
    assert provider.force_flush()
provider.shutdown()
"""
    assert await process.run(program) == ""
    assert collector.spans == ["first", "last"]
    assert collector.audiences == [authority.access_token_audience] * 2
    assert collector.refused == 0
    assert token_requests(machine) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")
async def test_spans_of_a_forked_worker_arrive(
    process: Process, collector: Collector, machine: MetadataServer
) -> None:
    """The exporter was made before the fork; each process makes a token request of its own."""
    program = """
child = os.fork()
who = "parent" if child else "worker"
for name in "first", "last":
    asyncio.run(main(f"{name} of the {who}"))
    assert provider.force_flush()
provider.shutdown()
if child:
    assert os.waitpid(child, 0) == (child, 0)
"""
    assert await process.run(program) == ""
    assert sorted(collector.spans) == [
        *("first of the parent", "first of the worker", "last of the parent", "last of the worker")
    ]
    assert collector.refused == 0
    assert token_requests(machine) == 2


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="Python 3.12 starts no thread for exit functions")
async def test_spans_that_an_exit_function_flushes_arrive(process: Process, collector: Collector) -> None:
    """OpenTelemetry shuts its providers down there; the first token is fetched then."""
    assert await process.run("asyncio.run(main('last'))") == ""
    assert collector.spans == ["last"]


async def test_the_exporters_of_a_process_share_a_token(
    process: Process, collector: Collector, machine: MetadataServer
) -> None:
    """Traces and metrics."""
    program = """
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())])
meters.get_meter("test").create_counter("calls").add(1)
asyncio.run(main("span"))
meters.shutdown()
provider.shutdown()
"""
    assert await process.run(program) == ""
    assert collector.spans == ["span"]
    assert "calls" in collector.metrics
    assert token_requests(machine) == 1


async def test_an_exporter_that_is_gone_leaves_no_thread(process: Process) -> None:
    """Nobody can close the plugin of a provider."""
    program = """
import gc, threading
asyncio.run(main("span"))
provider.shutdown()
threads = [thread for thread in threading.enumerate() if thread.name == "aio_authgrpc loop"]
del provider, tracer
gc.collect()
for thread in threads:
    thread.join(30)
print(len(threads), [thread.is_alive() for thread in threads])
"""
    assert await process.run(program) == "1 [False]\n"


@pytest.mark.parametrize("audience", [None, "1234.apps.googleusercontent.com"], ids=["its-host", "iap"])
async def test_a_collector_that_wants_id_tokens_gets_them(
    authority: Authority, tmp_path: Path, audience: str | None
) -> None:
    """For its host, or for the audience of the variable."""
    key_file = tmp_path / "key.json"
    key_file.write_text(json.dumps(await authority.service_account_info()))
    async with Collector(authority, audience=audience) as collector:
        process = Process(tmp_path, collector, "aio_authgrpc_id_token")
        process.environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(key_file)
        if audience is not None:
            process.environment["AIO_AUTHGRPC_OTLP_AUDIENCE"] = audience
        assert await process.run("asyncio.run(main('span'))\nprovider.shutdown()") == ""
        assert collector.audiences == [collector.audience]
        assert collector.spans == ["span"]
    assert authority.token_requests == 1
