"""A worker that outlives its tokens: the service ends its streams, and it opens another one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from aio_authgrpc import Token, token_source
from aio_authgrpc.testing import Authority, FakeClock, GuardedServer, endpoint_user_info

# A new stream may help after these.
RECONNECT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.DEADLINE_EXCEEDED)
clock = FakeClock()  # makes hours pass at once
waiting = [b"job 1", b"job 2", b"job 3", b"job 4", b"job 5"]


async def work(stream_of_jobs: Any) -> None:
    """Handle jobs until the service has no more, and send the result of each."""
    pause = 0.1  # seconds
    while True:
        results: asyncio.Queue[bytes | None] = asyncio.Queue()
        results.put_nowait(b"ready")
        try:
            async for job in stream_of_jobs(_queued(results), timeout=6 * 3600):
                print("Handled", job.decode())
                clock.advance(1800)  # it took half an hour
                results.put_nowait(b"result of " + job)
                pause = 0.1
            return  # the service has no more jobs
        except grpc.aio.AioRpcError as error:
            if error.code() not in RECONNECT or not getattr(error, "retryable", True):
                raise
            print(f"The stream ended: {error.code().name}: {error.details()}")
        finally:
            results.put_nowait(None)  # or grpc.aio's task waits for another request
        await asyncio.sleep(pause)
        pause = min(2 * pause, 30.0)


async def _queued(results: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (result := await results.get()) is not None:
        yield result


async def send_jobs(results: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Be the service: send a job after each result, as long as the token of the stream is good."""
    claims: Any = endpoint_user_info()
    async for _ in results:
        if clock.time() >= claims["exp"]:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "The token of the stream has ended")
        if not waiting:
            return
        yield waiting.pop(0)


async def main() -> None:
    """Handle five jobs, with tokens that live for one hour."""
    method: Any = grpc.stream_stream_rpc_method_handler(send_jobs)
    jobs = [grpc.method_handlers_generic_handler("Jobs", {"Work": method})]

    async def fetch() -> Token:
        return Token(authority.issue_access_token(), expires_at=clock.time() + 3600)

    async with (
        Authority(clock=clock) as authority,
        GuardedServer(authority, lambda it, to: to.add_generic_rpc_handlers(it), jobs, clock=clock) as server,
        server.connect(credentials=token_source(fetch), clock=clock) as channel,
    ):
        await work(channel.stream_stream("/Jobs/Work"))
        print(server.calls, "streams")


if __name__ == "__main__":
    asyncio.run(main())
