"""The process behind `identity_stall.py`: every endpoint that credentials talk to, on 127.0.0.1.

Ordered about by `server_process.OrderedProcess`.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from server_process import answer_orders

from aio_authgrpc.testing import Authority, CredentialFiles, GoogleCloud


class Orders:
    """Carries out what the other process orders, one method a command."""

    def __init__(self, cloud: GoogleCloud, directory: Path) -> None:
        self._cloud = cloud
        self._directory = directory
        self._servers = (
            cloud.authority,
            cloud.metadata,
            cloud.apis,
            cloud.aws,
            cloud.subject_tokens,
            cloud.gdch,
        )

    async def describe(self) -> object:
        """Write a credential file of each type; tell where they are, and what leads a process here."""
        infos = await CredentialFiles(self._cloud, self._directory).every_type()
        await self._cloud.service_account_info(self._cloud.metadata.email)  # the IAM API can sign for it
        paths = {name: self._directory / f"{name}.json" for name in infos}
        for name, info in infos.items():
            paths[name].write_text(json.dumps(info))
        environment = self._cloud.environment(self._directory) | {
            "GCE_METADATA_HOST": self._cloud.metadata.host,
            "GCE_METADATA_IP": self._cloud.metadata.host,
            "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1",
            "CLOUDSDK_CONFIG": str(self._directory / "gcloud"),
        }
        return {"environment": environment, "paths": {name: str(path) for name, path in paths.items()}}

    async def delay(self, seconds: float) -> object:
        """Answer every request after `seconds`, whatever was ordered before."""
        for server in self._servers:
            server.behave()
            server.delay(seconds, path="*")
        return None

    async def delay_metadata(self, seconds: float) -> object:
        """Let the metadata server alone answer after `seconds`."""
        self._cloud.metadata.behave()
        self._cloud.metadata.delay(seconds, path="*")
        return None

    async def hang_metadata(self) -> object:
        """Let the metadata server take requests and never answer."""
        self._cloud.metadata.behave()
        self._cloud.metadata.hold(path="*")
        return None


async def serve() -> None:
    """Serve until standard input ends."""
    with tempfile.TemporaryDirectory() as directory:
        async with Authority() as authority, GoogleCloud(authority) as cloud:
            await answer_orders(Orders(cloud, Path(directory)))


if __name__ == "__main__":
    asyncio.run(serve())
