"""The pictures of docs/explanation, drawn from the package: the life of a token, and the states of a call.

    python scripts/pictures.py            writes them
    python scripts/pictures.py --check    fails where a picture is another, or a way of a call is not drawn

The instants are those of `aio_authgrpc._tokens.freshness`. The ways of a call are compared with the methods
of `aio_authgrpc._calls.call`. Each picture has a background and colours of its own, light and dark.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from aio_authgrpc._calls.call import AuthorizedCall
from aio_authgrpc._tokens.freshness import TokenState, limits

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "explanation"

# Pixels. A telephone shows the width at three quarters, and the letters at 11 pixels.
WIDTH = 480
MARGIN = 16
LINE = 19
STYLE = """
text { font: 15px system-ui, sans-serif; fill: #222 }
.small { font-size: 14px; fill: #555 }
.strong { font-weight: 600 }
.middle { text-anchor: middle }
.end { text-anchor: end }
.paper { fill: #fff; stroke: #ccc }
.box { fill: #e8eef4; stroke: #456 }
.way { fill: none; stroke: #456; stroke-width: 1.5 }
.head { fill: #456 }
.fresh { fill: #7fc78f }
.stale { fill: #f2c14e }
.expired { fill: #e58a7f }
@media (prefers-color-scheme: dark) {
  text { fill: #eee }
  .small { fill: #bbb }
  .paper { fill: #1e2129; stroke: #444 }
  .box { fill: #2d3748; stroke: #9ab }
  .way { stroke: #9ab }
  .head { fill: #9ab }
  .fresh { fill: #2f7d43 }
  .stale { fill: #a87500 }
  .expired { fill: #a9473b }
}
"""


class Picture:
    """An SVG under construction."""

    def __init__(self, *, title: str, height: int) -> None:
        size = {"width": str(WIDTH), "height": str(height), "viewBox": f"0 0 {WIDTH} {height}"}
        self._root = ElementTree.Element(
            "svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", **size}
        )
        ElementTree.SubElement(self._root, "title").text = title
        ElementTree.SubElement(self._root, "style").text = STYLE
        self._definitions = ElementTree.SubElement(self._root, "defs")
        self.rectangle("paper", 0.5, 0.5, WIDTH - 1, height - 1, rx="8")

    def element(self, tag: str, **attributes: str) -> ElementTree.Element:
        """Add an element; `_` stands for the hyphen in the names of attributes."""
        named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return ElementTree.SubElement(self._root, tag, named)

    def rectangle(self, kind: str, x: float, y: float, width: float, height: float, **more: str) -> None:
        """Add a rectangle."""
        places = {"x": f"{x:g}", "y": f"{y:g}", "width": f"{width:g}", "height": f"{height:g}"}
        self.element("rect", class_=kind, **places, **more)

    def text(self, kind: str, x: float, y: float, *lines: str) -> None:
        """Add lines of text, `y` being the base of the first."""
        for number, line in enumerate(lines):
            self.element("text", class_=kind, x=f"{x:g}", y=f"{y + number * LINE:g}").text = line

    def arrow(self, *points: tuple[float, float]) -> None:
        """Add a line through these points, with a head at its end."""
        if not len(self._definitions):
            marker = ElementTree.SubElement(
                self._definitions,
                "marker",
                {"id": "head", "viewBox": "0 0 8 8", "refX": "7", "refY": "4", "markerWidth": "9"},
                markerHeight="9",
                orient="auto",
            )
            ElementTree.SubElement(marker, "path", {"class": "head", "d": "M0 0L8 4L0 8z"})
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.element("polyline", class_="way", points=path, marker_end="url(#head)")

    def __str__(self) -> str:
        if not len(self._definitions):
            self._root.remove(self._definitions)
        ElementTree.indent(self._root)
        return ElementTree.tostring(self._root, encoding="unicode") + "\n"


# The life of a token


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Seconds before the end of a token's life at which its states end."""

    lifetime: float
    first_stale: float
    last_stale: float
    expired: float

    @classmethod
    def of(cls, lifetime: float) -> Ends:
        """Return those of a token that lives for so many seconds."""
        first, expired = limits(now=0.0, expires_at=lifetime, jitter=0.0)
        last, _ = limits(now=0.0, expires_at=lifetime, jitter=1.0)
        return cls(
            lifetime=lifetime,
            first_stale=lifetime - first,
            last_stale=lifetime - last,
            expired=lifetime - expired,
        )


_SEEN = {
    TokenState.FRESH: ("Calls start at once.",),
    TokenState.STALE: ("Calls start at once;", "the first one starts a refresh", "in the background."),
    TokenState.EXPIRED: ("Calls wait for a new token.",),
}
_RANDOM = ("It becomes stale at a random", "instant in here, so that processes", "do not refresh together.")


def token_lifecycle() -> Picture:
    """Draw an hour's token, its last minutes, and a token of a minute."""
    hour, minute = Ends.of(3600.0), Ends.of(60.0)
    shown, height = 300.0, 330.0  # seconds, and as many pixels and a tenth more
    picture = Picture(title="The life of a token: fresh, stale, expired", height=570)
    picture.text("strong", MARGIN, 32, "A token of an hour")
    _lie(picture, hour, y=44)
    picture.text("small", MARGIN, 88, f"to scale; below, its last {shown:g} s")
    _stand(picture, hour, shown=shown, y=106, height=height)
    picture.text("strong", MARGIN, 482, "A token of a minute")
    _lie(picture, minute, y=494)
    for before in (minute.first_stale, minute.last_stale, minute.expired):
        picture.text("small middle", _x(minute, before), 538, f"{before:g}")
    picture.text("small", MARGIN, 538, "to scale; seconds before its end:")
    picture.text("small", MARGIN, 558, "stale from a random instant between the first two")
    return picture


def _x(ends: Ends, before: float) -> float:
    """Return where an instant lies on a bar that is as wide as the picture."""
    return MARGIN + (WIDTH - 2 * MARGIN) * (1 - before / ends.lifetime)


def _lie(picture: Picture, ends: Ends, *, y: float) -> None:
    """Draw a life from left to right."""
    marks = (ends.lifetime, ends.last_stale, ends.expired, 0.0)
    for state, begin, end in zip(TokenState, marks, marks[1:], strict=False):
        left, right = _x(ends, begin), _x(ends, end)
        picture.rectangle(state.value, left, y, right - left, 24)
    left, right = _x(ends, ends.first_stale), _x(ends, ends.last_stale)
    picture.rectangle("stale", left, y, right - left, 24, opacity="0.5")


def _stand(picture: Picture, ends: Ends, *, shown: float, y: float, height: float) -> None:
    """Draw the end of a life from top to bottom, with what callers see."""
    left, width = 110.0, 40.0

    def at(before: float) -> float:
        return y + height * (1 - before / shown)

    marks = (shown, ends.last_stale, ends.expired, 0.0)
    for state, begin, end in zip(TokenState, marks, marks[1:], strict=False):
        picture.rectangle(state.value, left, at(begin), width, at(end) - at(begin))
    top, bottom = at(ends.first_stale), at(ends.last_stale)
    picture.rectangle("stale", left, top, width, bottom - top, opacity="0.5")
    for before in (ends.first_stale, ends.last_stale, ends.expired):
        picture.text("small end", left - 8, at(before) + 5, f"{before:.0f} s before")
    picture.text("small end", left - 8, at(0) + 5, "its end")
    right = left + width + 14
    for state, middle in (
        (TokenState.FRESH, at((shown + ends.first_stale) / 2)),
        (TokenState.STALE, at((ends.last_stale + ends.expired) / 2) - LINE),
        (TokenState.EXPIRED, at(ends.expired / 2)),
    ):
        picture.text("strong", right, middle - 4, state.value)
        picture.text("", right, middle - 4 + LINE, *_SEEN[state])
    picture.text("small", right, (top + bottom) / 2 - LINE, *_RANDOM)


# The states of a call


class Way(NamedTuple):
    """A way of a call from one state to another: by which methods of `AuthorizedCall`, and why."""

    begin: str
    end: str
    caller: str
    callee: str
    label: str


WAYS = (
    Way("made", "started", "__init__", "_start_real_call", "token at hand"),
    Way("made", "waiting", "__init__", "_wait", "no token yet"),
    Way("waiting", "started", "_start_with", "_start_real_call", "the token"),
    Way("waiting", "finished", "abandon", "_finish", "no token, time-out, cancelled or closed"),
    Way("waiting", "finished", "_start_with", "_finish", "or refused, and the source has no other token"),
    Way("started", "waiting", "_send_again", "_wait", "refused: sent again"),
    Way("started", "finished", "on_done", "_finish", "the status of the RPC"),
)


def ways_of_the_code() -> set[tuple[str, str]]:
    """Return which methods lead a call into a state, and by which method."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(AuthorizedCall))).body
    assert isinstance(definition, ast.ClassDef)
    entries = {way.callee for way in WAYS}
    return {
        (method.name, node.func.attr)
        for method in definition.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(method)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in entries
    }


_LABEL_WIDTH = 21  # letters


def call_states() -> Picture:
    """Draw the states of a call and the ways between them."""
    picture = Picture(title="The states of a call: waiting, started, finished", height=392)
    picture.text("strong middle", 240, 34, "A stub is called")
    for name, what, left, top in (
        ("waiting", "for its token", MARGIN, 120),
        ("started", "the real call", 334, 120),
        ("finished", "with an outcome", 175, 314),
    ):
        picture.rectangle("box", left, top, 130, 58, rx="8")
        picture.text("strong middle", left + 65, top + 25, name)
        picture.text("small middle", left + 65, top + 45, what)
    picture.arrow((200, 44), (81, 118))
    picture.arrow((280, 44), (399, 118))
    picture.arrow((146, 134), (332, 134))
    picture.arrow((334, 164), (148, 164))
    picture.arrow((81, 178), (81, 343), (173, 343))
    picture.arrow((399, 178), (399, 343), (307, 343))
    _label(picture, "made", "waiting", "end", 128, 76)
    _label(picture, "made", "started", "", 352, 76)
    _label(picture, "waiting", "started", "middle", 240, 128)
    _label(picture, "started", "waiting", "middle", 240, 184)
    _label(picture, "waiting", "finished", "", 90, 214)
    _label(picture, "started", "finished", "end", 390, 290)
    return picture


def _label(picture: Picture, begin: str, end: str, kind: str, x: float, y: float) -> None:
    labels = [way.label for way in WAYS if (way.begin, way.end) == (begin, end)]
    lines = [line for label in labels for line in textwrap.wrap(label, _LABEL_WIDTH)]
    picture.text(f"small {kind}".rstrip(), x, y, *lines)


PICTURES = {"token-lifecycle.svg": token_lifecycle, "call-states.svg": call_states}


def main(arguments: list[str]) -> int:
    """Write the pictures, or compare them."""
    drawn = {FOLDER / name: str(draw()) for name, draw in PICTURES.items()}
    if arguments == ["--check"]:
        ways = {(way.caller, way.callee) for way in WAYS}
        current = all(path.exists() and path.read_text() == text for path, text in drawn.items())
        return int(ways != ways_of_the_code() or not current)
    for path, text in drawn.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
