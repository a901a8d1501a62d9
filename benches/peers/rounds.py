"""What the drivers of the benches that compare camring with others have in common: who takes part, whose turn
it is, and what is written down."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import figures
import processes
import stand
from environment import Environment, Missing


@dataclasses.dataclass(frozen=True)
class Peer:
    """Somebody who takes part."""

    name: str
    title: str
    script: str  # empty: none of Python
    interpreter: Callable[[Environment], str]
    arguments: tuple[str, ...] = ()


def parser(bench: str, description: str | None, peers: Sequence[Peer]) -> argparse.ArgumentParser:
    """With the options that all of them have; see `checked`."""
    made = argparse.ArgumentParser(
        prog=f"cargo bench --bench {bench} --",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("camring", "helper", "target"):
        made.add_argument(f"--{name}", type=Path, required=True, help=argparse.SUPPRESS)
    made.add_argument("--peers", default=",".join(peer.name for peer in peers), help="default: %(default)s")
    made.add_argument("--runs", type=int, default=1, help="how often; figures are medians")
    made.add_argument("--json", type=Path, help=f"default: {bench}.json in the build folder")
    made.set_defaults(bench=bench)
    return made


def checked(parser: argparse.ArgumentParser, peers: Sequence[Peer]) -> argparse.Namespace:
    arguments = parser.parse_args()
    arguments.peers = arguments.peers.split(",")
    for word in arguments.peers:
        if word not in [peer.name for peer in peers]:
            parser.error(f"no peer {word!r}; there are {', '.join(peer.name for peer in peers)}")
    arguments.json = arguments.json or arguments.target / f"{arguments.bench}.json"
    return arguments


def begin() -> None:
    """Ends what was started at a signal, too, as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    if not shutil.which("setpriv"):
        sys.exit("no program setpriv (apt-get install util-linux)")


class Book:
    """Who takes part with which interpreter, and the results so far."""

    def __init__(self, arguments: argparse.Namespace, peers: Sequence[Peer]) -> None:
        self.arguments = arguments
        environment = Environment(arguments.target)
        self.pythons: dict[str, str] = {}
        left_out: dict[str, str] = {}
        found: dict[Callable[[Environment], str], str] = {}
        for peer in peers:
            if peer.name not in arguments.peers:
                continue
            try:
                if peer.interpreter not in found:
                    found[peer.interpreter] = peer.interpreter(environment)
                self.pythons[peer.name] = found[peer.interpreter]
            except Missing as why:
                left_out[peer.name] = str(why)
                print(f"left out: {peer.title}: {why}", flush=True)
        self.peers = [peer for peer in peers if peer.name in self.pythons]
        print(processes.describe())
        print(", ".join(f"{name} {version}" for name, version in environment.versions.items()), flush=True)
        self.result: dict[str, Any] = {
            "machine": processes.describe(),
            "versions": environment.versions,
            "seconds": arguments.seconds,
            "runs": arguments.runs,
            "left_out": left_out,
            "titles": {peer.name: peer.title for peer in peers},
            "cases": [],
        }

    def take_turns(
        self, title: str, clip: str, measure: Callable[[Peer, str], figures.Figures]
    ) -> dict[str, Any]:
        """All peers, `--runs` times, in turn: a case. What fails is said and left out of the medians."""
        runs: dict[str, list[figures.Figures]] = {name: [] for name in self.pythons}
        floors = [stand.floor_ms(clip, self.arguments.helper)]
        failures: list[str] = []
        for run in range(1, self.arguments.runs + 1):
            for peer in self.peers:
                what = f"{title}, run {run} of {self.arguments.runs}: {peer.title} …"
                print(what, file=sys.stderr, flush=True)
                try:
                    runs[peer.name].append(measure(peer, self.pythons[peer.name]))
                except Missing as why:
                    failures.append(f"{peer.title}, run {run}: {why}")
                    print(f"  {why}", file=sys.stderr)
            floors.append(stand.floor_ms(clip, self.arguments.helper))
        return {
            "title": title,
            "floor_ms": round(figures.median(floors), 3),
            "floors_ms": [round(floor, 3) for floor in floors],
            "peers": {name: figures.summary(of) for name, of in runs.items() if of},
            "failures": failures,
        }

    def keep(self, case: dict[str, Any]) -> None:
        """After each case: an interrupted bench leaves what it has."""
        self.result["cases"].append(case)
        text = json.dumps(self.result, indent=1, ensure_ascii=False)
        self.arguments.json.write_text(text + "\n")

    def end(self, verdicts: Iterable[str] = ()) -> None:
        """Says what the figures are, and who was left out."""
        of = self.arguments
        print(f"\nmedians of {of.runs} run(s), windows of {of.seconds:g} s; JSON: {of.json}")
        for line in verdicts:
            print(line)
        for name, reason in self.result["left_out"].items():
            print(f"left out: {name}: {reason}")
