"""The plots of the documentation, made of the files of the report. Needs matplotlib.

They stand on light and on dark pages, and are read on telephones: transparent, in colours of middle
brightness, narrow, with the parts of a plot below each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from results import FIGURES, Result

_INK = "#7d8790"
_COLOURS = {
    "aio_authgrpc": "#1f9d6b",
    "plain": "#8a94a0",
    "plain again": "#8a94a0",
    "google-auth": "#d9772b",
    "interceptor": "#4c86d8",
    "gcloud-aio-auth": "#a667c9",
    "telemetry": "#4fb3bf",
}
_ORDER = ["#1f9d6b", "#d9772b", "#4c86d8", "#a667c9", "#c9a227", "#d0557f", "#4fb3bf", "#8a94a0"]
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.prop_cycle": cycler(color=_ORDER),
    "font.family": "sans-serif",
    "font.size": 10.5,
    "grid.alpha": 0.35,
    "grid.color": _INK,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    # The same figures make the same file. Letters are drawn: a page's fonts are not an image's.
    "legend.markerscale": 1.5,
    "svg.hashsalt": "aio_authgrpc",
    "svg.fonttype": "path",
}
_WIDTH = 5.2
# Seconds, of a line that would hide the others.
_BIN = 10


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(_WIDTH, height * count), layout="constrained")
    return figure, list(figure.subplots(count, 1, squeeze=False)[:, 0])


def _plain_numbers(axis: Axis) -> None:
    """Write 10 000, not a power of ten; there is room for some of them."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}".replace(",", "\N{THIN SPACE}")))
    axis.set_minor_formatter(NullFormatter())


def _legend_above(figure: Figure, panel: Axes, columns: int = 3) -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=9.5)


def overhead(result: dict[str, Any]) -> Figure:
    """Bars of the CPU time over a plain channel's, by mode and contender."""
    modes = [mode for mode in ("sequential", "wide", "concurrent", "stream") if mode in result["modes"]]
    figure, panels = _panels(len(modes), 1.75)
    spreads = [own["cpu_ratio"] for mode in modes for own in result["modes"][mode].values()]
    limits = (min(one["q1"] for one in spreads) - 0.05, max(one["q3"] for one in spreads) + 0.05)
    for panel, mode in zip(panels, modes, strict=True):
        own = {name: one for name, one in result["modes"][mode].items() if name != "plain"}
        names = sorted(own, key=lambda name: -own[name]["cpu_ratio"]["median"])
        for place, name in enumerate(names):
            spread = own[name]["cpu_ratio"]
            panel.barh(place, spread["median"] - 1, left=1, color=_COLOURS[name], height=0.62)
            panel.plot([spread["q1"], spread["q3"]], [place, place], color=_INK, linewidth=1)
        panel.set_yticks(range(len(names)), names)
        panel.axvline(1, color=_INK, linewidth=1)
        panel.set_xlim(*limits)
        panel.set_title(f"{mode}: CPU time, plain = 1")
        panel.grid(axis="y", visible=False)
    return figure


def storm(result: dict[str, Any]) -> Figure:
    """Token requests, threads, stall and CPU time by the number of callers."""
    figure, panels = _panels(4, 2.1)
    shown = {
        "token requests": ("token_requests", 1.0),
        "threads at most": ("threads", 1.0),
        "longest stall of the loop, ms": ("stall", 1000.0),
        "CPU time of all calls, ms": ("cpu", 1000.0),
    }
    for panel, (title, (key, factor)) in zip(panels, shown.items(), strict=True):
        for who, of_size in result["storms"].items():
            sizes = [int(size) for size in of_size]
            values = [factor * own[key] for own in of_size.values()]
            panel.plot(sizes, values, marker="o", color=_COLOURS[who], label=who)
        panel.set_title(title)
        panel.set_xscale("log")
        _plain_numbers(panel.xaxis)
        panel.set_yscale("symlog" if factor == 1 else "log")
        if factor == 1:
            most = max(own[key] for of_size in result["storms"].values() for own in of_size.values())
            panel.set_ylim(0, 2 * most)
        _plain_numbers(panel.yaxis)
    _legend_above(figure, panels[0])
    panels[-1].set_xlabel("callers at once")
    return figure


