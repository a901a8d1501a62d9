#!/usr/bin/python3
"""Makes the clips of `cargo bench --bench activity`: a fixed camera, objects that come at known times.

Each scene is drawn once and encoded in several ways at the same time (VBR and CBR; a key frame every 2 or
10 s). Beside the clips it writes `<scene>.json`: which pictures show which object, and which disturbance
(a light going on, the switch to infrared) is in which picture. Every scene has a clock burned in that changes
once a second, as most cameras do.

    scenes.py --out DIR [--seconds N] [--scene NAME ...]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]

WIDTH, HEIGHT, FPS = 640, 360, 10
CLOCK_CELL = 8


@dataclasses.dataclass(frozen=True)
class Scene:
    """What is drawn. `noise`: standard deviation of the sensor's noise, in grey levels."""

    name: str
    seed: int
    noise: float
    events: bool = True
    sway: bool = False  # foliage: a tenth of the picture moves a little, always
    light: bool = False  # lights go on and off
    infrared: bool = False  # half way the camera switches to infrared: other grey levels, more noise
    codec: str = "h264"


SCENES = {
    scene.name: scene
    for scene in (
        # What noise reduction in the camera leaves by day; then less light.
        Scene("day", 1, 0.5),
        Scene("dusk", 8, 1.6),
        Scene("night", 2, 5.0),
        Scene("foliage", 3, 0.5, sway=True),
        Scene("light", 4, 0.5, light=True),
        Scene("infrared", 5, 0.5, infrared=True),
        Scene("empty", 6, 0.5, events=False),
        Scene("day-h265", 7, 0.5, codec="h265"),
    )
}

# Name -> width and height of the object as a share of the picture's, whole crossings of the picture a second.
SIZES = {"large": (0.14, 0.26), "medium": (0.045, 0.14), "small": (0.018, 0.045)}
SPEEDS = {"fast": 0.30, "slow": 0.03}
# Mean difference from the background, in grey levels, and the strength of the object's own texture.
CONTRASTS = {"high": (45, 14), "low": (7, 3)}
KINDS = [(s, v, c) for s in SIZES for v in SPEEDS for c in CONTRASTS]

RATES = {
    # Constant quality up to a limit: what cameras call VBR.
    "vbr": ["-crf", "28", "-maxrate", "1500k", "-bufsize", "1500k"],
    # Constant rate up to a quality that needs no more.
    "cbr-capped": ["-b:v", "500k", "-maxrate", "500k", "-bufsize", "500k", "-qmin", "26"],
    # Constant rate, spent on noise where there is nothing else.
    "cbr-full": ["-b:v", "500k", "-maxrate", "500k", "-bufsize", "500k"],
}
GOPS = (2, 10)


