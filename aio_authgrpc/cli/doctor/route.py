"""The way to the server: its name, a proxy on the way, and TCP."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import urllib.parse
from dataclasses import dataclass, field

from aio_authgrpc.cli.doctor.findings import Fault, FaultError, State, Step, Subject

# Those that gRPC reads, in its order.
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTION_VARIABLES = ("no_grpc_proxy", "no_proxy")
_MAX_HEAD = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy of the environment.

    Attributes:
        variable: Where it is named.
        host: Its host.
        port: Its port.
        authorization: The value of its header; empty without a password.
    """

    variable: str
    host: str
    port: int
    authorization: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """An open connection to the server, through the proxy if there is one."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self) -> None:
        """Close it, without a farewell."""
        self.writer.transport.abort()


def proxy_of(subject: Subject) -> Proxy | None:
    """Return the proxy that gRPC would use. Targets on this machine go past it."""
    address = subject.address
    name = next(filter(os.environ.get, _PROXY_VARIABLES), None)
    if address is None or name is None or subject.dialled.is_local:
        return None
    exceptions = os.environ.get(next(filter(os.environ.get, _EXCEPTION_VARIABLES), ""), "")
    if _is_excepted(address[0], exceptions):
        return None
    given = os.environ[name]
    try:
        parts = urllib.parse.urlsplit(given if "://" in given else f"http://{given}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port, parts = None, 0, None
    if host is None or parts is None:
        raise FaultError(
            Fault(
                name="proxy",
                cause=f"{name} does not name a proxy such as http://host:3128.",
                next_step=f"unset {name}",
            )
        )
    user = "" if parts.username is None else f"{parts.username}:{parts.password or ''}"
    basic = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
    return Proxy(variable=name, host=host, port=port, authorization=f"Basic {basic}" if user else "")


def _is_excepted(host: str, exceptions: str) -> bool:
    """Return whether a list such as `no_proxy` has the end of a host's name, as gRPC reads it."""
    ends = [one.strip().lstrip("*") for one in exceptions.split(",")]
    return any(end and host.endswith(end) for end in ends)


async def look_up(subject: Subject, proxy: Proxy | None) -> Step:
    """Resolve the name that is dialled: the server's, or the proxy's, which resolves the server's."""
    address = subject.address
    if address is None:
        return Step(name="name", state=State.SKIPPED, text=f"gRPC alone resolves {subject.dialled.address}")
    host = address[0] if proxy is None else proxy.host
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(subject.timeout):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError) as error:
        why = "was not answered in time" if isinstance(error, TimeoutError) else "has no address"
        raise FaultError(
            Fault(
                name="name-not-found" if proxy is None else "proxy",
                cause=f"The name {host} {why}"
                + (": is it spelt right?" if proxy is None else f": {proxy.variable} names it as the proxy."),
                next_step=f"getent hosts {host}" if proxy is None else f"unset {proxy.variable}",
            )
        ) from error
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    whose = "" if proxy is None else " (the proxy)"
    return Step(
        name="name",
        state=State.OK,
        text=f"{host}{whose} is {', '.join(addresses)}",
        facts={"addresses": addresses},
    )


def proxy_step(proxy: Proxy | None) -> Step:
    """Tell which proxy is on the way."""
    if proxy is None:
        return Step(name="proxy", state=State.OK, text="none on the way")
    text = f"{proxy.host}:{proxy.port}, of {proxy.variable}"
    return Step(name="proxy", state=State.OK, text=text, facts={"variable": proxy.variable})


async def connect_tcp(subject: Subject, proxy: Proxy | None) -> Wire:
    """Open a connection.

    Raises:
        FaultError: Nothing answers, or the proxy does not let it through.
    """
    address = subject.address
    assert address is not None, "look_up() was skipped"
    host, port = address if proxy is None else (proxy.host, proxy.port)
    try:
        async with asyncio.timeout(subject.timeout):
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        raise FaultError(_unreachable(f"{host}:{port}", error, proxy)) from error
    wire = Wire(reader=reader, writer=writer)
    if proxy is not None:
        try:
            async with asyncio.timeout(subject.timeout):
                await _through(wire, proxy, f"{address[0]}:{address[1]}")
        except BaseException:
            wire.close()
            raise
    return wire


def _unreachable(place: str, error: Exception, proxy: Proxy | None) -> Fault:
    if isinstance(error, TimeoutError):
        why = "did not answer in time: a firewall may drop the packets"
    elif isinstance(error, ConnectionRefusedError) or "refused" in str(error):
        why = "refused the connection: nothing listens there"
    else:
        why = f"cannot be reached ({error.strerror if isinstance(error, OSError) else error})"
    if proxy is not None:
        cause = f"The proxy {place}, of {proxy.variable}, {why}."
        return Fault(name="proxy", cause=cause, next_step=f"unset {proxy.variable}")
    host, _, port = place.rpartition(":")
    return Fault(name="unreachable", cause=f"{place} {why}.", next_step=f"nc -vz {host} {port}")


async def _through(wire: Wire, proxy: Proxy, place: str) -> None:
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    wire.writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        head = await wire.reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        head = b""
    status = head[:_MAX_HEAD].decode("latin-1").partition("\r\n")[0]
    if status.partition(" ")[2].startswith("200"):
        return
    answer = status or "the end of the connection"
    raise FaultError(
        Fault(
            name="proxy",
            cause=f"The proxy {proxy.host}:{proxy.port}, of {proxy.variable}, does not connect to {place}: "
            f"it answered {answer!r}.",
            next_step=f"no_proxy={place.rpartition(':')[0]} aio-authgrpc doctor {place}",
        )
    )
