"""Call methods of all four arities; each call carries the token once."""

import asyncio
from collections.abc import AsyncIterator

from aio_authgrpc import connect, static_token
from aio_authgrpc.testing import EchoServer, EchoStub


async def requests() -> AsyncIterator[bytes]:
    """Send two requests, the second a little later."""
    yield b"first "
    await asyncio.sleep(0.01)
    yield b"second"


async def main() -> None:
    """Start an echo server, and call its four methods."""
    async with (
        EchoServer(repeat=2) as server,
        connect(
            server.target,
            EchoStub,
            credentials=static_token("a-token"),
            ssl_credentials=server.ssl_credentials,
        ) as echo,
    ):
        print("one request, one response:", await echo.UnaryUnary(b"hello", timeout=10))

        async for response in echo.UnaryStream(b"hello", timeout=10):
            print("one request, many responses:", response)

        print("many requests, one response:", await echo.StreamUnary(requests(), timeout=10))

        call = echo.StreamStream(timeout=10)
        for request in (b"ping", b"pong"):
            await call.write(request)
            print("many requests, many responses:", await call.read())
        await call.done_writing()

        sent = [len(call.values("authorization")) for call in server.calls]
        print("tokens in each call:", sent)


if __name__ == "__main__":
    asyncio.run(main())
