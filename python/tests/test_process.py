"""Forks, the end of the interpreter, leaks."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import camring
import pytest
from conftest import StandIn, wait_for

CYCLES = int(os.environ.get("CAMRING_ATTACH_CYCLES", "2000"))


def in_child(work: Callable[..., object], *arguments: object) -> object:
    """Runs a function in a forked child; returns what it returned."""
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe()

    def run() -> None:
        its.send(work(*arguments))

    child = context.Process(target=run)
    child.start()
    its.close()
    assert mine.poll(60), "the child said nothing"
    result = mine.recv()
    child.join(60)
    assert child.exitcode == 0
    return result


def refused(*looks: Callable[[], object]) -> list[str]:
    said = []
    for look in looks:
        try:
            said.append(f"no error: {look()}")
        except camring.ForkedError as error:
            said.append(type(error).__name__ if "attach in the child" in str(error) else str(error))
    return said


@pytest.mark.usefixtures("socket")
def test_a_forked_child_is_told_to_attach_itself(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera:
        stand_in.marked(mark=5)
        frame = camera.next(60).hold()
        looks = (
            lambda: frame.y,
            frame.to_rgb,
            lambda: memoryview(frame),
            camera.latest,
            camera.next,
            lambda: camera.states,
        )
        assert in_child(refused, *looks) == ["ForkedError"] * len(looks)

        def attach_anew() -> int:
            with camring.attach("yard", timeout=60) as own:
                return int(own.next(60).y[0, 0])

        stand_in.marked(mark=6)
        assert in_child(attach_anew) == 6
        assert camera.next(60).y[0, 0] == 6


@pytest.mark.usefixtures("socket")
def test_a_child_lets_go_of_nothing_that_is_the_parents(stand_in: StandIn) -> None:
    """The pin page is shared: a child that drops a frame must not clear the parent's pin."""
    camera = camring.attach("yard")
    stand_in.marked(mark=5)
    frame = camera.next(60).hold()
    array = frame.y

    def drop_all() -> str:
        nonlocal camera, frame, array
        camera.close()
        frame.release()
        del camera, frame, array
        gc.collect()
        return "dropped"

    assert in_child(drop_all) == "dropped"
    assert stand_in.say("attachments") == "1"
    for _ in range(200):
        stand_in.marked(mark=99)
    assert (array == 5).all()
    assert camera.next(60).y[0, 0] == 99
    camera.close()


@pytest.mark.usefixtures("socket")
def test_a_child_does_not_keep_the_parents_connection_open(stand_in: StandIn) -> None:
    context = multiprocessing.get_context("fork")
    release, wait = context.Pipe()
    camera = camring.attach("yard")
    child = context.Process(target=wait.recv)
    child.start()
    assert stand_in.say("clients") == "1"
    camera.close()
    del camera
    gc.collect()
    wait_for("the daemon to see the end of the connection", lambda: stand_in.say("clients") == "0")
    assert child.is_alive()
    release.send(None)
    child.join(60)


END = """
    import sys, threading, time
    import camring
    camera = camring.attach("yard")
    frame = camera.next(60).hold()
    view = memoryview(frame)
    kept = [frame.y]
    started = threading.Barrier({threads} + 1)
    def wait():
        started.wait()
        while True:
            camera.next()
    for _ in range({threads}):
        threading.Thread(target=wait, daemon=True).start()
    started.wait()
    time.sleep(0.2)
    print("done", flush=True)
    {end}
"""


@pytest.mark.parametrize("threads", [0, 4])
@pytest.mark.parametrize("end", ["pass", "sys.exit(0)", "raise SystemExit(0)"])
@pytest.mark.usefixtures("socket")
def test_the_interpreter_ends_in_order(stand_in: StandIn, threads: int, end: str) -> None:
    stand_in.marked()
    text = textwrap.dedent(END).format(threads=threads, end=end)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", text],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    errors = [
        line
        for line in done.stderr.splitlines()
        if "Fatal" in line or "panicked" in line or "terminate called" in line
    ]
    assert (done.returncode, done.stdout, errors) == (0, "done\n", []), done.stderr
    wait_for("the daemon to see it", lambda: stand_in.say("clients") == "0")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def mappings() -> int:
    """Of rings, pin pages and bell pages."""
    return Path("/proc/self/maps").read_text().count("memfd:camring")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.usefixtures("socket")
def test_attaching_and_detaching_leaks_nothing(stand_in: StandIn) -> None:
    """As often as $CAMRING_ATTACH_CYCLES says."""

    def cycle() -> None:
        with camring.attach("yard", timeout=60) as camera:
            frame = camera.next(60)
            assert frame.y[0, 0] == 3

    stand_in.marked(mark=3)
    for _ in range(min(500, CYCLES)):
        cycle()
    gc.collect()
    before = descriptors(), mappings(), resident_bytes()
    for _ in range(CYCLES):
        cycle()
    gc.collect()
    assert (descriptors(), mappings()) == before[:2]
    assert resident_bytes() <= before[2] + (8 << 20)
    wait_for("the daemon to see it", lambda: stand_in.say("attachments") == "0")
