"""Time limits for what may hang, longer on a machine that has more to do than it has cores.

A limit tells a test that hangs from one that is slow. How slow depends on the machine's load.
"""

from __future__ import annotations

import os


def patience(seconds: float) -> float:
    """Return how long to wait for what takes less than `seconds` on an idle machine.

    The load of the last minute says how many processes share a core. It is doubled: a machine that was idle
    a moment ago may be busy now.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return seconds * max(1.0, 2 * load / (os.cpu_count() or 1))
