"""The tables of the documentation, each made of the figures of one part of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

_DASH = "–"
_OURS = "aio_authgrpc"


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> str:
    """Return a Markdown table; what comes after the columns of text is aligned to the right."""
    rules = ["---"] * text_columns + ["---:"] * (len(columns) - text_columns)
    lines = [columns, rules, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int = 0) -> str:
    """Return a number whose digits are grouped by a space that does not break; a dash for None."""
    return _DASH if value is None else f"{value:,.{digits}f}".replace(",", "\N{NO-BREAK SPACE}")


def _quartiles(spread: dict[str, float], digits: int) -> str:
    return f"{spread['q1']:.{digits}f}–{spread['q3']:.{digits}f}"


def _name(contender: str) -> str:
    return f"**{contender}**" if contender == _OURS else contender


def conditions(figures: dict[str, Any]) -> str:
    """When, with what and on what each part was measured."""
    columns = ("Part", "Measured", "Command", "Python", "grpcio", "google-auth", "aiohttp", "Machine", "Load")
    rows = [
        (
            part,
            one["measured_at"],
            f"`{one['command'].removeprefix('python benchmarks/')}`",
            *(one["machine"][name] for name in ("python", "grpcio", "google-auth", "aiohttp")),
            f"{one['machine']['cores']} cores, {one['machine']['memory_gb']} GB",
            f"{one['load_before']:.1f}, {one['load_after']:.1f}",
        )
        for part, one in figures.items()
    ]
    return markdown(columns, rows, text_columns=len(columns))


# In front of the other contenders.
_FIRST = ("plain", "plain again", _OURS)


def _place(contender: str) -> int:
    return _FIRST.index(contender) if contender in _FIRST else len(_FIRST)


def overhead(result: dict[str, Any]) -> str:
    """What each contender costs in each mode, as a ratio and in microseconds."""
    rows = []
    for mode, contenders in result["modes"].items():
        in_order = sorted(contenders.items(), key=lambda item: _place(item[0]))
        for place, (contender, own) in enumerate(in_order):
            rows.append(
                (
                    mode if place == 0 else "",
                    _name(contender),
                    f"{own['cpu_ratio']['median']:.3f}",
                    _quartiles(own["cpu_ratio"], 3),
                    number(own["over_plain_us"]["median"], 1),
                    f"{own['wall_ratio']['median']:.3f}",
                    *(number(own[name]["median"], 1) for name in ("cpu_us", "wall_us")),
                )
            )
    columns = (
        *("Mode", "Contender", "CPU ratio", "Quartiles", "CPU µs over plain"),
        *("Wall ratio", "CPU µs", "Wall µs"),
    )
    return markdown(columns, rows, text_columns=2)


def counted(result: dict[str, Any]) -> str:
    """Function calls and objects, which noise does not touch."""
    functions, objects = result["functions"], result["objects"]
    rows = [
        ("a unary call", number(functions["call"]), number(functions["sent"]), f"{objects['call']:.1f}"),
        ("a message", number(functions["message"]), _DASH, f"{abs(objects['message']):.1f}"),
    ]
    return markdown(("For", "Functions", "Until it is sent", "Tracked objects"), rows)


def instructions(result: dict[str, Any]) -> str:
    """Processor instructions of each mode, and their ratio to a plain channel's."""
    counts = result["instructions"]
    contenders = sorted(next(iter(counts.values())), key=_place)
    rows = [
        (
            mode,
            *(number(round(of_mode[name], -2)) for name in contenders),
            *(f"{of_mode[name] / of_mode['plain']:.3f}" for name in contenders if name != "plain"),
        )
        for mode, of_mode in counts.items()
    ]
    of_plain = (f"{_name(name)}, of plain" for name in contenders if name != "plain")
    return markdown(("Mode", *map(_name, contenders), *of_plain), rows)


def versions(result: dict[str, Any]) -> str:
    """The ratios of versions of grpcio."""
    modes = list(result["versions"][0]["modes"])
    rows = [
        (
            one["grpcio"],
            *(
                f"{one['modes'][mode][contender]['cpu_ratio']['median']:.3f}"
                for mode in modes
                for contender in (_OURS, "plain again")
            ),
            number(one["counted"]["functions"]["call"]),
            f"{one['counted']['objects']['call']:.1f}",
        )
        for one in result["versions"]
    ]
    columns = [text for mode in modes for text in (f"{mode}", "plain again")]
    return markdown(("grpcio", *columns, "Functions", "Objects"), rows)