def _texture(rng: np.random.Generator, height: int, width: int, contrast: float) -> Samples:
    """Detail at every scale, the coarse ones stronger."""
    total = np.zeros((height, width), np.float32)
    size = 64
    while size >= 2:
        grid = rng.standard_normal((height // size + 1, width // size + 1), np.float32) * contrast
        total += np.repeat(np.repeat(grid, size, 0), size, 1)[:height, :width]
        size //= 2
        contrast *= 0.72
    return total


@dataclasses.dataclass
class Event:
    """One object, in the picture from frame `begin` up to `end`."""

    kind: tuple[str, str, str]
    begin: int
    end: int
    look: Samples
    top: int
    start: float  # left edge when it comes, in samples
    step: float  # samples a picture


def _events(rng: np.random.Generator, frames: int) -> list[Event]:
    """Objects of every kind in turn, 15 to 45 s of nothing between them."""
    events = []
    at = int(60 * FPS)
    kinds = [KINDS[i] for i in rng.permutation(len(KINDS))]
    while True:
        kind = kinds[len(events) % len(kinds)]
        size, speed, contrast = kind
        w, h = (max(8, int(share * full)) for share, full in zip(SIZES[size], (WIDTH, HEIGHT), strict=True))
        step = SPEEDS[speed] * WIDTH / FPS
        # A slow one comes out of a door and goes back in: it need not cross the picture.
        length = int((WIDTH + w) / step) if speed == "fast" else int(rng.uniform(5, 9) * FPS)
        if at + length + 12 * FPS > frames:
            return events
        mean, strength = CONTRASTS[contrast]
        look = _texture(rng, h, w, strength) + mean * rng.choice([-1.0, 1.0])
        top = int(rng.uniform(0.25, 0.95) * (HEIGHT - h))
        start = -w + step if speed == "fast" else rng.uniform(0.2, 0.7) * WIDTH
        events.append(Event(kind, at, at + length, look, top, start, step))
        at += length + int(rng.uniform(15, 45) * FPS)


def _draw(y: Samples, event: Event, n: int) -> None:
    left = round(event.start + event.step * (n - event.begin))
    h, w = event.look.shape
    # What comes out of a door grows into the picture, and shrinks on its way back.
    grown = min(1.0, (n - event.begin + 1) / 5, (event.end - n) / 5) if event.kind[1] == "slow" else 1.0
    x0, x1 = max(left, 0), min(left + max(2, int(w * grown)), WIDTH)
    if x1 > x0:
        y[event.top : event.top + h, x0:x1] += event.look[:, x0 - left : x1 - left]


def pictures(scene: Scene, frames: int) -> Iterator[tuple[Plane, list[Event], list[int]]]:
    """Luma of every picture; and, always the same lists, what happens in the scene."""
    rng = np.random.default_rng(scene.seed)
    background = 110 + _texture(rng, HEIGHT, WIDTH, 14)
    tree = _texture(rng, HEIGHT // 2, WIDTH // 4, 16)
    field = rng.standard_normal((HEIGHT * 2, WIDTH * 2)).astype(np.float32)
    events = _events(rng, frames) if scene.events else []
    disturbances = [int(f * frames) for f in (0.3, 0.45, 0.6, 0.75, 0.9)] if scene.light else []
    switch = frames // 2
    if scene.infrared:
        disturbances = [switch]
    light, noise = 1.0, scene.noise
    for n in range(frames):
        if scene.light and n in disturbances:
            light = 1.25 if light == 1.0 else 1.0
        if scene.infrared and n == switch:
            light, noise = 0.75, scene.noise * 2
        y = background * light
        if scene.sway:
            dx = round(2 * np.sin(n / FPS * 2.1) + 1.5 * np.sin(n / FPS * 0.7))
            y[20 : 20 + HEIGHT // 2, 40 : 40 + WIDTH // 4] += np.roll(tree, dx, axis=1)
        for event in events:
            if event.begin <= n < event.end:
                _draw(y, event, n)
        oy, ox = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        y += noise * field[oy : oy + HEIGHT, ox : ox + WIDTH]
        second = n // FPS
        for digit in range(6):
            for bit in range(4):
                on = (second // 10 ** (5 - digit)) % 10 >> bit & 1
                left = 8 + (digit * 4 + bit) * CLOCK_CELL
                y[8 : 8 + 2 * CLOCK_CELL, left : left + CLOCK_CELL] = 230 if on else 20
        yield np.clip(y, 0, 255).astype(np.uint8), events, disturbances


def _encoder(scene: Scene, rate: str, gop: int, target: Path) -> list[str]:
    keyint = gop * FPS
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-f", "rawvideo"]
    command += ["-pix_fmt", "gray", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "pipe:0"]
    command += ["-threads", "1", "-pix_fmt", "yuv420p"]
    options = f"keyint={keyint}:min-keyint={keyint}:scenecut=0:open-gop=0:rc-lookahead=0:bframes=0"
    if scene.codec == "h265":
        options += ":ref=1:repeat-headers=1:frame-threads=1:pools=1:log-level=error"
        most = RATES[rate][RATES[rate].index("-maxrate") + 1].removesuffix("k")
        options += f":vbv-maxrate={most}:vbv-bufsize={most}"
        if "-qmin" in RATES[rate]:
            options += ":qpmin=26"
        codec = ["-c:v", "libx265", "-preset", "superfast"]
        return [*command, *codec, *RATES[rate][:2], "-x265-params", options]
    options += ":mbtree=0:sliced-threads=0:slices=1:ref=1:weightp=0:repeat-headers=1"
    return [*command, "-c:v", "libx264", "-preset", "superfast", *RATES[rate], "-x264-params", options]


def make(scene: Scene, frames: int, out: Path) -> None:
    """Draws and encodes one scene, unless all of it is there."""
    truth = out / f"{scene.name}.json"
    if truth.exists():
        return
    clips = {f"{scene.name}-{rate}-{gop}s": (rate, gop) for rate in RATES for gop in GOPS}
    running = []
    for name, (rate, gop) in clips.items():
        target = out / f"{name}.{scene.codec}"
        form = "hevc" if scene.codec == "h265" else "h264"
        command = [*_encoder(scene, rate, gop, target), "-f", form, str(target)]
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE))
    events: list[Event] = []
    disturbances: list[int] = []
    for luma, events, disturbances in pictures(scene, frames):  # noqa: B007
        data = luma.tobytes()
        for process in running:
            assert process.stdin is not None
            process.stdin.write(data)
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
        if process.wait():
            raise RuntimeError(f"scene {scene.name}: ffmpeg ended with status {process.returncode}")
    shown = [
        {"size": e.kind[0], "speed": e.kind[1], "contrast": e.kind[2], "begin": e.begin, "end": e.end}
        for e in events
    ]
    about = {"fps": FPS, "frames": frames, "codec": scene.codec, "clips": sorted(clips)}
    about |= {"events": shown, "disturbances": disturbances}
    truth.write_text(json.dumps(about, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seconds", type=int, default=720, help="length of each scene (720)")
    parser.add_argument("--scene", nargs="+", choices=[*SCENES], default=[*SCENES])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.scene:
        make(SCENES[name], arguments.seconds * FPS, arguments.out)


if __name__ == "__main__":
    main()
