"""The HTTP transport: google-auth's Request on the loop, and blocking code in threads."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import threading
import traceback
from collections.abc import Callable

import aiohttp
import google.auth.transport
import google.oauth2.service_account
import pytest
from google.auth.exceptions import TransportError

from aio_authgrpc import AiohttpRequest
from aio_authgrpc._http.bridge import ThreadRequest, bridge_to_thread
from aio_authgrpc._loop.threads import import_off_loop, run_in_thread
from aio_authgrpc.testing import TOKEN_PATH, Authority


@pytest.fixture
async def request_():  # type: ignore[no-untyped-def]  # a fixture; pytest has one named request
    async with AiohttpRequest() as request:
        yield request


async def test_a_request_is_sent_and_its_response_read(
    request_: AiohttpRequest, authority: Authority
) -> None:
    """Status, headers and body, as google-auth's Response."""
    response = await request_.send(authority.jwks_url)
    assert isinstance(response, google.auth.transport.Response)
    assert (response.status, response.headers["content-type"].partition(";")[0]) == (200, "application/json")
    assert json.loads(response.data)["keys"]


async def test_a_url_is_sent_as_it_is(request_: AiohttpRequest, authority: Authority) -> None:
    """What is quoted stays quoted: google-auth has built it."""
    await request_.send(authority.url + "/x%2Fy?audience=https%3A%2F%2Fhost")
    (received,) = authority.requests
    assert received.query == {"audience": "https://host"}


async def test_header_values_may_be_bytes(request_: AiohttpRequest, authority: Authority) -> None:
    """google-auth's AWS credentials send some."""
    await request_.send(authority.jwks_url, headers={"x-bytes": b"value"})
    assert authority.requests[0].headers["x-bytes"] == "value"


async def test_a_redirect_is_not_followed(request_: AiohttpRequest, authority: Authority) -> None:
    """A token request goes where the credential says, nowhere else."""
    authority.fail(302, "elsewhere", headers={"location": authority.jwks_url})
    assert (await request_.send(authority.token_uri, "POST", b"x")).status == 302
    assert len(authority.requests) == 1


async def test_a_huge_response_is_refused(request_: AiohttpRequest, authority: Authority) -> None:
    """One MiB is a thousand tokens."""
    authority.fail(200, "x" * (1024 * 1024 + 1))
    with pytest.raises(TransportError, match="more than 1048576 bytes"):
        await request_.send(authority.token_uri, "POST", b"x")


async def test_a_reset_connection_is_a_transport_error(
    request_: AiohttpRequest, authority: Authority
) -> None:
    """With aiohttp's error as its cause, and the place without the query."""
    authority.reset_connections()
    with pytest.raises(TransportError, match=TOKEN_PATH) as caught:
        await request_.send(authority.token_uri + "?key=value", "POST", b"x")
    assert isinstance(caught.value.__cause__, aiohttp.ClientError)
    assert "key=value" not in str(caught.value)


async def test_a_slow_response_is_a_transport_error(authority: Authority) -> None:
    """The constructor's timeout bounds also what google-auth would wait 120 s for."""
    gate = authority.hold()
    async with AiohttpRequest(timeout=0.01) as request:
        with pytest.raises(TransportError, match=r"did not answer within 0\.01 s"):
            await request.send(authority.token_uri, "POST", b"x", timeout=120)
    gate.release()


async def test_a_wrong_url_is_a_transport_error(request_: AiohttpRequest) -> None:
    """Not an exception of yarl or aiohttp."""
    with pytest.raises(TransportError):
        await request_.send("http://127.0.0.1:99999/")


async def test_a_session_of_ones_own_is_closed(authority: Authority) -> None:
    """What is made here is closed here, and may be closed twice."""
    request = AiohttpRequest()
    await request.send(authority.jwks_url)
    session = request.session()
    await request.aclose()
    await request.aclose()
    assert session.closed


async def test_a_session_that_was_handed_in_stays_open(authority: Authority) -> None:
    """Who made it closes it."""
    async with aiohttp.ClientSession() as session:
        async with AiohttpRequest(session) as request:
            await request.send(authority.jwks_url)
        assert not session.closed


