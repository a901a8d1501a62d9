#!/usr/bin/python3
"""Draws what benches/peers measured, and prints a table for the README: plot.py peers.json peers.svg

One row per peer, one bar per number of cameras, for CPU, latency and memory. Only the cases of 720p are
drawn. The card has a background of its own, so that it reads the same on light and on dark pages.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

WIDTH, LEFT, GAP = 960, 172, 22
TOP, BAR, BAR_GAP, ROW_GAP = 118, 13, 3, 15
INK, MUTED, GRID, CARD, EDGE = "#1f2328", "#59636e", "#e4e8ec", "#ffffff", "#d1d9e0"
# From few cameras to many; camring's own in its colour, the others in grey.
OWN = ("#9ed3c2", "#45a78a", "#0b6e54")
OTHERS = ("#cfd6dd", "#98a4b0", "#5f6c79")
FLOOR = "#c2410c"
FONTS = "system-ui, -apple-system, Segoe UI, DejaVu Sans, Arial, sans-serif"
NAMES = {
    "camring": ("camring", "frames in place"),
    "gstreamer": ("GStreamer", "shmsink → shmsrc"),
    "opencv": ("OpenCV", "shared_memory + lock"),
    "ffmpeg": ("ffmpeg", "pipe → shared memory"),
    "pyav": ("PyAV", "decoding only, no IPC"),
}


def text(x: float, y: float, words: str, *, size: int = 12, colour: str = INK, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" {more}>{escape(words)}</text>'


def line(x: float, top: float, bottom: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{colour}" {more}/>'


def short(value: float) -> str:
    """Two or three digits: this is a picture."""
    if value >= 995:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 2 else f"{value:.2f}"


def milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"


class Panel:
    """One measure: where its bars begin, and how long they are."""

    def __init__(self, title: str, unit: str, x: float, width: float, *, low: float = 0, high: float) -> None:
        """`low` above 0: a logarithmic scale that begins there."""
        self.title, self.unit, self.x, self.width = title, unit, x, width
        self.low, self.high = low, high

    def at(self, value: float) -> float:
        if self.low > 0:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = value / self.high
        return self.x + self.width * min(1.0, share)

    def ticks(self) -> list[float]:
        if self.low > 0:
            return [10.0**n for n in range(round(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)]
        step = 10 ** math.floor(math.log10(self.high))
        step = next(step * part for part in (0.5, 1, 2, 5) if self.high / (step * part) <= 4)
        return [step * n for n in range(int(self.high / step) + 1)]


def median(case: dict[str, Any], peer: str, name: str) -> float | None:
    value: float | None = case["peers"].get(peer, {}).get(name, {}).get("median")
    return value


def bars(case: dict[str, Any], peer: str, shade: int, y: float, panels: list[Panel]) -> Iterator[str]:
    """One case of one peer, in all panels."""
    colour = (OWN if peer == "camring" else OTHERS)[shade]
    middle = y + BAR - 3
    cpu, latency, memory = panels
    if (cores := median(case, peer, "cpu_cores")) is not None:
        yield rect(cpu.x, y, cpu.at(cores) - cpu.x, colour)
        words = short(cores)
        delivered = median(case, peer, "delivered_percent") or 0.0
        yield text(cpu.at(cores) + 5, middle, words, size=11)
        if delivered < 99.5:
            where = cpu.at(cores) + 9 + 6.5 * len(words)
            yield text(where, middle, f"{delivered:.0f} % delivered", size=10, colour=FLOOR)
        floor = cpu.at(case["floor_ms"] * case["fps"] * case["cameras"] / 1e3)
        yield line(floor, y - 1, y + BAR + 1, FLOOR, 'stroke-width="2"')
    p50, p99 = median(case, peer, "latency_p50_ms"), median(case, peer, "latency_p99_ms")
    if p50 is not None and p99 is not None:
        begin, end, half = latency.at(p50), latency.at(p99), y + BAR / 2
        yield (
            f'<line x1="{begin:.1f}" y1="{half}" x2="{end:.1f}" y2="{half}" stroke="{colour}" '
            f'stroke-width="4" stroke-linecap="round"/>'
            f'<circle cx="{begin:.1f}" cy="{half}" r="5" fill="{colour}"/>'
        )
        yield text(end + 8, middle, f"{milliseconds(p50)} / {milliseconds(p99)}", size=11)
    if (mib := median(case, peer, "memory_mib")) is not None:
        yield rect(memory.x, y, memory.at(mib) - memory.x, colour)
        yield text(memory.at(mib) + 5, middle, short(mib), size=11)


def rect(x: float, y: float, width: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
    )


def draw(result: dict[str, Any]) -> str:
    cases = [case for case in result["cases"] if case["clip"] == "h264-720p6"][-3:]
    if not cases:
        raise SystemExit("no case of 720p in this file: run the bench with --cases 8,20,50")
    peers = [name for name in NAMES if any(name in case["peers"] for case in cases)]
    shades = range(3 - len(cases), 3)
    row = len(cases) * (BAR + BAR_GAP) + ROW_GAP
    bottom = TOP + len(peers) * row - ROW_GAP / 2

    def highest(name: str) -> float:
        return max(median(case, peer, name) or 0.0 for case in cases for peer in peers)

    width = (WIDTH - LEFT - 2 * GAP - 20) / 3
    slowest = 10 ** math.ceil(math.log10(max(100.0, highest("latency_p99_ms"))))
    panels = [
        Panel("CPU", "cores, all processes", LEFT, width - 50, high=highest("cpu_cores")),
        Panel("Latency", "ms, camera → reader", LEFT + width + GAP, width - 88, low=1, high=slowest),
        Panel(
            "Memory",
            "MiB, shared counted once",
            LEFT + 2 * (width + GAP),
            width - 44,
            high=highest("memory_mib"),
        ),
    ]
    height = bottom + 62
    fps = cases[0]["fps"]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" font-family="{FONTS}">',
        f"<title>{escape(f'camring and what people use today, 720p at {fps} fps')}</title>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="8" fill="{CARD}" '
        f'stroke="{EDGE}"/>',
        text(
            20,
            30,
            f"Cameras of 1280×720 at {fps} fps, read into another process",
            size=16,
            more='font-weight="600"',
        ),
    ]
    x = 20.0
    for shade, case in zip(shades, cases, strict=True):
        out.append(f'<rect x="{x}" y="43" width="8" height="{BAR}" fill="{OWN[shade]}"/>')
        out.append(f'<rect x="{x + 8}" y="43" width="8" height="{BAR}" fill="{OTHERS[shade]}"/>')
        out.append(text(x + 22, 54, f"{case['cameras']} cameras"))
        x += 104
    out.append(line(x + 6, 42, 57, FLOOR, 'stroke-width="2"'))
    out.append(text(x + 14, 54, "bare decoding"))
    out.append(f'<circle cx="{x + 122}" cy="49.5" r="5" fill="{OTHERS[2]}"/>')
    out.append(f'<rect x="{x + 122}" y="47.5" width="30" height="4" rx="2" fill="{OTHERS[2]}"/>')
    out.append(text(x + 160, 54, "p50 to p99, logarithmic"))
    for panel in panels:
        unit = f'<tspan dx="6" font-size="11" fill="{MUTED}" font-weight="400">{escape(panel.unit)}</tspan>'
        heading = f'<tspan font-weight="600">{panel.title}</tspan>{unit}'
        out.append(f'<text x="{panel.x:.1f}" y="86" font-size="13" fill="{INK}">{heading}</text>')
        for tick in panel.ticks():
            out.append(line(panel.at(tick), 106, bottom, GRID))
            words = f"{tick:,.0f}" if tick >= 1 or tick == 0 else f"{tick:.1f}"
            words = f"{tick:.1f}" if panel.high < 5 else words
            # Long numbers would run into each other.
            words = f"{tick / 1000:.0f}k" if tick >= 10_000 else words
            out.append(text(panel.at(tick), 102, words, size=10, colour=MUTED, more='text-anchor="middle"'))
    for number, peer in enumerate(peers):
        y = TOP + number * row
        name, how = NAMES[peer]
        weight = 'font-weight="600"' if peer == "camring" else ""
        out.append(text(20, y + 13, name, size=13, more=weight))
        out.append(text(20, y + 29, how, size=11, colour=MUTED))
        for at, (shade, case) in enumerate(zip(shades, cases, strict=True)):
            out += bars(case, peer, shade, y + at * (BAR + BAR_GAP), panels)
    out.append(
        text(
            20,
            height - 32,
            f"{result['machine']}; cameras on the same machine, not counted.",
            size=11,
            colour=MUTED,
        )
    )
    runs = f"{result['runs']} runs" if result["runs"] > 1 else "one run"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    out.append(
        text(
            20, height - 15, f"{runs}, windows of {result['seconds']:g} s; {versions}", size=11, colour=MUTED
        )
    )
    return "\n".join([*out, "</svg>", ""])


def table(result: dict[str, Any]) -> Iterator[str]:
    """Of the largest case of 720p, in Markdown."""
    case = next(case for case in reversed(result["cases"]) if case["clip"] == "h264-720p6")
    columns = (
        ("CPU", "cpu_cores", "{:.2f} cores"),
        ("delivered", "delivered_percent", "{:.1f} %"),
        ("latency p50 / p99", "latency_p50_ms", "{:.0f} / "),
        ("", "latency_p99_ms", "{:,.0f} ms"),
        ("memory", "memory_mib", "{:,.0f} MiB"),
        ("processes / threads", "processes", "{:.0f} / "),
        ("", "threads", "{:.0f}"),
    )
    yield f"| {case['title']} | " + " | ".join(title for title, _, _ in columns if title) + " |"
    yield "|---" * (1 + sum(bool(title) for title, _, _ in columns)) + "|"
    for peer, (name, how) in NAMES.items():
        if peer in case["peers"]:
            cells = ""
            for title, figure, form in columns:
                value = median(case, peer, figure)
                cells += (" | " if title else "") + ("–" if value is None else form.format(value))
            yield f"| {name}, {how}{cells} |"


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    target = Path(sys.argv[2])
    target.parent.mkdir(parents=True, exist_ok=True)
    result = json.loads(Path(sys.argv[1]).read_text())
    target.write_text(draw(result))
    print("\n".join(table(result)))


if __name__ == "__main__":
    main()
