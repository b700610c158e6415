"""The request data of a call: `-d JSON`, `-d @FILE`, or `-d -` for stdin."""

from __future__ import annotations

import asyncio
import codecs
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from aio_authgrpc.errors import ConfigurationError

_PIECE = 65536


async def pieces_of(data: str) -> AsyncIterator[str]:
    """Yield the text, in pieces as they come."""
    if data == "-":
        async for piece in _stdin():
            yield piece
    elif data.startswith("@"):
        yield _read(Path(data[1:]))
    else:
        yield data


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({type(error).__name__}).", field="--data", hint="@ stands before a path."
        ) from error


async def _stdin() -> AsyncIterator[str]:
    """Yield what arrives on stdin: a terminal, a pipe or a file."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        # Not by sys.stdin: a thread that still reads at the end would hold its lock, and abort the process.
        while True:
            piece = os.read(sys.stdin.fileno(), _PIECE)
            try:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)
            except RuntimeError:  # the loop is closed
                return
            if not piece:
                return

    threading.Thread(target=read, name="stdin", daemon=True).start()
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while piece := await pieces.get():
        yield decoder.decode(piece)
