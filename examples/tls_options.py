"""Choose TLS in the four ways of google-auth's `secure_authorized_channel`, against servers of this machine.

On Google Cloud, leave out the certificate authorities and `become_a_workload()`.
"""

import asyncio
import json
import os
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import grpc

from aio_authgrpc import AuthorizedChannel, SslCredentials, secure_authorized_channel, static_token
from aio_authgrpc.testing import EchoServer, EchoStub

CREDENTIALS = static_token("a-token")  # or any credential of google-auth


async def call(
    option: str, opening: AbstractAsyncContextManager[AuthorizedChannel], server: EchoServer
) -> None:
    """Open the channel, call, and print the client certificate that the server saw."""
    async with opening as channel:
        await EchoStub(channel).UnaryUnary(b"hello", timeout=10)
    print(f"{option}: {', '.join(server.calls[-1].client_names) or 'no client certificate'}")


async def options(regular: EchoServer, mutual: EchoServer) -> None:
    """Open a channel in each of the four ways."""
    tls = grpc.ssl_channel_credentials(root_certificates=regular.ca_pem)
    opening = secure_authorized_channel(CREDENTIALS, None, regular.target, ssl_credentials=tls)
    await call("1, ssl_credentials", opening, regular)

    def my_client_cert_callback() -> tuple[bytes, bytes]:
        return mutual.issue_client_certificate("callback@example.com")

    opening = secure_authorized_channel(CREDENTIALS, None, mutual.target, None, my_client_cert_callback)
    await call("2, client_cert_callback", opening, mutual)

    credentials = await SslCredentials()
    server = mutual if credentials.is_mtls else regular
    opening = secure_authorized_channel(CREDENTIALS, None, server.target, ssl_credentials=credentials)
    await call("3, SslCredentials", opening, server)

    opening = secure_authorized_channel(CREDENTIALS, None, mutual.target)
    await call("4, neither", opening, mutual)


def become_a_workload(directory: Path, server: EchoServer) -> None:
    """Give this process the certificate that a workload on Google Cloud would have."""
    chain, key = server.issue_client_certificate("workload@example.com")
    paths = {"cert_path": str(directory / "cert.pem"), "key_path": str(directory / "key.pem")}
    Path(paths["cert_path"]).write_bytes(chain)
    Path(paths["key_path"]).write_bytes(key)
    (directory / "config.json").write_text(json.dumps({"cert_configs": {"workload": paths}}))
    (directory / "roots.pem").write_bytes(server.ca_pem)
    os.environ["GOOGLE_API_CERTIFICATE_CONFIG"] = str(directory / "config.json")
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(directory / "roots.pem")


async def main() -> None:
    """Start both servers."""
    async with EchoServer() as regular, EchoServer(mutual_tls=True) as mutual:
        with tempfile.TemporaryDirectory() as directory:
            become_a_workload(Path(directory), mutual)
            await options(regular, mutual)


if __name__ == "__main__":
    asyncio.run(main())
