"""Make 1 000 calls of google-cloud clients with every log switched on, and count the tokens in the logs.

Interceptors log all that they are given. As the argument says, they are appended to the channel (`above`), as
libraries do it, or passed to `connect(interceptors=...)` (`below`), where they see the token.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio

import aio_authgrpc.gapic
from aio_authgrpc import identity, service_account, static_token
from aio_authgrpc.testing import Authority
from tests.contact.fake_cloud import FakeCloud
from tests.contact.services import LOOKUP, PULL, RPCS, RUN_QUERY, WRITE_OBJECT

LOGS = io.StringIO()
OTHER_TOKEN = "ya29.the-token-of-another"
CALLS = 1000
BATCH = 25

log = logging.getLogger("a library")


class Dump:
    """Logs all that an interceptor sees."""

    async def dump(self, continuation: Callable[..., Awaitable[Any]], details: Any, request: Any) -> Any:
        log.debug("before: %r %r %r", details, list(details.metadata or ()), request)
        call = await continuation(details, request)
        log.debug("call: %r %s", call, call)
        call.add_done_callback(lambda ended: log.debug("done: %r %s", ended, ended))
        initial = await call.initial_metadata()
        shown = {key: str(getattr(call, key)) for key in dir(call) if not key.startswith("_")}
        log.debug("initial metadata: %r %r", list(initial), shown)
        return call


class DumpUnaryUnary(Dump, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary = Dump.dump


class DumpUnaryStream(Dump, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream = Dump.dump


class DumpStreamUnary(Dump, grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary = Dump.dump


class DumpStreamStream(Dump, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream = Dump.dump


DUMPS = {
    "unary_unary": DumpUnaryUnary(),
    "unary_stream": DumpUnaryStream(),
    "stream_unary": DumpStreamUnary(),
    "stream_stream": DumpStreamStream(),
}


async def run(cloud: FakeCloud, source: Any, place: str) -> None:
    """Make a quarter of the calls with each arity, half of them as another, in another header."""
    for use in (LOOKUP, RUN_QUERY, WRITE_OBJECT, PULL):
        async with aio_authgrpc.gapic.client(
            use.client,
            credentials=source,
            client_options={"api_endpoint": cloud.target},
            ssl_credentials=cloud.ssl_credentials,
            interceptors=list(DUMPS.values()) if place == "below" else [],
        ) as client:
            if place == "above":
                for arity, dump in DUMPS.items():
                    getattr(client.transport.grpc_channel, f"_{arity}_interceptors").append(dump)
            for _ in range(CALLS // 8 // BATCH):
                await asyncio.gather(*(use.run(client) for _ in range(BATCH)))
                with identity(static_token(OTHER_TOKEN), header="x-another-token"):
                    await asyncio.gather(*(use.run(client) for _ in range(BATCH)))


async def main(place: str) -> None:
    """Print how many calls were made, how many lines were logged by both, and how many tokens are in them."""
    # google's handler is made with the first client, and writes here.
    os.environ["GOOGLE_SDK_PYTHON_LOGGING_SCOPE"] = "google"
    sys.stderr = LOGS
    logging.basicConfig(level=logging.DEBUG, stream=LOGS)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    async with Authority() as authority, FakeCloud(authority, RPCS) as cloud:
        source = service_account(await authority.service_account_info(), scopes=["a-scope"])
        await run(cloud, source, place)
        tokens = {str(value).removeprefix("Bearer ") for values in cloud.bearers() for value in values}
        others = sum(bool(call.values("x-another-token")) for call in cloud.recorded)
    text = LOGS.getvalue()
    lines = [
        f"{len(cloud.recorded)} calls, {others} of them as another",
        f"{text.count('before: ')} logged by interceptors, {text.count('Sending request')} by the clients",
        f"{sum(text.count(token) for token in [*tokens, OTHER_TOKEN])} tokens",
    ]
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
