"""Channels in the clear: whether one leaves this machine, so that its tokens can be read on the network."""

from __future__ import annotations

import re
import warnings
from typing import Any

import grpc.aio

from aio_authgrpc._http.urls import is_loopback

_ADDRESS = r"(\[[^\]]+\]|[A-Za-z0-9._-]+)(?::[0-9]+)?"


def is_this_machine(target: str) -> bool:
    """Return whether a target of gRPC's is on this machine; False for one that is not understood."""
    scheme, _, rest = target.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return True
    if scheme == "dns":  # not where a name server is named, which may say anything of `localhost`
        target = rest.removeprefix("//").removeprefix("/")
    addresses = rest.split(",") if scheme in ("ipv4", "ipv6") else [target]
    found = [re.fullmatch(_ADDRESS, address) for address in addresses]
    return all(match is not None and is_loopback(match[1]) for match in found)


def target_in_the_clear(channel: grpc.aio.Channel) -> str | None:
    """Return the target of a plaintext channel to another machine; None for any other channel.

    grpc.aio tells neither by a public name. Its core refuses call credentials on a plaintext channel, before
    it looks at them; any other channel fails on these, which are none. No call is made.
    """
    core: Any = channel
    while hasattr(core, "_channel"):  # a layer over another channel
        core = core._channel
    try:
        if core.closed():
            return None
        core.call(b"/", None, object(), None)
    except grpc.aio.UsageError:
        target: str = core.target.decode(errors="replace")
        return None if is_this_machine(target) else target
    except Exception:  # noqa: BLE001 - a channel with TLS, another grpcio, or no channel of grpc's
        return None
    return None


def warn_in_the_clear(target: str, *, stacklevel: int) -> None:
    """Warn at a frame: 2 is the caller of the function that calls this one."""
    text = f"Tokens for {target} cross the network in the clear."
    warnings.warn(text, UserWarning, stacklevel=stacklevel + 1)
