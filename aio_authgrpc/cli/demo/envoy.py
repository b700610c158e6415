"""The demo with a real Envoy as the guard: its stage and its additional checks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio

from aio_authgrpc import AuthorizedChannel, Connection, connect, service_account_jwt
from aio_authgrpc.bookstore import BookstoreStub, Empty, GetShelfRequest
from aio_authgrpc.cli.demo import checks
from aio_authgrpc.cli.demo.checks import CALL_TIMEOUT, CALLERS, OK, Check, failures, status
from aio_authgrpc.cli.demo.result import CheckResult, judged
from aio_authgrpc.cli.demo.stage import Stage, WitnessBookstore
from aio_authgrpc.testing import Authority, BookstoreServer, EnvoyProxy, FakeClock, forwarded_user_info
from aio_authgrpc.tokens import TokenCache

_EMAIL = "tester@project.iam.gserviceaccount.com"
# Envoy's minimum: the checks wait for a fetch of the keys, which then happens once a second.
_JWKS_CACHE_SECONDS = 1
_PAUSE = 0.01
# A token refused within its first ten seconds is not replaced, so the client's clock is moved past them.
_TOKEN_AGE = 11.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyStage(Stage):
    """A stage on which Envoy guards the server, which itself checks no token.

    Attributes:
        proxy: The guard.
    """

    proxy: EnvoyProxy

    @property
    def target(self) -> str:
        """The target for clients: Envoy, with TLS."""
        return self.proxy.tls_target

    @property
    def ssl_credentials(self) -> grpc.ChannelCredentials:
        """Channel credentials for it."""
        return self.proxy.ssl_credentials

    @property
    def audience(self) -> str:
        """The audience that tokens need."""
        return self.proxy.audience

    async def new_keys_are_known(self) -> None:
        """Wait until Envoy has fetched the authority's newest key."""
        token = self.authority.issue_id_token(audience=self.audience)
        metadata = (("authorization", f"Bearer {token}"),)
        async with grpc.aio.secure_channel(self.target, self.ssl_credentials) as channel:
            get_shelf, request = BookstoreStub(channel).GetShelf, GetShelfRequest(shelf=1)
            while await status(get_shelf(request, metadata=metadata, timeout=CALL_TIMEOUT)) != OK:  # noqa: ASYNC110 - Envoy reports no event
                await asyncio.sleep(_PAUSE)


@asynccontextmanager
async def open_envoy_stage() -> AsyncGenerator[EnvoyStage]:
    """Start the servers and Envoy on the loopback interface, and stop them."""
    witness = WitnessBookstore(user_info=forwarded_user_info)
    async with Authority() as authority, BookstoreServer(tls=False, service=witness) as server:
        account = await authority.service_account_info(_EMAIL)
        async with EnvoyProxy(authority, server, accept=[_EMAIL], jwks_cache=_JWKS_CACHE_SECONDS) as proxy:
            yield EnvoyStage(
                authority=authority, server=server, witness=witness, account=account, proxy=proxy
            )


async def listeners(stage: EnvoyStage) -> CheckResult:
    """Send each of Envoy's listeners a JWT that the account signed itself, without a token request."""
    proxy, requests_before = stage.proxy, stage.authority.token_requests
    answers = {
        "h2c": await _listed(_connect(stage, proxy.h2c_target, None)),
        "tls": await _listed(_connect(stage, proxy.tls_target, proxy.ssl_credentials)),
        "mutual_tls": await _listed(_connect(stage, proxy.mutual_tls_target, proxy.mutual_ssl_credentials)),
    }
    requests, caller = stage.authority.token_requests - requests_before, stage.witness.last_caller
    return judged(
        "listeners",
        {**answers, "token_requests": requests, "caller": caller},
        *((answer == OK, f"{name}: {answer} instead of {OK}") for name, answer in answers.items()),
        (requests == 0, f"{requests} token requests were made instead of 0"),
        (caller == _EMAIL, f"the server saw {caller or 'an anonymous caller'}"),
    )


def _connect(
    stage: EnvoyStage, target: str, ssl_credentials: grpc.ChannelCredentials | None
) -> Connection[BookstoreStub]:
    return connect(
        target,
        BookstoreStub,
        credentials=service_account_jwt(dict(stage.account), audience=stage.audience),
        ssl_credentials=ssl_credentials,
        plaintext=ssl_credentials is None,
    )


async def _listed(connection: Connection[BookstoreStub]) -> str:
    async with connection as bookstore:
        return await status(bookstore.ListShelves(Empty(), timeout=CALL_TIMEOUT))


async def replay(stage: EnvoyStage, *, token_age: float = _TOKEN_AGE) -> CheckResult:
    """Withdraw a token's key while calls are made: Envoy refuses the token after its next fetch of the keys.

    Args:
        stage: The servers.
        token_age: The age of the token when its key is withdrawn, in seconds.
    """
    clock, codes = FakeClock(time.time()), list[str]()
    requests_before, denied_before = stage.authority.token_requests, (await stage.proxy.counts()).denied
    channel = grpc.aio.secure_channel(stage.target, stage.ssl_credentials)
    async with (
        TokenCache(stage.credentials, clock=clock) as tokens,
        AuthorizedChannel(channel, tokens) as authorized,
    ):
        bookstore = BookstoreStub(authorized)
        codes.append(await status(bookstore.ListShelves(Empty(), timeout=CALL_TIMEOUT)))
        clock.advance(token_age)
        await stage.authority.rotate_keys(keep_old=False)
        callers = [
            _call_until_refused(stage, bookstore, codes, denied_before=denied_before) for _ in range(CALLERS)
        ]
        await asyncio.gather(*callers)
    refused = [code for code in codes if code != OK]
    denied = (await stage.proxy.counts()).denied - denied_before
    requests = stage.authority.token_requests - requests_before
    return judged(
        "replay",
        {"calls": len(codes), "replayed": denied, "token_requests": requests, "failed_calls": len(refused)},
        (not refused, failures(refused, len(codes))),
        (denied >= 1, "Envoy refused no call, so no call was sent again"),
        (requests == 2, f"{requests} token requests were made instead of 2"),
    )


async def _call_until_refused(
    stage: EnvoyStage, bookstore: BookstoreStub, codes: list[str], *, denied_before: int
) -> None:
    """Call until Envoy has refused a call, and once more."""
    over = False
    while not over:
        over = (await stage.proxy.counts()).denied > denied_before
        codes.append(await status(bookstore.ListShelves(Empty(), timeout=CALL_TIMEOUT)))


ENVOY_CHECKS: dict[str, Check[EnvoyStage]] = {
    "shelves": checks.shelves,
    "book": checks.book,
    "listeners": listeners,
    "cold_start": checks.cold_start,
    "rotation": checks.rotation,
    "replay": replay,
    "refusals": checks.refusals,
    "plaintext": checks.plaintext,
}
