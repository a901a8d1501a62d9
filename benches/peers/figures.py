"""The arithmetic of benches/peers: from what readers and the kernel counted to the figures in the table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

# Figures of one run, by name; the unit is part of the name.
Figures = dict[str, float]


def percentile(values: Sequence[float], p: float) -> float:
    """The nearest-rank percentile, 0 < p <= 100; NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * p / 100) - 1)]


def delivery(readers: Mapping[int, Mapping[str, Any]], pushed: Sequence[int], seconds: float) -> Figures:
    """What the readers have of what the cameras pushed.

    readers: per camera what `witness.py` writes; a camera that is not there delivered nothing.
    pushed: pictures that each camera sent in the window for certain. The readers may know of one more.
    """
    seen = expected = 0
    worst = math.inf
    latencies: list[int] = []
    for number, sent in enumerate(pushed):
        camera = readers.get(number, {})
        seen += camera.get("seen", 0)
        expected += max(camera.get("expected", 0), sent)
        worst = min(worst, camera.get("seen", 0) / seconds)
        latencies += camera.get("latencies_us", [])
    return {
        "frames": seen,
        "delivered_percent": 100 * seen / expected if expected else math.nan,
        "torn": sum(camera["torn"] for camera in readers.values()),
        "disorder": sum(camera["disorder"] for camera in readers.values()),
        "worst_camera_fps": worst,
        "latency_p50_ms": percentile(latencies, 50) / 1e3,
        "latency_p99_ms": percentile(latencies, 99) / 1e3,
    }


def median(values: Sequence[float]) -> float:
    """Of those that are numbers; NaN of nothing."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.median(numbers) if numbers else math.nan


def summary(runs: Sequence[Figures]) -> dict[str, dict[str, Any]]:
    """Of each figure its median, and the value of each run; what is no number becomes null, for JSON."""

    def plain(value: float) -> float | None:
        return round(value, 4) if math.isfinite(value) else None

    names = dict.fromkeys(name for run in runs for name in run)
    found = {name: [run.get(name, math.nan) for run in runs] for name in names}
    return {
        name: {"median": plain(median(values)), "runs": [plain(value) for value in values]}
        for name, values in found.items()
    }
