"""Watch the interpreter's audit events: opened sockets, files and processes, with their threads.

https://docs.python.org/3/library/audit_events.html has them all. They are raised by the interpreter
itself, so that no library can get past them. An audit hook cannot be removed: the one here is installed
once, and does nothing unless somebody watches.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Off the loop, these events bypass the session on the loop.
SOCKET_EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
# On the loop, these events block it. (Sockets on the loop are asyncio's, and do not block.)
BLOCKING_EVENTS = {"open", "subprocess.Popen", "time.sleep", "socket.getaddrinfo", "socket.gethostbyname"}


@dataclass(frozen=True, kw_only=True)
class Event:
    """One audit event.

    Attributes:
        name: Its name.
        thread: The thread it was raised on.
        what: Its object, such as the path.
        modules: The modules on the stack, the innermost first.
    """

    name: str
    thread: int
    what: str
    modules: tuple[str, ...]

    def __str__(self) -> str:
        ours = [name for name in self.modules if name.startswith(("aio_authgrpc", "google."))]
        return f"{self.name} {self.what} from {' < '.join(dict.fromkeys(ours))}"


class Trail:
    """The events of one stretch of time, as seen from the thread of the loop that began it."""

    def __init__(self) -> None:
        self._loop_thread = threading.get_ident()
        self._events: list[Event] = []

    def add(self, event: Event) -> None:
        """Note an event."""
        self._events.append(event)

    @property
    def sockets_off_the_loop(self) -> list[str]:
        """The sockets opened and the names looked up on other threads."""
        return [
            str(event)
            for event in self._events
            if event.thread != self._loop_thread and event.name in SOCKET_EVENTS
        ]

    @property
    def blocking_on_the_loop(self) -> list[str]:
        """The blocking events on the loop of this package, or google-auth under it. The fakes may block."""
        return [
            str(event)
            for event in self._events
            if event.thread == self._loop_thread and event.name in BLOCKING_EVENTS and _is_ours(event)
        ]


def _is_ours(event: Event) -> bool:
    if "linecache" in event.modules:
        return False  # asyncio's debug mode reads the source, to show where a future was made
    packages = [name for name in event.modules if name.startswith(("aio_authgrpc", "google."))]
    return bool(packages) and not any(name.startswith("aio_authgrpc.testing") for name in packages)


_trails: list[Trail] = []


def _hook(name: str, arguments: tuple[object, ...]) -> None:
    if not _trails or name not in SOCKET_EVENTS | BLOCKING_EVENTS:
        return
    # Without the traceback module, which would open source files to show their lines.
    modules, frame = [], sys._getframe(1)
    while frame is not None:
        modules.append(str(frame.f_globals.get("__name__")))
        frame = frame.f_back  # type: ignore[assignment]  # None at the bottom
    what = arguments[1 if name == "socket.connect" else 0]  # the address, the path, the command, the host
    event = Event(name=name, thread=threading.get_ident(), what=repr(what)[:100], modules=tuple(modules))
    for trail in _trails:
        trail.add(event)


sys.addaudithook(_hook)


@contextmanager
def watch() -> Iterator[Trail]:
    """Record the events in the block, on all threads. Enter it on the loop's thread."""
    trail = Trail()
    _trails.append(trail)
    try:
        yield trail
    finally:
        _trails.remove(trail)
