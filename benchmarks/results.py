"""Where the figures of the documentation are kept: one JSON file for each part of the report.

A file has the benchmark's own JSON as `result`, and beside it the date, the command, the machine with its
versions, and its load before and after.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"

Result = dict[str, Any]


def path_of(part: str) -> Path:
    """Return the file of a part."""
    return FIGURES / f"{part}.json"


def keep(part: str, result: Result) -> None:
    """Write the file of a part."""
    FIGURES.mkdir(exist_ok=True)
    path_of(part).write_text(json.dumps(rounded(result), indent=1, ensure_ascii=False) + "\n")


def load_all() -> dict[str, Result]:
    """Return all files, by part."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FIGURES.glob("*.json"))}


def rounded(value: Any) -> Any:
    """Return the same with floats of six digits at most: what is beyond them is noise."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value
