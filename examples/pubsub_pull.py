"""Pull Pub/Sub messages on a stream with asyncio, and open another stream whenever it ends.

Server and tokens are here. To pull from Google's, leave out all arguments of `client` but the class.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.api_core.exceptions import ServerError
from google.pubsub_v1 import SubscriberAsyncClient
from google.pubsub_v1.types import StreamingPullRequest, StreamingPullResponse

from aio_authgrpc import gapic
from aio_authgrpc.testing import GuardedServer, ScriptedTokens


async def pull(client: SubscriberAsyncClient, name: str, handle: Callable[[bytes], Awaitable[None]]) -> None:
    """Handle messages until this is cancelled, and acknowledge each."""
    pause = 0.1  # seconds

    async def requests(handled: asyncio.Queue[str | None]) -> AsyncIterator[StreamingPullRequest]:
        yield StreamingPullRequest(subscription=name, stream_ack_deadline_seconds=60)
        while (ack_id := await handled.get()) is not None:
            yield StreamingPullRequest(ack_ids=[ack_id])

    while True:
        handled: asyncio.Queue[str | None] = asyncio.Queue()  # of this stream: the old one's still waits
        try:
            # Without the client's deadline and retry: they are for a stream that is to end.
            stream = client.streaming_pull(requests=requests(handled), timeout=None, retry=None)
            async for response in await stream:
                for received in response.received_messages:
                    await handle(received.message.data)
                    handled.put_nowait(received.ack_id)
                pause = 0.1
        except ServerError as error:  # Pub/Sub ends every stream after some minutes
            print(f"The stream ended: {error.message}")
        finally:
            handled.put_nowait(None)
        await asyncio.sleep(pause)
        pause = min(2 * pause, 30.0)


async def answer(requests: Any, context: Any) -> AsyncIterator[StreamingPullResponse]:
    """Send a message on each stream, and end the stream when that is acknowledged."""
    async for request in requests:
        if request.ack_ids:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the message was acknowledged")
        yield StreamingPullResponse(received_messages=[{"ack_id": "1", "message": {"data": b"an order"}}])


def add_to_server(answer: Any, server: grpc.aio.Server) -> None:
    """Add the service, as the generated function of a stub's module does."""
    to_bytes, from_bytes = StreamingPullResponse.serialize, StreamingPullRequest.deserialize
    methods = {"StreamingPull": grpc.stream_stream_rpc_method_handler(answer, from_bytes, to_bytes)}
    service = grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", methods)
    server.add_generic_rpc_handlers((service,))


async def main() -> None:
    """Pull three messages, on three streams."""
    messages: asyncio.Queue[bytes] = asyncio.Queue()
    async with GuardedServer(None, add_to_server, answer) as server, asyncio.TaskGroup() as group:
        here: Any = {"ssl_credentials": server.ssl_credentials, "credentials": ScriptedTokens()}
        options = {"api_endpoint": server.target}
        async with gapic.client(SubscriberAsyncClient, client_options=options, **here) as client:
            pulling = group.create_task(pull(client, "projects/p/subscriptions/orders", messages.put))
            print(*[await messages.get() for _ in range(3)])
            pulling.cancel()


if __name__ == "__main__":
    asyncio.run(main())
