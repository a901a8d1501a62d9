"""A process for each detector of the plan. A detector looks at each picture as benches/peers' readers do:
which one it is, whether it is whole, how old it is. What that costs is measured, and taken off."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from witness import Witness, die_with_parent, end_on_sigterm

Detect = Callable[[Path, Witness, int], None]


def process(folder: Path, number: int, detect: Detect) -> None:
    """One detector, until SIGTERM; leaves its result."""
    die_with_parent()
    end_on_sigterm()
    witness = Witness(folder, [number])
    try:
        detect(folder, witness, number)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        witness.write()


def start(detect: Detect) -> list[multiprocessing.Process]:
    """The detectors of the plan in the folder that the command line names."""
    folder = Path(sys.argv[1])
    numbers = range(len(Witness(folder).urls))
    found = [multiprocessing.Process(target=process, args=(folder, number, detect)) for number in numbers]
    for one in found:
        one.start()
    return found


def end(processes: list[multiprocessing.Process]) -> None:
    for one in processes:
        one.terminate()
    for one in processes:
        one.join()


def main(detect: Detect) -> None:
    """Detectors that need nothing of this process, until SIGTERM."""
    end_on_sigterm()
    processes: list[multiprocessing.Process] = []
    try:
        processes += start(detect)
        signal.pause()
    finally:
        end(processes)
