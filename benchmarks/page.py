"""The figures of README and documentation, filled in from the files of the report.

Two comments mark what is filled in, and everything else of a page is written by hand:

    <!--= overhead/modes/concurrent/aio_authgrpc/cpu_ratio/median:.2f -->1.04<!--/-->

is one figure: the way through the part's `result`, and a format. A format that ends in `x1000` or the like
multiplies first. And

    <!--table overhead-->
    ...
    <!--/table-->

is a table of `tables.py`. A part that was not measured has a line in place of its table, and no figure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tables
from results import ROOT, Result

_FIGURE = re.compile(r"(<!--= (?P<way>[^:>]+):(?P<format>[^ >]+) -->)(?P<text>.*?)(<!--/-->)")
_TABLE = re.compile(r"(<!--table (?P<name>\w+)-->\n)(?P<text>.*?)(<!--/table-->)", re.DOTALL)


def pages() -> list[Path]:
    """Return the files that may hold figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str, figures: Mapping[str, Result]) -> str:
    """Return the text of a page with the figures of the files.

    Raises:
        KeyError: A figure is in no file.
    """
    text = _FIGURE.sub(
        lambda found: found[1] + figure(found["way"], found["format"], figures) + found[5], text
    )
    return _TABLE.sub(lambda found: f"{found[1]}\n{_table(found['name'], figures)}\n\n{found[4]}", text)


def figure(way: str, written: str, figures: Mapping[str, Result]) -> str:
    """Return a figure as it is written in a page."""
    part, *keys = way.split("/")
    value: Any = figures[part]["result"]
    for key in keys:
        value = value[int(key)] if isinstance(value, list) else value[key]
    form, _, factor = written.partition("x")
    text = format(float(factor) * value if factor else value, form)
    # Pages group digits by a space that does not break.
    return text.replace(",", "\N{NO-BREAK SPACE}")


def _table(name: str, figures: Mapping[str, Result]) -> str:
    part, make = tables.TABLES[name]
    if part and part not in figures:
        return f"*Not measured yet: `python benchmarks/report.py --only {part}`.*"
    return make(figures[part]["result"] if part else dict(figures))


def ways(text: str) -> Iterator[str]:
    """Yield the ways of a page's figures."""
    yield from (found["way"] for found in _FIGURE.finditer(text))


def write_all(figures: Mapping[str, Result]) -> list[str]:
    """Fill all pages; return the names of those that changed."""
    changed = []
    for path in pages():
        text = path.read_text()
        if (new := filled(text, figures)) != text:
            path.write_text(new)
            changed.append(str(path.relative_to(ROOT)))
    return changed
