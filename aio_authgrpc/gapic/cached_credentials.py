"""`credentials()`: google-auth's credentials over a token cache, for clients that take nothing else."""

from __future__ import annotations

import copy
import datetime
import urllib.parse
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Self

import google.auth.credentials
import google.auth.transport

from aio_authgrpc import AiohttpRequest, Token, default
from aio_authgrpc.credentials import CredentialsType
from aio_authgrpc.gapic.loop_tokens import LoopTokens
from aio_authgrpc.tokens import Clock, SystemClock, shared_cache

_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


@asynccontextmanager
async def credentials(
    source: CredentialsType = None,
    *,
    audience: str | None = None,
    universe_domain: str = "googleapis.com",
    request: AiohttpRequest | None = None,
    keep_warm: bool = False,
    clock: Clock | None = None,
    loop_timeout: float = 10.0,
) -> AsyncGenerator[CachedCredentials]:
    """Yield google-auth credentials over the token cache, for clients that make their channels themselves.

    `async with credentials(source) as shared: storage.Client(project, credentials=shared)`

    Such clients are those of Bigtable's data, `firestore.AsyncClient`, Storage's `AsyncGrpcClient`, and every
    synchronous one. They and the channels of this event loop with the same `source` fetch each token once.

    The clients ask in any thread, and the running loop, on which this is entered, fetches. A token that lives
    for another 225 s is served in any thread without the loop. Without one, a thread waits for the loop, and
    google-auth's `RefreshError` is raised if the loop is blocked or stopped for `loop_timeout`. A thread that
    runs this loop cannot wait for it, so a synchronous client there gets that error at once: call it with
    `asyncio.to_thread`.

    Args:
        source: What `connect` takes as `credentials`; None stands for the default ones, with the scope
            cloud-platform where they need one.
        audience: The audience of the tokens; `https://<host>` of each request if None.
        universe_domain: The universe that the credentials are of; some clients compare it with their own.
        request: The HTTP transport for tokens; it stays the caller's. None makes one.
        keep_warm: See `connect`.
        clock: See `connect`.
        loop_timeout: Seconds until a request for a token fails because the loop is blocked or stopped.

    Raises:
        ConfigurationError: An argument, a file or the environment cannot be used: on entry with `audience`,
            else as `RefreshError` with the first request.
    """
    source = default(default_scopes=[_CLOUD_PLATFORM]) if source is None else source
    open_cache = partial(shared_cache, source, request=request, keep_warm=keep_warm, clock=clock)
    header = getattr(source, "header", None) or "authorization"
    clock = SystemClock() if clock is None else clock
    async with LoopTokens(open_cache, audience, clock=clock, loop_timeout=loop_timeout) as tokens:
        yield CachedCredentials(tokens, header, universe_domain)


class CachedCredentials(google.auth.credentials.CredentialsWithQuotaProject):
    """What `credentials()` yields: google-auth credentials whose tokens are those of a token cache.

    `token` and `expiry` are those of the last request. `refresh()` takes the last token for refused, as
    google-auth does it after an answer of 401, and gets another one.
    """

    def __init__(self, tokens: LoopTokens, header: str, universe_domain: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # google-auth is typed in parts
        self._tokens = tokens
        self._header = header
        self._universe_domain = universe_domain
        self._last: tuple[str, Token | None] = ("", None)

    def before_request(
        self,
        request: google.auth.transport.Request | None,
        method: str,
        url: str,
        headers: MutableMapping[str, str],
    ) -> None:
        """Put the token into the headers of a request, waiting for it if need be."""
        audience = f"https://{urllib.parse.urlsplit(url).netloc}"
        token = self._keep(audience, self._tokens.get(audience))
        headers.update(token.as_metadata(self._header))
        if self.quota_project_id is not None:
            headers["x-goog-user-project"] = self.quota_project_id

    def refresh(self, request: google.auth.transport.Request | None) -> None:
        """Get a token other than the last one; `request` is not used."""
        audience, token = self._last
        self._keep(audience, self._tokens.get(audience, unwanted=token, look=True))

    def _keep(self, audience: str, token: Token) -> Token:
        self._last = (audience, token)
        self.token = token.value
        self.expiry = None
        if token.expires_at is not None:  # google-auth's are naive, in UTC
            at = datetime.datetime.fromtimestamp(token.expires_at, tz=datetime.UTC)
            self.expiry = at.replace(tzinfo=None)
        return token

    def with_quota_project(self, quota_project_id: str | None) -> Self:
        """Return credentials with the same tokens, for requests that another project pays for."""
        made = copy.copy(self)
        made._quota_project_id = quota_project_id
        return made

    def __repr__(self) -> str:
        return f"<CachedCredentials that expire at {self.expiry}>"