async def test_a_netrc_entry_does_not_replace_the_authorization(
    request_: AiohttpRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:  # type: ignore[no-untyped-def]  # tmp_path
    """Requests and aiohttp would send Basic, or raise, with trust_env."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password wrong")
    monkeypatch.setenv("NETRC", str(netrc))
    await request_.send(authority.jwks_url, headers={"authorization": "Bearer mine"})
    assert authority.requests[0].headers["authorization"] == "Bearer mine"


async def test_a_proxy_of_the_environment_is_used(
    request_: AiohttpRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY names it; the fake authority stands in for the proxy and sees the absolute URL's path."""
    monkeypatch.setenv("http_proxy", authority.url)
    monkeypatch.delenv("no_proxy", raising=False)
    response = await request_.send("http://token.example.invalid/jwks")
    assert response.status == 200


async def test_no_proxy_exempts_a_host(
    request_: AiohttpRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_PROXY is honoured."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert (await request_.send(authority.jwks_url)).status == 200


# From a thread


async def test_a_thread_sends_its_request_on_the_loop(request_: AiohttpRequest, authority: Authority) -> None:
    """google-auth calls it so."""
    response = await bridge_to_thread(lambda: request_(authority.jwks_url), ThreadRequest(request_))
    assert response.status == 200


async def test_a_thread_that_google_auth_starts_itself_finds_the_loop(
    request_: AiohttpRequest, authority: Authority
) -> None:
    """Boundary look-ups run on raw threads, inside of none of ours."""
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(request_(authority.jwks_url).status))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert statuses == [200]


async def test_called_on_the_loop_it_says_what_to_do(request_: AiohttpRequest, authority: Authority) -> None:
    """It would wait for itself for ever."""
    with pytest.raises(RuntimeError, match=r"await request\.send"):
        request_(authority.jwks_url)


def test_called_without_any_loop_it_says_so() -> None:
    """Neither a worker thread nor a loop to send on."""
    with pytest.raises(RuntimeError):
        AiohttpRequest()("http://127.0.0.1:1/")


async def test_a_deep_copy_is_the_same_object(request_: AiohttpRequest) -> None:
    """google-auth copies requests for its threads; a copy that raised would silently skip the look-up."""
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
    """As requests has them: a path that is not there is an error, in the thread."""
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
    assert (credentials.valid, authority.token_requests) == (True, 1)


async def test_cancelling_the_bridge_cancels_the_request(
    request_: AiohttpRequest, authority: Authority
) -> None:
    """At once, and the thread comes back."""
    gate = authority.hold()
    task = asyncio.create_task(
        bridge_to_thread(lambda: request_(authority.token_uri, "POST", b"x"), ThreadRequest(request_))
    )
    await gate.arrived.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    gate.release()


async def test_cancelling_the_bridge_abandons_what_blocks(request_: AiohttpRequest) -> None:
    """google-auth's time.sleep, or a subprocess: the caller does not wait for it."""
    inside, leave = threading.Event(), threading.Event()

    def block() -> None:
        inside.set()
        leave.wait(10)

    task = asyncio.create_task(run_in_thread(block))
    await asyncio.to_thread(inside.wait)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    leave.set()


async def test_what_blocks_does_not_hold_the_end_of_the_process() -> None:
    """A daemon thread: google-auth's executables take up to two minutes."""
    started = asyncio.Event()
    loop = asyncio.get_running_loop()
    leave = threading.Event()

    def block() -> bool:
        loop.call_soon_threadsafe(started.set)
        leave.wait(10)
        return threading.current_thread().daemon

    running = asyncio.create_task(run_in_thread(block))
    await started.wait()
    leave.set()
    assert await running


async def test_an_import_that_fails_raises_where_it_was_asked_for() -> None:
    """The thread does not swallow it."""
    with pytest.raises(ModuleNotFoundError):
        await import_off_loop("aio_authgrpc.no_such_module")


async def test_an_import_leaves_no_thread(threads_before: int) -> None:
    """A pool would keep one."""
    await import_off_loop("json.tool")
    ours = [thread for thread in threading.enumerate() if thread.name == "aio_authgrpc"]
    for thread in ours:
        await asyncio.to_thread(thread.join, 5)
    assert not [thread for thread in ours if thread.is_alive()]


async def test_a_refresh_that_nobody_waits_for_sends_nothing_more(
    request_: AiohttpRequest, authority: Authority
) -> None:
    """The thread may sleep on in google-auth's back-off; its next request is refused."""
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
    while not outcomes:  # noqa: ASYNC110 - the thread is nobody's any more
        await asyncio.sleep(0)
    assert outcomes == ["The result of this request is no longer wanted."]
    assert authority.requests == []


async def test_after_aclose_nothing_is_sent(authority: Authority) -> None:
    """And no session is made that nobody would close."""
    request = AiohttpRequest()
    await request.aclose()
    with pytest.raises(TransportError, match="was closed"):
        await request.send(authority.jwks_url)


async def test_a_users_closed_session_is_a_transport_error(authority: Authority) -> None:
    """Not aiohttp's RuntimeError."""
    session = aiohttp.ClientSession()
    await session.close()
    with pytest.raises(TransportError, match="closed"):
        await AiohttpRequest(session).send(authority.jwks_url)


def test_another_loop_is_a_transport_error() -> None:
    """One object over two asyncio.run()."""
    request = AiohttpRequest()

    async def use() -> None:
        async with Authority() as authority:
            await request.send(authority.jwks_url)

    async def use_and_keep() -> None:
        await use()
        session = request.session()
        await session.close()

    asyncio.run(use_and_keep())
    with pytest.raises(TransportError, match="another event loop"):
        asyncio.run(use())


@pytest.mark.parametrize("url", ["http://[bad", "http:///x?key=SECRETQ", "nonsense"])
async def test_what_is_no_url_is_a_transport_error_without_its_query(
    request_: AiohttpRequest, url: str
) -> None:
    """Aiohttp's own text repeats the whole."""
    with pytest.raises(TransportError) as caught:
        await request_.send(url)
    assert "SECRETQ" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:SECRETQ@127.0.0.1:{port}",
        "http://user:SECRETQ@bad host:x",
        "http://user:SECRETQ@[::1",
        "user:SECRETQ@127.0.0.1:{port}",
    ],
)
async def test_the_password_of_a_proxy_is_in_no_error(
    request_: AiohttpRequest, authority: Authority, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor in a cause of one; the authority is no proxy, and refuses."""
    port = authority.url.rpartition(":")[2]
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(port=port))
    monkeypatch.delenv("https_proxy", raising=False)
    with pytest.raises(TransportError) as caught:
        await request_.send("https://tokens.example.com/token")
    assert "SECRETQ" not in "".join(traceback.format_exception(caught.value))
    assert "SECRETQ" not in repr([caught.value, caught.value.__cause__, caught.value.__context__])


async def test_the_password_of_a_proxy_is_sent_to_it(
    request_: AiohttpRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Basic, without its quoting."""
    port = authority.url.rpartition(":")[2]
    monkeypatch.setenv("HTTP_PROXY", f"http://us%65r:pass%40word@127.0.0.1:{port}")
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    await request_.send("http://tokens.example.com/token")
    sent = authority.requests[-1].headers["Proxy-Authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"user:pass@word"
