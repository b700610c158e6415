"""Pass the caller's token on: many requests share one channel, each with its own identity."""

import asyncio

from aio_authgrpc import connect, identity, static_token
from aio_authgrpc.testing import EchoServer, EchoStub


async def handle_request(echo: EchoStub, caller: str) -> None:
    """Pass the caller's token on, as an endpoint of a web service would."""
    with identity(static_token(f"token-of-{caller}")):
        await echo.UnaryUnary(b"hello", timeout=10)


async def main() -> None:
    """Serve three callers at once, then call as the service itself."""
    async with (
        EchoServer() as server,
        connect(
            server.target,
            EchoStub,
            credentials=static_token("token-of-the-service"),
            ssl_credentials=server.ssl_credentials,
        ) as echo,
    ):
        await asyncio.gather(*(handle_request(echo, caller) for caller in ("ann", "bob", "cem")))
        await echo.UnaryUnary(b"hello", timeout=10)
        received = [str(call.values("authorization")[0]) for call in server.calls]
        print(", ".join(sorted(value.rpartition("-")[2] for value in received)))


if __name__ == "__main__":
    asyncio.run(main())
