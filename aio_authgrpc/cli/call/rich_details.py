"""The details of an error that a server put into its trailing metadata (https://google.aip.dev/193)."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from aio_authgrpc.cli.call.messages import as_json, message_class

_KEY = "grpc-status-details-bin"
# The default pool knows Google's own messages once their module is loaded.
importlib.import_module("google.rpc.error_details_pb2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """One detail.

    Attributes:
        name: The full name of its message, such as `google.rpc.ErrorInfo`.
        value: The message as JSON; base64 where the message is unknown.
    """

    name: str
    value: Any = field(repr=False)


def details_of(error: grpc.aio.AioRpcError, *pools: DescriptorPool) -> list[Detail]:
    """Return the details of an error, decoded by the messages of `pools` and by Google's own."""
    return [
        detail
        for key, value in error.trailing_metadata() or ()
        if key == _KEY and isinstance(value, bytes)
        for detail in _decoded(value, (*pools, Default()))
    ]


def _decoded(status: bytes, pools: Iterable[DescriptorPool]) -> Iterable[Detail]:
    try:
        packed = Status.FromString(status).details
    except DecodeError:
        return
    for one in packed:
        name = one.type_url.rpartition("/")[2]
        yield Detail(name=name, value=_value(name, one.value, pools))


def _value(name: str, content: bytes, pools: Iterable[DescriptorPool]) -> Any:
    for pool in pools:
        try:
            return as_json(message_class(pool.FindMessageTypeByName(name)).FromString(content), pool)
        except (KeyError, DecodeError):
            continue
    return base64.b64encode(content).decode()
