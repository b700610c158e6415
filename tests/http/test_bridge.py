"""The HTTP transport called in threads, as google-auth calls it, and its cancellation."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable

import google.auth.transport
import google.oauth2.service_account
import pytest
from google.auth.exceptions import TransportError

from aio_authgrpc import AiohttpRequest
from aio_authgrpc._http.bridge import ThreadRequest, bridge_to_thread
from aio_authgrpc.testing import Authority


async def test_a_thread_sends_its_request_on_the_loop(request_: AiohttpRequest, authority: Authority) -> None:
    """As google-auth calls it."""
    response = await bridge_to_thread(lambda: request_(authority.jwks_url), ThreadRequest(request_))
    assert response.status == 200


async def test_a_thread_that_google_auth_starts_itself_finds_the_loop(
    request_: AiohttpRequest, authority: Authority
) -> None:
    """Boundary look-ups run on raw threads of google-auth's own."""
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(request_(authority.jwks_url).status))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert statuses == [200]


async def test_called_on_the_loop_it_says_what_to_do(request_: AiohttpRequest, authority: Authority) -> None:
    """The loop would wait for itself for ever."""
    with pytest.raises(RuntimeError, match=r"await request\.send"):
        request_(authority.jwks_url)


def test_called_without_any_loop_it_raises() -> None:
    """The request needs a loop to be sent on."""
    with pytest.raises(RuntimeError):
        AiohttpRequest()("http://127.0.0.1:1/")


async def test_a_deep_copy_is_the_same_object(request_: AiohttpRequest) -> None:
    """google-auth copies requests for its threads; an exception there would silently skip the look-up."""
    assert copy.deepcopy(request_) is request_


@pytest.mark.parametrize(
    ("verify", "cert"), [(False, None), ("/nowhere.pem", None), (None, "/nowhere.pem"), (False, ("/a", "/b"))]
)
async def test_verify_and_cert_are_understood(
    request_: AiohttpRequest,
    authority: Authority,
    verify: bool | str | None,
    cert: str | tuple[str, str] | None,
) -> None:
    """As requests has them; a missing file raises in the thread."""
    call: Callable[[], object] = lambda: request_(authority.jwks_url, verify=verify, cert=cert)  # noqa: E731 - shown as google-auth calls it
    if cert is None and verify is False:
        assert await bridge_to_thread(call, ThreadRequest(request_))
    else:
        with pytest.raises(OSError, match="No such file"):
            await bridge_to_thread(call, ThreadRequest(request_))


async def test_google_auth_refreshes_through_it(request_: AiohttpRequest, authority: Authority) -> None:
    """A real credential, a real assertion, a real token."""
    info = await authority.service_account_info()
    make = google.oauth2.service_account.Credentials.from_service_account_info
    credentials = await asyncio.to_thread(make, info, scopes=["scope"])
    await bridge_to_thread(lambda: credentials.refresh(request_), ThreadRequest(request_))
    assert credentials.valid
    assert authority.token_requests == 1


async def test_cancelling_the_bridge_cancels_the_request(
    request_: AiohttpRequest, authority: Authority
) -> None:
    """The caller returns at once, and the thread ends."""
    gate = authority.hold()
    task = asyncio.create_task(
        bridge_to_thread(lambda: request_(authority.token_uri, "POST", b"x"), ThreadRequest(request_))
    )
    await gate.arrived.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    gate.release()


async def test_an_abandoned_refresh_sends_nothing_more(
    request_: AiohttpRequest, authority: Authority
) -> None:
    """Its thread may sleep on in google-auth's back-off; its next request is refused."""
    inside, leave, outcomes = threading.Event(), threading.Event(), []
    bridged = ThreadRequest(request_)

    def refresh() -> None:
        inside.set()
        leave.wait(10)
        try:
            bridged(authority.jwks_url)
        except TransportError as error:
            outcomes.append(str(error))

    task = asyncio.create_task(bridge_to_thread(refresh, bridged))
    await asyncio.to_thread(inside.wait)
    task.cancel()
    await asyncio.wait({task})
    leave.set()
    while not outcomes:  # noqa: ASYNC110 - the abandoned thread sets no event
        await asyncio.sleep(0)
    assert outcomes == ["The result of this request is no longer wanted."]
    assert authority.requests == []
