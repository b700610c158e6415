"""One round of `identity_stall.py`, in an interpreter of its own: become somebody, and watch the loop.

It is told on standard input, as JSON, who to be and where the files are; and answers on standard output, as
JSON, with the longest stall of each phase in seconds, how long it took and what came of it. Nothing is
imported that the package loads by itself at its first use.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from first_call import IDLE, TICK, StallWatch

import aio_authgrpc
from aio_authgrpc._sources.credentials import as_token_source

IDLING, BUSY = "idle", "becoming somebody"
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
AUDIENCE = "https://service.example.com"

Paths = Mapping[str, str]


class OwnStallWatch(StallWatch):
    """Keeps, too, how much of each stall is this process's: without the wait for a core that others had.

    Linux tells that wait for each thread; elsewhere nothing is left out. A thread that waits for the
    interpreter's lock, as the loop's does while a key is parsed, waits for no core: that counts.

    Attributes:
        own: The longest stall of each phase, less the wait for a core in it.
    """

    def __init__(self, phase: Callable[[], str]) -> None:
        super().__init__(phase)
        self.own: dict[str, float] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        with contextlib.ExitStack() as opened:
            waited_for_a_core = _core_wait_clock(opened)
            last, last_wait = time.perf_counter(), waited_for_a_core()
            while True:
                await asyncio.sleep(TICK)
                now, wait, phase = time.perf_counter(), waited_for_a_core(), self._phase()
                stall = now - last - TICK
                self.longest[phase] = max(self.longest.get(phase, 0.0), stall)
                self.own[phase] = max(self.own.get(phase, 0.0), stall - (wait - last_wait))
                last, last_wait = now, wait


def _core_wait_clock(opened: contextlib.ExitStack) -> Callable[[], float]:
    """Return what tells for how many seconds this thread has waited for a core so far."""
    path = Path("/proc/thread-self/schedstat")
    if not path.exists():
        return lambda: 0.0
    file = opened.enter_context(path.open("rb"))
    return lambda: int(os.pread(file.fileno(), 100, 0).split()[1]) / 1e9


def service_account(paths: Paths) -> Any:
    """A key file, exchanged."""
    return aio_authgrpc.service_account(paths["service_account"], scopes=SCOPES)


def service_account_self_signed(paths: Paths) -> Any:
    """A key file that signs for the target."""
    return aio_authgrpc.service_account(paths["service_account"])


def service_account_jwt(paths: Paths) -> Any:
    """A key file that signs for Cloud Endpoints."""
    return aio_authgrpc.service_account_jwt(paths["service_account"])


def default(_: Paths) -> Any:
    """Application Default Credentials, whatever the environment says."""
    return aio_authgrpc.default(SCOPES)


def id_token(_: Paths) -> Any:
    """The ID token of the default credentials."""
    return aio_authgrpc.id_token()


# The rest is handed in, as an object of google-auth's. Making it is the user's, and done before the watch.


def _service_account_of_google_auth(paths: Paths) -> Any:
    from google.oauth2 import service_account as module  # noqa: PLC0415 - only who has it imports it

    return module.Credentials.from_service_account_file(paths["service_account"], scopes=SCOPES)


def handed_in_service_account_id_token(paths: Paths) -> Any:
    """google.oauth2.service_account.IDTokenCredentials."""
    from google.oauth2 import service_account as module  # noqa: PLC0415 - see above

    make: Any = module.IDTokenCredentials.from_service_account_file
    return make(paths["service_account"], target_audience=AUDIENCE)


def handed_in_impersonated(paths: Paths) -> Any:
    """google.auth.impersonated_credentials.Credentials."""
    from google.auth import impersonated_credentials as module  # noqa: PLC0415 - see above

    untyped: Any = module
    return untyped.Credentials(
        _service_account_of_google_auth(paths), "impersonated@project.iam.gserviceaccount.com", SCOPES
    )


def handed_in_impersonated_id_token(paths: Paths) -> Any:
    """google.auth.impersonated_credentials.IDTokenCredentials."""
    from google.auth import impersonated_credentials as module  # noqa: PLC0415 - see above

    untyped: Any = module
    return untyped.IDTokenCredentials(handed_in_impersonated(paths), target_audience=AUDIENCE)


def handed_in_compute_engine_id_token(_: Paths) -> Any:
    """google.auth.compute_engine.IDTokenCredentials, from the metadata server."""
    import google.auth.transport.requests  # noqa: PLC0415 - see above
    from google.auth import compute_engine  # noqa: PLC0415 - see above

    untyped: Any = compute_engine
    request = google.auth.transport.requests.Request()
    return untyped.IDTokenCredentials(request, AUDIENCE, use_metadata_identity_endpoint=True)


def handed_in_compute_engine_id_token_by_iam(_: Paths) -> Any:
    """google.auth.compute_engine.IDTokenCredentials, signed by the IAM API."""
    import google.auth.transport.requests  # noqa: PLC0415 - see above
    from google.auth import compute_engine  # noqa: PLC0415 - see above

    untyped: Any = compute_engine
    return untyped.IDTokenCredentials(google.auth.transport.requests.Request(), AUDIENCE)


def handed_in_downscoped(paths: Paths) -> Any:
    """google.auth.downscoped.Credentials."""
    from google.auth import downscoped  # noqa: PLC0415 - see above

    untyped: Any = downscoped
    rule = untyped.AccessBoundaryRule("//storage.googleapis.com/projects/_/buckets/b", ["inRole:roles/r"])
    boundary = untyped.CredentialAccessBoundary(rules=[rule])
    return untyped.Credentials(_service_account_of_google_auth(paths), boundary)


def handed_in_api_key(_: Paths) -> Any:
    """google.auth.api_key.Credentials."""
    from google.auth import api_key  # noqa: PLC0415 - see above

    untyped: Any = api_key
    return untyped.Credentials("the-api-key")


def handed_in_anonymous(_: Paths) -> Any:
    """google.auth.credentials.AnonymousCredentials."""
    from google.auth import credentials  # noqa: PLC0415 - see above

    untyped: Any = credentials
    return untyped.AnonymousCredentials()


MAKERS: dict[str, Callable[[Paths], Any]] = {
    maker.__name__: maker
    for maker in (
        service_account,
        service_account_self_signed,
        service_account_jwt,
        default,
        id_token,
        handed_in_service_account_id_token,
        handed_in_impersonated,
        handed_in_impersonated_id_token,
        handed_in_compute_engine_id_token,
        handed_in_compute_engine_id_token_by_iam,
        handed_in_downscoped,
        handed_in_api_key,
        handed_in_anonymous,
    )
}


async def _become(made: Any) -> str:
    async with aio_authgrpc.AiohttpRequest() as http:
        request = aio_authgrpc.TokenRequest(http=http, audience=AUDIENCE, time=time.time())
        source = as_token_source(made)
        try:
            if isinstance(source, aio_authgrpc.tokens.LoadableTokenSource):
                await source.load(request)
            await source.fetch(request)
        except aio_authgrpc.AuthGrpcError as error:
            return type(error).__name__
    return "token"


async def run(who: str, paths: Paths) -> dict[str, object]:
    """Return the stalls, the time that it took, and what came of it."""
    phase = IDLING
    watch = OwnStallWatch(lambda: phase)
    made = MAKERS[who](paths) if who.startswith("handed_in") else None
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(IDLE)
    phase = BUSY
    began = time.perf_counter()
    outcome = await _become(MAKERS[who](paths) if made is None else made)
    took = time.perf_counter() - began
    await asyncio.sleep(2 * TICK)
    watching.cancel()
    return {"stalls": watch.longest, "own": watch.own, "took": took, "outcome": outcome}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(run(**json.load(sys.stdin)))))
    sys.stdout.flush()
    os._exit(0)  # google-auth may still wait in a thread that was abandoned; nobody waits for that here
