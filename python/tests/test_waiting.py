"""Going through frames: newest or in order, one camera or many, threads, event loops, signals."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import camring
import pytest
from conftest import StandIn, wait_for

pytestmark = pytest.mark.usefixtures("socket")


def test_newest_next_and_what_was_missed(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera:
        assert camera.latest() is None
        seen = []
        for _ in range(3):
            stand_in.frame()
        for frame in camera:
            seen.append((frame.sequence, frame.missed))
            if len(seen) == 3:
                break
            stand_in.frame()
            stand_in.frame()
        assert seen == [(3, 2), (5, 1), (7, 1)]


def test_in_order(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera:
        for _ in range(3):
            stand_in.frame()
        assert [f.sequence for f in itertools.islice(camera.frames(in_order=True), 3)] == [1, 2, 3]
        for _ in range(20):
            stand_in.frame()
        frame = camera.next(60, in_order=True)
        assert frame.missed == frame.sequence - 4 > 0


def test_a_wait_ends_with_the_time_or_the_frame(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera:
        for timeout in (0, 0.01, 0.2):
            start = time.monotonic()
            with pytest.raises(camring.Timeout, match=f"no frame of yard within {timeout}"):
                camera.next(timeout)
            assert time.monotonic() - start >= timeout
        with pytest.raises(TimeoutError):
            next(camera.frames(timeout=0.01))
        with pytest.raises(camring.OptionError):
            camera.next(float("nan"))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(camera.next, float("inf"))
            time.sleep(0.3)
            assert not waiting.done(), "it waits, and this thread runs: the GIL is released"
            number = stand_in.frame()
            assert waiting.result(60).sequence == number


def test_a_period(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera:
        times = []
        frames = camera.frames(every=timedelta(milliseconds=150))
        for _ in range(3):
            stand_in.frame()
            stand_in.frame()
            frame = next(frames)
            times.append(time.monotonic())
            assert frame.sequence % 2 == 0
        assert times[1] - times[0] >= 0.15
        assert times[2] - times[1] >= 0.15


def test_many_cameras_one_wait(stand_in: StandIn) -> None:
    stand_in.camera("door")
    with camring.attach_many(["yard", "door"]) as cameras:
        assert cameras.names == ("yard", "door")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(cameras.next, 60)
            time.sleep(0.2)
            stand_in.frame("door")
            assert waiting.result(60).camera == "door"
        for _ in range(3):
            stand_in.frame("door")
            stand_in.frame("yard")
        assert {cameras.next(60).camera, cameras.next(60).camera} == {"yard", "door"}
        assert cameras.latest() is None
        # The rule of the frame given out last goes for the set.
        stand_in.frame("door")
        stand_in.frame("yard")
        first = cameras.next(60)
        second = cameras.next(60)
        assert first.released
        assert not second.released


def test_a_camera_that_is_not_ready_follows(stand_in: StandIn) -> None:
    stand_in.say("pending porch")
    with camring.attach_many(["yard", "porch"]) as cameras:
        state = cameras.states["porch"]
        assert (state.attached, state.generation) == (False, None)
        assert state.trouble
        assert cameras.states["yard"] == camring.State(True, 1, None)
        stand_in.camera("porch")
        with pytest.raises(camring.Timeout):
            cameras.next(1.0)
        wait_for("the porch", lambda: cameras.latest() or cameras.states["porch"].attached)
        stand_in.frame("porch")
        assert cameras.next(60).camera == "porch"


def test_all_cameras_are_those_of_the_status(stand_in: StandIn) -> None:
    def camera(name: str, state: str) -> str:
        return (
            f'{{"name":"{name}","state":"{state}","reason":"r","since":"s","width":1,"height":1,'
            '"codec":null,"fps_published":2.5,"subscribers":0}'
        )

    stand_in.camera("door")
    known = [camera("yard", "streaming"), camera("yard/sub", "streaming"), camera("off", "disabled")]
    stand_in.say(f'status {{"cameras":[{",".join([*known, camera("door", "backoff")])}]}}')
    assert [c.name for c in camring.cameras()] == ["yard", "yard/sub", "off", "door"]
    assert camring.cameras()[0].fps == 2.5
    assert camring.status()["cameras"][2]["state"] == "disabled"
    with camring.attach_many() as cameras:
        assert cameras.names == ("yard", "door")
    with pytest.raises(TypeError, match=r"attach_many\(\['yard'\]\)"):
        camring.attach_many("yard")


def test_closing_ends_waits_and_loops(stand_in: StandIn) -> None:
    camera = camring.attach("yard")
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(camera.next)
        looping = pool.submit(list, camera)
        time.sleep(0.2)
        camera.close()
        camera.close()
        with pytest.raises(camring.ClosedError):
            waiting.result(60)
        assert looping.result(60) == []
    assert camera.closed
    assert list(camera.frames(every=10)) == []
    for look in (camera.latest, camera.next, lambda: camera.states):
        with pytest.raises(camring.ClosedError, match="attach again"):
            look()
    wait_for("the daemon to see it", lambda: stand_in.say("attachments") == "0")


def test_threads_share_a_camera(stand_in: StandIn) -> None:
    """Each frame goes to one of them; whoever holds it can rely on it."""
    with camring.attach("yard", pins=8) as camera:
        seen: list[int] = []
        wrong: list[str] = []

        def work() -> None:
            with contextlib.suppress(camring.ClosedError):
                while True:
                    frame = camera.next(in_order=True)
                    # Another thread may have asked for the next one in between.
                    with contextlib.suppress(camring.ReleasedError), frame:
                        values = set(memoryview(frame).tobytes())
                        if values != {frame.sequence % 251}:
                            wrong.append(f"{frame.sequence}: {values}")
                    seen.append(frame.sequence)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(1, 201):
            stand_in.marked(mark=number % 251)
        wait_for("the last frame", lambda: 200 in seen)
        camera.close()
        for thread in threads:
            thread.join(60)
        assert not wrong
        assert len(seen) == len(set(seen))


def test_ctrl_c_ends_a_wait() -> None:
    with camring.attach("yard") as camera:
        main = threading.get_ident()
        timer = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            camera.next(100)
        timer.join()
        # And the camera still works.
        assert camera.latest() is None


def test_ctrl_c_ends_waiting_for_a_first_picture(stand_in: StandIn) -> None:
    stand_in.say("pending porch")
    timer = threading.Timer(0.3, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        camring.attach("porch", timeout=100)
    timer.join()


def test_event_loops(stand_in: StandIn) -> None:
    stand_in.camera("door")

    async def follow(source: camring.Cameras, count: int) -> list[tuple[str, int]]:
        found = []
        async for frame in source:
            found.append((frame.camera, frame.sequence))
            if len(found) == count:
                break
        return found

    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        with camring.attach("yard") as yard, camring.attach_many(["yard", "door"]) as both:
            one, two = asyncio.create_task(follow(yard, 3)), asyncio.create_task(follow(both, 4))
            await asyncio.sleep(0.3)
            numbers = []
            for _ in range(60):
                numbers.append(await asyncio.to_thread(stand_in.frame, "yard"))
                await asyncio.to_thread(stand_in.frame, "door")
                await asyncio.sleep(0.05)
                if one.done() and two.done():
                    break
            found = await one
            assert {name for name, _ in found} == {"yard"}
            assert [n for _, n in found] == sorted({n for _, n in found})
            assert {name for name, _ in await two} == {"yard", "door"}
            assert ticks > 10, "the loop ran meanwhile"

            late = [f async for f in _first(yard.frames(every=0.1, timeout=60), 1)]
            assert late
            while yard.latest():
                pass
            with pytest.raises(camring.Timeout):
                async for _ in yard.frames(timeout=0.2):
                    pass
            waiting = asyncio.create_task(follow(yard, 1))
            await asyncio.sleep(0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            ended = asyncio.create_task(follow(yard, 100))
            await asyncio.sleep(0.1)
            yard.close()
            assert await ended == []
        ticking.cancel()

    async def _first(frames: camring.Frames, count: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
        stand_in.frame("yard")
        async for frame in frames:
            yield frame
            count -= 1
            if not count:
                return

    asyncio.run(main())


def test_a_replaced_ring_and_a_restarted_writer(stand_in: StandIn) -> None:
    with camring.attach("yard") as camera:
        stand_in.frame()
        assert camera.next(60).change is None
        stand_in.say("restart yard")
        stand_in.frame()
        frame = camera.next(60)
        assert (frame.change, frame.generation, frame.missed) == ("writer-restarted", 2, 0)
        stand_in.camera("yard", 4 * 65536)
        stand_in.frame(size=(400, 300))
        frame = camera.next(60)
        assert (frame.change, frame.width, frame.sequence) == ("replaced", 400, 3)
        stand_in.say("remove yard")
        with pytest.raises(camring.NoSuchCamera, match="removed from the configuration"):
            camera.next(60)
