"""Exchange the certificate files of a mutual TLS connection during calls; none of the calls fails."""

import asyncio
import tempfile
from pathlib import Path

from aio_authgrpc import SslCredentials, client_certificate_files, connect, static_token
from aio_authgrpc.testing import EchoServer, EchoStub


def write_certificate(server: EchoServer, directory: Path, name: str) -> None:
    """Write a new certificate, as cert-manager, a SPIFFE helper or an administrator does."""
    chain, key = server.issue_client_certificate(name)
    (directory / "client.pem").write_bytes(chain)
    (directory / "client.key").write_bytes(key)


async def exchange(server: EchoServer, directory: Path) -> None:
    """Call continuously until the server has seen the second certificate."""
    (directory / "ca.pem").write_bytes(server.ca_pem)
    write_certificate(server, directory, "first@example.com")
    async with connect(
        server.target,
        EchoStub,
        credentials=static_token("a-token"),
        ssl_credentials=SslCredentials(
            root_certificates=directory / "ca.pem",
            client_certificate=client_certificate_files(directory / "client.pem", directory / "client.key"),
            refresh_interval=0.05,  # for the example; the default is 600
        ),
    ) as stub:
        await stub.UnaryUnary(b"hello", timeout=10)
        write_certificate(server, directory, "second@example.com")
        while server.calls[-1].client_names != ("second@example.com",):
            await asyncio.gather(*(stub.UnaryUnary(b"hello", timeout=10) for _ in range(10)))
    seen = dict.fromkeys(name for call in server.calls for name in call.client_names)
    print(", then ".join(seen))
    print(f"{len({call.peer for call in server.calls})} connections")


async def main() -> None:
    """Start a server that demands a client certificate."""
    async with EchoServer(mutual_tls=True) as server:
        with tempfile.TemporaryDirectory() as directory:
            await exchange(server, Path(directory))


if __name__ == "__main__":
    asyncio.run(main())