def cold(result: dict[str, Any]) -> str:
    """Crowds without a token beside crowds with one."""
    rows = [
        (
            number(int(size)),
            *(number(own[name]) for name in ("token_requests", "failed", "tasks", "threads")),
            f"{own['ratio']['median']:.2f}",
            _quartiles(own["ratio"], 2),
            *(
                number(own[name]["median"], 1)
                for name in ("cold_us", "warm_us", "waiting_us", "cancelled_us")
            ),
        )
        for size, own in result["sizes"].items()
    ]
    columns = (
        *("Calls", "Token requests", "Failures", "Tasks", "Threads", "CPU, cold / warm", "Quartiles"),
        *("CPU µs, cold", "CPU µs, warm", "of cold: until it waits", "CPU µs until it is cancelled"),
    )
    return markdown(columns, rows, text_columns=0)


def storm(result: dict[str, Any]) -> str:
    """Storms of callers by who calls."""
    sizes = list(next(iter(result["storms"].values())))
    rows = [
        (
            number(int(size)) if who == "plain" else "",
            _name(who),
            *(number(own[size][name]) for name in ("token_requests", "threads", "failed")),
            number(1000 * own[size]["stall"]),
            *(number(own[size][name], 2) for name in ("wall", "cpu")),
        )
        for size in sizes
        for who, own in result["storms"].items()
    ]
    columns = (
        *("Callers", "Channel", "Token requests", "Threads", "Failures"),
        *("Longest stall, ms", "Wall, s", "CPU, s"),
    )
    return markdown(columns, rows, text_columns=2)


def first_answer(result: dict[str, Any]) -> str:
    """The time to the first answer."""
    names = {"ready": "`connect(ready_timeout=10)`", "connect": "`connect()`", "lazy": "`LazyChannel`"}
    rows = [
        (
            names[way],
            number(own["ms"]["median"]),
            _quartiles(own["ms"], 0),
            f"{own['ratio']['median']:.2f}",
            _quartiles(own["ratio"], 2),
        )
        for way, own in result["ways"].items()
    ]
    return markdown(("Opened with", "ms", "Quartiles", "Ratio", "Quartiles"), rows)


def loop_stall(result: dict[str, Any]) -> str:
    """The longest stalls of the first call, phase by phase."""
    rows = [
        (
            _name(who) if number_ == 0 else "",
            phase,
            f"{spread['median']:.1f}",
            _quartiles(spread, 1),
            f"{spread['maximum']:.1f}",
        )
        for who, own in result["callers"].items()
        for number_, (phase, spread) in enumerate(own["ms"].items())
        if phase != "longest"
    ]
    return markdown(("Channel", "Phase", "Median ms", "Quartiles", "Maximum"), rows, text_columns=2)


def rotation(result: dict[str, Any]) -> str:
    """Latencies of windows with and without a rotation."""
    rows = [
        (
            _name(who),
            f"{part} a rotation",
            number(own["calls"]),
            *(f"{own[name]:.1f}" for name in ("p50", "p99", "p99.9")),
        )
        for who, parts in result["latency"].items()
        for part, own in parts.items()
    ]
    return markdown(("Channel", "Windows", "Calls", "p50, ms", "p99, ms", "p99.9, ms"), rows, text_columns=2)


def memory(result: dict[str, Any]) -> str:
    """Memory of channels that share a credential."""
    plain, ours = result["channels"]["plain"], result["channels"][_OURS]
    rows = [
        (
            number(int(count)),
            *(number(kb, 1) for kb in (plain[count]["kb"], own["kb"], own["kb"] - plain[count]["kb"])),
            *(number(own[name]) for name in ("tokens", "tokens_a_rotation")),
        )
        for count, own in ours.items()
    ]
    columns = (
        *("Channels", "kB each, plain", "kB each, aio_authgrpc", "Difference"),
        *("Tokens fetched", "Tokens a rotation"),
    )
    return markdown(columns, rows, text_columns=0)


def import_time(result: dict[str, Any]) -> str:
    """What imports take."""
    names = {
        "needed_ms": "grpc, grpc.aio, google.auth, aiohttp",
        "added_ms": "aio_authgrpc and `connect` beside them",
        "lazy_ms": "all other names on top",
    }
    rows = [
        (text, f"{result[key]['median']:.1f}", _quartiles(result[key], 1), f"{result[key]['minimum']:.1f}")
        for key, text in names.items()
    ]
    return markdown(("Import", "Median ms", "Quartiles", "Minimum"), rows)


def soak(result: dict[str, Any]) -> str:
    """What a soak found."""
    kept = ("promises broken", _sentences(result["broken"]))
    return markdown(("Quantity", "Figure"), [*result["figures"].items(), kept])