def rotation(result: dict[str, Any]) -> Figure:
    """The latency of each window, with the times in which a token was being fetched."""
    figure, panels = _panels(2, 2.1)
    for panel, who in zip(panels, ("aio_authgrpc", "plain"), strict=True):
        windows = result["windows"][who]
        at = [one["at"] for one in windows]
        panel.plot(at, [one["max"] for one in windows], color=_COLOURS[who], linewidth=1, label="largest")
        medians = [one["median"] for one in windows]
        panel.plot(at, medians, color=_COLOURS[who], linestyle=":", label="median")
        for number, (start, end) in enumerate(result["rotations"]):
            label = "a token is fetched" if number == 0 else None
            panel.axvspan(max(0.0, start), min(end, at[-1]), color=_ORDER[4], alpha=0.35, lw=0, label=label)
        panel.set_title(f"{who}: latency in windows of 100 ms, in ms")
        panel.set_yscale("log")
        panel.set_xlim(0, at[-1])
        _plain_numbers(panel.yaxis)
    _legend_above(figure, panels[0])
    panels[-1].set_xlabel("seconds")
    return figure


def memory(result: dict[str, Any]) -> Figure:
    """Memory per channel by the number of channels."""
    figure, (panel,) = _panels(1, 2.6)
    for who, of_count in result["channels"].items():
        counts = [int(count) for count in of_count]
        values = [own["kb"] for own in of_count.values()]
        panel.plot(counts, values, marker="o", color=_COLOURS[who], label=who)
    panel.set_xscale("log")
    _plain_numbers(panel.xaxis)
    panel.set_ylim(bottom=0)
    panel.set_title("kB for each connected channel")
    panel.set_xlabel("channels that share a credential")
    panel.legend()
    return figure


def burst(result: dict[str, Any]) -> Figure:
    """Throughput and failures by calls at once, for each server and limit of connections."""
    rows = [row for row in result["bursts"] if not row["contender"].endswith(("held", "in turn"))]
    servers = sorted({row["server"] for row in rows})
    contenders = list(dict.fromkeys(row["contender"] for row in rows))
    figure, panels = _panels(2 * len(servers), 2.1)
    for number, server in enumerate(servers):
        above, below = panels[2 * number : 2 * number + 2]
        for contender in contenders:
            own = [row for row in rows if (row["server"], row["contender"]) == (server, contender)]
            sizes = [row["size"] for row in own]
            above.plot(sizes, [row["per_second"] for row in own], marker="o", label=contender)
            below.plot(sizes, [100 * row["failed_share"] for row in own], marker="o")
        above.set_title(f"{server}: answered calls a second")
        below.set_title(f"{server}: failed, per cent")
        below.set_ylim(-5, 105)
        for panel in (above, below):
            panel.set_xscale("log")
            _plain_numbers(panel.xaxis)
            panel.set_xticks(sorted({row["size"] for row in rows}))
    _legend_above(figure, panels[0], columns=4)
    panels[-1].set_xlabel("calls at once")
    return figure


def simulation(result: dict[str, Any]) -> Figure:
    """Token requests of a day, and around the outage."""
    figure, (day, outage) = _panels(2, 2.7)
    for one in result["scenarios"]:
        minutes, most = zip(*one["most_by_minute"], strict=True)
        hours = [minute / 60 for minute in minutes]
        day.plot(hours, most, ".", markersize=2.5, label=one["name"])
        seconds = one["outage_by_second"]
        starts = range(0, len(seconds), _BIN)
        peaks = [max(seconds[start : start + _BIN]) for start in starts]
        outage.plot([start - 60 for start in starts], peaks)
    day.set_title("most token requests in a second of each minute")
    day.set_yscale("log")
    day.set_xlabel("hours since the deployment")
    day.set_xticks(range(0, 25, 4))
    _plain_numbers(day.yaxis)
    outage.axvspan(0, result["outage"], color=_INK, alpha=0.2, lw=0)
    outage.set_title(f"the same of each {_BIN} s around the outage")
    outage.set_yscale("symlog")
    outage.set_ylim(bottom=0)
    _plain_numbers(outage.yaxis)
    outage.set_xlabel("seconds since it began")
    for line in day.get_lines():
        line.set_markersize(3.5)
    _legend_above(figure, day, columns=2)
    return figure


PLOTS: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "overhead": overhead,
    "storm": storm,
    "rotation": rotation,
    "memory": memory,
    "burst": burst,
    "simulation": simulation,
}
"""Each plot, by the part that it is made of."""


def draw_all(figures: Mapping[str, Result]) -> Iterator[str]:
    """Write the plot of each part that was measured; yield their names."""
    for part, draw in PLOTS.items():
        if part in figures:
            with mpl.rc_context(_STYLE):
                path = FIGURES / f"{part}.svg"
                draw(figures[part]["result"]).savefig(path, transparent=True, metadata={"Date": None})
                yield path.name
