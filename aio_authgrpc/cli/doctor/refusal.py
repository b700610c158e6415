"""An RPC that was refused, with everything that came with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from aio_authgrpc.cli.doctor.findings import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An RPC that ended with another status than OK, and everything that came with it.

    Attributes:
        code: The status.
        details: Its text.
        reasons: The `reason` of each `google.rpc.ErrorInfo`, with its metadata.
        challenge: `www-authenticate`; empty without one.
        http_status: The status of an answer that was HTTP and no gRPC; None for gRPC.
        headers: Its headers, in lower case.
        body: The beginning of its body.
        sent_token: Whether a token was sent.
        audiences: Those of the token; empty where it is opaque.
        account: Whose it is.
    """

    code: grpc.StatusCode
    details: str
    reasons: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, "Mapping[str, Any]"])
    challenge: str = ""
    http_status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: str = field(default="", repr=False)
    sent_token: bool
    audiences: Sequence[str] = ()
    account: Account = field(default_factory=Account)

    def first_line(self) -> str:
        """Return its words on one line: of gRPC, and of the page that came instead."""
        text = re.sub(r"<[^>]+>", " ", self.body) if self.body else ""
        return " ".join(f"{self.code.name}: {self.details} {text}".split())[:200]
