"""RPCs whose tokens come from a plugin, and calls of a plugin as gRPC makes them."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from aio_authgrpc import AuthMetadataPlugin
from aio_authgrpc.testing import EchoServer, EchoStub

METHOD = "/aio_authgrpc.testing.Echo/UnaryUnary"
SERVICE = "https://host/package.Service"


def composite(server: EchoServer, plugin: AuthMetadataPlugin) -> grpc.ChannelCredentials:
    return grpc.composite_channel_credentials(server.ssl_credentials, grpc.metadata_call_credentials(plugin))


async def call(server: EchoServer, plugin: AuthMetadataPlugin, **arguments: Any) -> bytes:
    """Make one call on a channel of its own that has the plugin's credentials."""
    async with grpc.aio.secure_channel(server.target, composite(server, plugin), **arguments) as channel:
        return await EchoStub(channel).UnaryUnary(b"x", timeout=10)


def call_in_sync(server: EchoServer, plugin: AuthMetadataPlugin, timeout: float = 10) -> bytes:
    """Make one call on a synchronous channel; for a thread."""
    with grpc.secure_channel(server.target, composite(server, plugin)) as channel:
        return bytes(channel.unary_unary(METHOD)(b"x", timeout=timeout))


def bearers(server: EchoServer) -> list[str | bytes]:
    return [value for call in server.calls for value in call.values("authorization")]


class RpcFailedError(Exception):
    """What gRPC would make of a plugin's failure."""


class Context:
    """What gRPC tells a plugin."""

    method_name = "Method"

    def __init__(self, service_url: str) -> None:
        self.service_url = service_url


def metadata_of(plugin: AuthMetadataPlugin, service_url: str = SERVICE) -> Any:
    """Call the plugin as gRPC does, in this thread, and wait for its answer."""
    answered = threading.Event()
    answers: list[Any] = []

    def callback(metadata: Any, error: Exception | None) -> None:
        answers.append((metadata, error))
        answered.set()

    plugin(Context(service_url), callback)  # type: ignore[arg-type]  # as much of both as the plugin uses
    assert answered.wait(10)
    ((metadata, error),) = answers
    if error is not None:
        raise RpcFailedError(str(error))
    return metadata


def failure_of(
    plugin: AuthMetadataPlugin, service_url: str = "https://host/package.Service"
) -> BaseException:
    with pytest.raises(RpcFailedError) as caught:
        metadata_of(plugin, service_url)
    return caught.value


def in_forked_child(function: Callable[[], str]) -> str:
    """Return the outcome of a function that a forked child runs."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the process has threads
        child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # it ends, even if it waits for a lock
        try:
            os.write(writer, function().encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    text = os.read(reader, 10_000).decode()
    os.close(reader)
    return text