def _sentences(broken: Sequence[str]) -> str:
    return " ".join(broken) or "none"


def soak_versions(result: dict[str, Any]) -> str:
    """Soaks by version."""
    rows = []
    for one in result["soaks"]:
        measures = one.get("measures")
        figures = (
            ("not run: not installed", *[_DASH] * 6)
            if measures is None
            else (
                number(measures["calls"]),
                number(measures["unexplained"]),
                f"{measures['memory_growth']:.1f}",
                number(measures["memory_growth_per_hour"]),
                number(measures["tasks_left"]),
                number(measures["threads_left"]),
                _sentences(one["broken"]),
            )
        )
        rows.append((one["python"], one["grpcio"], *figures))
    columns = (
        *("Python", "grpcio", "Calls", "Failures without an explanation", "MB more while it was watched"),
        *("carried forward, MB an hour", "Tasks left", "Threads left", "Promises broken"),
    )
    return markdown(columns, rows, text_columns=2)


def burst(result: dict[str, Any]) -> str:
    """Bursts above the limit of streams, by server and limit of connections."""
    rows = [
        (
            row["server"],
            number(row["size"]),
            row["contender"],
            number(row["failed"]),
            number(row["per_second"]),
            f"{row['to_plain']:.2f}",
            f"{row['share']:.2f} ({row['allowed_by']})",
            number(row["connections"]),
            number(row["cpu_us"]),
        )
        for row in result["bursts"]
    ]
    columns = (
        *("Server", "Calls", "Connections at most", "Failures", "Calls a second", "Ratio to plain"),
        *("Share of what is allowed", "Connections", "CPU µs"),
    )
    return markdown(columns, rows, text_columns=3)


def burst_plot(_: dict[str, Any]) -> str:
    """The plot of the bursts, where there is one."""
    return "![Answered calls a second and failures by calls at once, for each limit](../figures/burst.svg)"


def quiet(result: dict[str, Any]) -> str:
    """Calls one after another: what scaling costs who does not need it."""
    rows = [
        (
            contender,
            number(own["cpu_us"]["median"], 1),
            _quartiles(own["cpu_us"], 1),
            f"{own['to_one_connection']:.3f}",
            number(own["connections"]),
        )
        for contender, own in result["in_a_row"].items()
    ]
    columns = ("Connections at most", "CPU µs", "Quartiles", "Ratio to one connection", "Connections")
    return markdown(columns, rows)


def shared_store(result: dict[str, Any]) -> str:
    """A fleet of processes with one store."""
    rows = [
        (phase, *(number(result[phase][name]) for name in ("calls", "failed", "token_requests")))
        for phase in ("cold", "killed")
    ]
    return markdown(("Store", "Calls", "Failures", "Token requests"), rows)


def simulation(result: dict[str, Any]) -> str:
    """A day of a fleet."""
    names = ("most_at_deployment", "most_before_outage", "most_in_outage", "most_after_outage")
    rows = [
        (
            one["name"],
            number(one["requests"]),
            *(number(one[name]) for name in names),
            number(one["lost"]),
            number(one["lost_while_token_lived"]),
            *(number(one[name]) for name in ("first_lost_after", "half_back_after", "all_back_after")),
        )
        for one in result["scenarios"]
    ]
    columns = (
        *("Fleet", "Token requests", "a second at most: deployment", "3 h before the outage"),
        *("in the outage", "after it", "Workers without a token", "of them while theirs lived"),
        *("first after, s", "half back after, s", "all back after, s"),
    )
    return markdown(columns, rows)


Table = Callable[[dict[str, Any]], str]
TABLES: dict[str, tuple[str, Table]] = {
    "conditions": ("", conditions),
    "overhead": ("overhead", overhead),
    "counted": ("counted", counted),
    "instructions": ("instructions", instructions),
    "uvloop": ("uvloop", overhead),
    "go": ("go", overhead),
    "node": ("node", overhead),
    "versions": ("versions", versions),
    "cold": ("cold", cold),
    "storm": ("storm", storm),
    "first_answer": ("first_answer", first_answer),
    "loop_stall": ("loop_stall", loop_stall),
    "rotation": ("rotation", rotation),
    "memory": ("memory", memory),
    "import_time": ("import_time", import_time),
    "soak": ("soak", soak),
    "soak_versions": ("soak_versions", soak_versions),
    "burst": ("burst", burst),
    "burst_wide": ("burst_wide", burst),
    "burst_plot": ("burst", burst_plot),
    "quiet": ("burst", quiet),
    "shared_store": ("shared_store", shared_store),
    "simulation": ("simulation", simulation),
}
"""Each table with the part that it is made of; the first is made of all of them."""
