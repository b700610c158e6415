"""The place where failures are staged: endpoints that repeat, files with secrets, and who listens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aio_authgrpc import AiohttpRequest, TokenSource
from aio_authgrpc.testing import AwsMetadataServer, EchoServer, SubjectTokenServer
from aio_authgrpc.tokens import TokenCache

from .repeater import Repeater


@dataclass(kw_only=True)
class Lab:
    """Everything that a failure needs.

    Attributes:
        repeater: What Google's host names lead to.
        private_key: Of a service account, PEM; `ec_key` is one of an elliptic curve.
        events: What the caches have told.
        errors: What objects keep as their last error.
    """

    directory: Path
    repeater: Repeater
    http: AiohttpRequest
    aws: AwsMetadataServer
    subject_tokens: SubjectTokenServer
    echo_server: EchoServer
    private_key: str
    ec_key: str
    ca_path: Path
    events: list[object] = field(default_factory=list)
    errors: list[BaseException | None] = field(default_factory=list)

    def file(self, name: str, content: str | bytes | Mapping[str, object]) -> Path:
        """Write a file."""
        path = self.directory / name
        text = json.dumps(content) if isinstance(content, Mapping) else content
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    async def token(self, source: TokenSource) -> object:
        """Ask a source for a token, as a channel does."""
        async with TokenCache(source, audience="https://host", request=self.http, attempts=1) as cache:
            cache.subscribe(self.events.append)
            return await cache.get()
