"""What every benchmark does with its figures: medians and quartiles, the machine, JSON or a table."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The middle of some figures and how far they spread.

    Attributes:
        median: Half of them are below it.
        q1: A quarter of them is below it.
        q3: A quarter of them is above it.
        minimum: The smallest, which noise has touched least.
        maximum: The largest.
    """

    median: float
    q1: float
    q3: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """Return the spread of one or more figures."""
        enough = figures if len(figures) > 1 else [*figures, *figures]  # `quantiles` wants two
        q1, median, q3 = statistics.quantiles(enough, n=4, method="inclusive")
        return cls(median=median, q1=q1, q3=q3, minimum=min(figures), maximum=max(figures))

    def with_quartiles(self, digits: int = 3) -> tuple[str, str]:
        """Return the median, and the two quartiles, as text."""
        return f"{self.median:.{digits}f}", f"{self.q1:.{digits}f}–{self.q3:.{digits}f}"


def machine() -> dict[str, object]:
    """Return what the figures depend on."""
    versions = {name: importlib.metadata.version(name) for name in ("grpcio", "google-auth", "aiohttp")}
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30),
        "load": os.getloadavg()[0],
        **versions,
    }


def print_json(figures: Mapping[str, object]) -> None:
    """Print figures for machines, spreads included."""
    Console().print_json(json.dumps({"machine": machine(), **figures}, default=asdict))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print figures for people: the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # What is not a terminal has no width of its own, and 80 columns would cut figures off.
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def print_note(text: str) -> None:
    """Print a line of text as it is."""
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
