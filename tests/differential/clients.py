"""The two clients: google-auth with requests in a thread, and this package."""

from __future__ import annotations

import asyncio
import datetime
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import google.auth.credentials
import google.auth.transport.requests
import requests

from aio_authgrpc import AiohttpRequest, TokenRequest
from aio_authgrpc._sources.credentials import as_token_source

from .audit import Trail, watch
from .configurations import Configuration, World
from .normalization import normalized, normalized_headers


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The requests that the endpoints received, and the result.

    Attributes:
        requests: Every request, normalized.
        headers: The metadata that the credential puts on a call, normalized.
        expires_at: When the token expires by itself; None for never.
        earliest: The wall time at the start.
        latest: The wall time at the end.
        trail: The audit events of the refresh; not of making the credential.
    """

    requests: list[Mapping[str, Any]]
    headers: Mapping[str, Any]
    expires_at: float | None
    earliest: float
    latest: float
    trail: Trail

    @property
    def expiry(self) -> float | str | None:
        """The expiry, if an endpoint or a fixed clock set it; otherwise its distance from the refresh."""
        if self.expires_at is None:
            return None
        # Signed tokens are dated in whole seconds.
        in_an_hour = int(self.earliest) <= self.expires_at - 3600 <= self.latest
        return "an hour after the refresh" if in_an_hour else self.expires_at


async def refreshed_by_google_auth(world: World, configuration: Configuration) -> Outcome:
    """Refresh a credential as google-auth's users do, in a thread."""
    headers: dict[str, str] = {}
    with requests.Session() as session:
        request = google.auth.transport.requests.Request(session)
        credentials = await asyncio.to_thread(configuration.make, world, request)
        session.close()  # opened by its construction; it can be used again
        world.cloud.requests.clear()
        earliest = time.time()
        with watch() as trail:
            if not isinstance(credentials, google.auth.credentials.AnonymousCredentials):
                await asyncio.to_thread(credentials.refresh, request)
            await boundaries_looked_up()
        credentials.apply(headers)
    return Outcome(
        requests=recorded(world),
        headers=normalized_headers(headers),
        expires_at=None if credentials.expiry is None else timestamp(credentials.expiry),
        earliest=earliest,
        latest=time.time(),
        trail=trail,
    )


async def fetched_by_us(world: World, configuration: Configuration, http: AiohttpRequest) -> Outcome:
    """Fetch a token of such a credential with this package."""
    token_request = TokenRequest(http=http, audience=configuration.audience, time=world.clock.time())
    with requests.Session() as session:
        request = google.auth.transport.requests.Request(session)
        credentials = await asyncio.to_thread(configuration.make, world, request)
        session.close()  # opened by its construction; it can be used again
        world.cloud.requests.clear()
        earliest = time.time()
        with watch() as trail:
            token = await as_token_source(credentials).fetch(token_request)
            await boundaries_looked_up()
    return Outcome(
        requests=recorded(world),
        headers=normalized_headers(dict(token.as_metadata("authorization"))),
        expires_at=token.expires_at,
        earliest=earliest,
        latest=time.time(),
        trail=trail,
    )


async def boundaries_looked_up() -> None:
    """Wait for the threads in which google-auth looks regional access boundaries up."""
    for thread in threading.enumerate():
        if type(thread).__name__ == "_RegionalAccessBoundaryRefreshThread":
            await asyncio.to_thread(thread.join, 5)


def recorded(world: World) -> list[Mapping[str, Any]]:
    """Return the requests that were made for the token.

    The look-ups of regional access boundaries are not among them: they come when they like.
    test_rpc_metadata.py tests them.
    """
    return [
        normalized(request)
        for request in world.cloud.requests
        if not request.path.endswith("/allowedLocations")
    ]


def timestamp(expiry: datetime.datetime) -> float:
    """Return the Unix time of google-auth's expiry, a naive UTC datetime."""
    return expiry.replace(tzinfo=datetime.UTC).timestamp()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The outcomes of both clients."""

    ours: Outcome
    theirs: Outcome
