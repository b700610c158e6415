"""The step `rpc`: one call, and a second look over HTTP/1.1 where what refused it was no gRPC server."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import time

import aiohttp
import grpc
import grpc.aio

from aio_authgrpc import Token, anonymous, connect, static_token
from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc.cli.call.reflection import Reflection
from aio_authgrpc.cli.call.rich_details import details_of
from aio_authgrpc.cli.call.schema import full_name, split
from aio_authgrpc.cli.claims import audiences_of, claims_of
from aio_authgrpc.cli.console import advice
from aio_authgrpc.cli.doctor.credential import Clocks
from aio_authgrpc.cli.doctor.findings import Account, Fault, FaultError, State, Step, Subject
from aio_authgrpc.cli.doctor.handshake import context_for
from aio_authgrpc.cli.doctor.refusal import Refusal
from aio_authgrpc.cli.doctor.refusals import fault_of
from aio_authgrpc.cli.doctor.route import Proxy
from aio_authgrpc.errors import ConfigurationError

_HEALTH = "grpc.health.v1.Health/Check"
# HealthCheckResponse's field `status`: https://github.com/grpc/grpc/blob/master/src/proto/grpc/health/v1/health.proto
_SERVING = b"\x08\x01"
_NOT_SERVING = b"\x08\x02"
_MAX_BODY = 4096


async def rpc_step(
    subject: Subject, token: Token, account: Account, proxy: Proxy | None, clocks: Clocks
) -> tuple[Step, str]:
    """Make the RPC, and return the step with a remark for the verdict.

    Raises:
        FaultError: It was refused, or did not arrive.
    """
    method = subject.method or _HEALTH
    opened = connect(
        subject.target,
        credentials=static_token(token) if token.value else anonymous(),
        ssl_credentials=subject.connection.ssl_credentials(),
        plaintext=subject.connection.plaintext,
        authority=subject.connection.authority,
        header=subject.identity.token_header,
        quota_project_id=subject.identity.quota_project,
    )
    try:
        async with opened as channel:
            if subject.method:
                method = await _full_name(channel, subject.method, timeout=subject.timeout)
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{method}")
            answer = await call(b"", timeout=max(subject.timeout, 10.0))
    except grpc.aio.AioRpcError as error:
        return await _ended(subject, method, error, token, account, proxy, clocks)
    if not subject.method and answer == _NOT_SERVING:
        raise FaultError(
            Fault(
                name="not-serving",
                cause="The server answers, and its health check says NOT_SERVING.",
                next_step=subject.call(),
            )
        )
    text = "SERVING" if answer == _SERVING and not subject.method else "OK"
    return Step(
        name="rpc", state=State.OK, text=f"{method}: {text}", facts={"method": method, "status": "OK"}
    ), ""


async def _full_name(channel: grpc.aio.Channel, method: str, *, timeout: float) -> str:
    """Return the method with its package, as the server's reflection tells it; else as it was typed."""
    service, name = split(method)
    if "." not in service:
        with contextlib.suppress(grpc.aio.AioRpcError, ConfigurationError):
            service = full_name(service, await Reflection(channel, timeout=timeout).services())
    return f"{service}/{name}"


async def _ended(
    subject: Subject,
    method: str,
    error: grpc.aio.AioRpcError,
    token: Token,
    account: Account,
    proxy: Proxy | None,
    clocks: Clocks,
) -> tuple[Step, str]:
    code, details = error.code(), error.details() or ""
    facts = {"method": method, "status": code.name}
    text = f"{method}: {code.name}: {details}"
    if code is grpc.StatusCode.UNIMPLEMENTED and "http2 header" not in details and not subject.method:
        remark = "The server has no health service. It answered an RPC, and refused neither caller nor token."
        return Step(name="rpc", state=State.OK, text=text, facts=facts), remark
    if (
        error.trailing_metadata() is not None
        and (hints := advice(error))
        and code is grpc.StatusCode.UNAVAILABLE
    ):
        path = subject.dialled.address.removeprefix("unix:")
        step = f"GRPC_VERBOSITY=INFO {subject.call()}"
        if subject.dialled.address.startswith("unix:"):
            step = f"ls -l {shlex.quote(path)}"
        raise FaultError(Fault(name="unavailable", cause=hints[0], next_step=step), text, **facts) from error
    refusal = await _refusal(subject, method, error, token, account, proxy, clocks)
    fault = fault_of(refusal, subject)
    is_of_time = code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
    if clocks.fault is not None and is_of_time and fault.name in ("token-expired", "token-refused", "clock"):
        fault = clocks.fault
    raise FaultError(_redacted(fault), text, **facts) from error


async def _refusal(
    subject: Subject,
    method: str,
    error: grpc.aio.AioRpcError,
    token: Token,
    account: Account,
    proxy: Proxy | None,
    clocks: Clocks,
) -> Refusal:
    details = error.details() or ""
    challenge = next(
        (str(value) for key, value in error.trailing_metadata() or () if key == "www-authenticate"), ""
    )
    reasons = {
        str(detail.value.get("reason")): detail.value.get("metadata", {})
        for detail in details_of(error)
        if detail.name == "google.rpc.ErrorInfo"
    }
    claims = claims_of(token.value) or {}
    seen: tuple[int | None, dict[str, str], str] = (None, {}, "")
    if found := re.search(r"http2 header with status: (\d+)", details):
        seen = await _over_http1(subject, method, token, proxy, clocks) or (int(found[1]), {}, "")
    return Refusal(
        code=error.code(),
        details=details,
        reasons=reasons,
        challenge=seen[1].get("www-authenticate", challenge),
        http_status=seen[0],
        headers=seen[1],
        body=seen[2],
        sent_token=bool(token.value),
        audiences=audiences_of(claims),
        account=Account(kind=account.kind, email=str(claims.get("email") or account.email)),
    )


async def _over_http1(
    subject: Subject, method: str, token: Token, proxy: Proxy | None, clocks: Clocks
) -> tuple[int, dict[str, str], str] | None:
    """Send the same request over HTTP/1.1: gRPC shows neither headers nor body. None without an answer."""
    address = subject.address
    if address is None:
        return None
    scheme = "http" if subject.connection.plaintext else "https"
    headers = {"content-type": "application/grpc", "host": subject.named.address.removesuffix(":443")}
    headers |= dict(token.as_metadata(subject.identity.token_header or "authorization"))
    asked_at = time.time()
    try:
        context = await asyncio.to_thread(context_for, subject.connection, verify=True)
        context.set_alpn_protocols(["http/1.1"])
        async with (
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=subject.timeout)
            ) as session,
            session.post(
                f"{scheme}://{address[0]}:{address[1]}/{method}",
                headers=headers,
                ssl=context,
                server_hostname=subject.server_name,
                allow_redirects=False,
                proxy=None if proxy is None else f"http://{proxy.host}:{proxy.port}",
                proxy_headers={"proxy-authorization": proxy.authorization}
                if proxy is not None and proxy.authorization
                else None,
            ) as response,
        ):
            body = (await response.content.read(_MAX_BODY)).decode(errors="replace")
            found = {name.lower(): value for name, value in response.headers.items()}
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None
    clocks.compare(found, asked_at=asked_at)
    return response.status, found, body


def _redacted(fault: Fault) -> Fault:
    return Fault(name=fault.name, cause=redacted(fault.cause), next_step=redacted(fault.next_step))
