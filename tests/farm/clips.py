#!/usr/bin/python3
"""Generates the clips that the test cameras send: synthetic street scenes with the frame code burned in.

They are what IP cameras send: no B pictures, one reference, one slice, closed groups of pictures of
constant length, parameter sets at every key frame, near-constant bitrate. A clip is an elementary stream
(Annex B, or JPEG pictures one after the other), made once and kept in
${CAMRING_CACHE:-${XDG_CACHE_HOME:-~/.cache}/camring}/clips under a name with the hash of its parameters
and of this code.

    clips.py --list
    clips.py --make NAME... [--out DIR]      prints one path per name
    clips.py --make-tests                    all but those that only benches use
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import framecode
import numpy as np
import numpy.typing as npt
import paff
from framecode import Plane

Picture = tuple[Plane, Plane, Plane]
Samples = npt.NDArray[np.float32]
HERE = Path(__file__).resolve().parent
KEEP_UNUSED_DAYS = 14


@dataclasses.dataclass(frozen=True)
class Clip:
    """What is generated. `sizes`: one part of equal length per entry, the last parts change the SPS."""

    name: str
    codec: str  # h264 | h265 | mjpeg
    sizes: tuple[tuple[int, int], ...]
    fps: int
    seconds: int
    tag: int  # also the seed of the scene
    kbit: int = 0
    gop_seconds: int = 1
    profile: str = "main"
    interlaced: str = ""  # mbaff | paff
    quality: int = 0  # if given, this instead of a bitrate: x264's constant rate factor
    moving: tuple[int, int] = (0, 0)  # if given, objects are in these pictures only, and move faster
    between: int = 0  # B pictures between two others; frames per group must be a multiple, plus one
    bench: bool = False  # of no use to the tests: only made when asked for

    @property
    def frames(self) -> int:
        return self.fps * self.seconds

    def shown(self, unit: int) -> int:
        """Which picture of the clip, in the order of showing, access unit number `unit` is."""
        group = self.fps * self.gop_seconds
        start, at = unit - unit % group, unit % group
        step = self.between + 1
        if at == 0 or step == 1:
            return unit
        # Each picture that others refer to comes before those shown before it.
        place = (at - 1) % step
        anchor = (at - 1) // step * step + step
        return start + (anchor if place == 0 else anchor - step + place)

    @property
    def extension(self) -> str:
        return self.codec


HD, FULL_HD, UHD, NHD, TINY = (1280, 720), (1920, 1080), (3840, 2160), (640, 360), (320, 180)

CLIPS = {
    clip.name: clip
    for clip in (
        # The demo: names of its cameras in ./run.
        Clip("h264-720p", "h264", (HD,), 15, 8, 1, kbit=2000, gop_seconds=2),
        Clip("h264-1080p", "h264", (FULL_HD,), 15, 8, 2, kbit=4000, gop_seconds=2),
        Clip("h265-720p", "h265", (HD,), 15, 8, 3, kbit=1500, gop_seconds=2),
        Clip("mjpeg-720p", "mjpeg", (HD,), 10, 8, 4),
        # Small ones, for tests.
        Clip("h264-360p", "h264", (NHD,), 25, 4, 5, kbit=1000),
        Clip("h264-180p", "h264", (TINY,), 25, 4, 6, kbit=400),
        Clip("h265-360p", "h265", (NHD,), 25, 4, 7, kbit=800),
        Clip("mjpeg-360p", "mjpeg", (NHD,), 10, 4, 8),
        Clip("h264-baseline", "h264", (NHD,), 10, 6, 9, kbit=500, profile="baseline"),
        Clip("h264-mbaff", "h264", (NHD,), 25, 4, 10, kbit=2000, interlaced="mbaff"),
        Clip("h264-paff", "h264", ((320, 192),), 10, 4, 11, interlaced="paff"),
        Clip("h264-still", "h264", (TINY,), 25, 30, 17, quality=30, moving=(485, 545)),
        Clip("h264-b", "h264", (NHD,), 25, 4, 15, kbit=1000, between=2),
        Clip("h265-b", "h265", (NHD,), 25, 4, 16, kbit=800, between=2),
        Clip("h264-resize", "h264", (NHD, HD, NHD), 25, 6, 12, kbit=1500),
        # For benches.
        Clip("h264-720p6", "h264", (HD,), 6, 20, 13, kbit=2000, gop_seconds=2, bench=True),
        Clip("h265-2160p", "h265", (UHD,), 15, 4, 14, kbit=8000, gop_seconds=2, bench=True),
    )
}


# --- the scene -------------------------------------------------------------------------------------


def _texture(rng: np.random.Generator, height: int, width: int, mean: int, contrast: float) -> Samples:
    """Detail at every scale, coarse scales stronger: random grids of growing fineness, added."""
    total = np.full((height, width), mean, np.float32)
    size = 64
    while size >= 2:
        grid = rng.standard_normal((height // size + 1, width // size + 1), np.float32) * contrast
        total += np.repeat(np.repeat(grid, size, 0), size, 1)[:height, :width]
        size //= 2
        contrast *= 0.72
    return total


def _to_plane(values: Samples, low: int = 16, high: int = 235) -> Plane:
    plane: Plane = np.clip(values, low, high).astype(np.uint8)
    return plane


class Scene:
    """A street that a fixed camera looks at: still background, sensor noise, objects going to and fro."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        background = _texture(rng, height, width, 112, 14)
        # Sensor noise costs bits and decode time as in a real camera; four fields of it are enough, since
        # a picture only refers to the one before.
        self._noisy = [
            _to_plane(background + rng.standard_normal((height, width), np.float32) * 1.6) for _ in range(4)
        ]
        self._u = _to_plane(_texture(rng, height // 2, width // 2, 124, 4))
        self._v = _to_plane(_texture(rng, height // 2, width // 2, 132, 4))
        self._objects = []
        for _ in range(8):
            w = int(width * rng.uniform(0.05, 0.14)) // 4 * 4
            h = int(height * rng.uniform(0.08, 0.18)) // 4 * 4
            look = _to_plane(_texture(rng, h, w, int(rng.integers(60, 190)), 18))
            top = int(rng.uniform(0.05, 0.95) * (height - h)) // 4 * 4
            trips = int(rng.integers(1, 4))  # whole trips per clip, so that the loop has no seam
            self._objects.append((look, top, trips, rng.uniform(0, 1), rng.integers(80, 176, 2)))

    def at(self, n: int, phase: float | None) -> Picture:
        """Picture n, objects where they are at `phase` (0 to 1) of the clip; without: no objects."""
        y, u, v = self._noisy[n % 4].copy(), self._u.copy(), self._v.copy()
        if phase is None:
            return y, u, v
        for look, top, trips, start, (cu, cv) in self._objects:
            h, w = look.shape
            there_and_back = abs((phase * trips + start) % 1 * 2 - 1)
            left = int(there_and_back * (y.shape[1] - w)) // 2 * 2
            y[top : top + h, left : left + w] = look
            u[top // 2 : (top + h) // 2, left // 2 : (left + w) // 2] = cu
            v[top // 2 : (top + h) // 2, left // 2 : (left + w) // 2] = cv
        return y, u, v


def pictures(clip: Clip, part: int) -> Iterator[Picture]:
    """The pictures of one part of the clip, codes burned in; those of an interlaced clip are woven."""
    width, height = clip.sizes[part]
    scene = Scene(width, height, clip.tag)
    count = clip.frames // len(clip.sizes)
    for n in range(part * count, (part + 1) * count):
        phase: float | None = n / clip.frames
        if clip.moving != (0, 0):
            first, end = clip.moving
            phase = (n - first) / (end - first) if first <= n < end else None
        picture = scene.at(n, phase)
        if clip.interlaced:
            later = scene.at(n + 1, (n + 0.5) / clip.frames)
            for plane, other in zip(picture, later, strict=True):
                plane[1::2] = other[1::2]
        framecode.burn(picture[0], framecode.Code(clip.tag, n))
        yield picture


# --- encoding --------------------------------------------------------------------------------------


def _encoder(clip: Clip) -> list[str]:
    gop = clip.fps * clip.gop_seconds
    rate = ["-b:v", f"{clip.kbit}k", "-maxrate", f"{clip.kbit}k", "-bufsize", f"{clip.kbit}k"]
    if clip.quality:
        rate = ["-crf", str(clip.quality)]
    color = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
    if clip.codec == "mjpeg":
        # RFC 2435 carries no Huffman tables: the encoder must use the default ones.
        return ["-c:v", "mjpeg", "-huffman", "default", "-pix_fmt", "yuvj420p", "-q:v", "5", "-f", "mjpeg"]
    if clip.codec == "h265":
        options = f"bframes={clip.between}:b-adapt=0:b-pyramid=0:ref=1:keyint={gop}:min-keyint={gop}"
        options += ":scenecut=0:open-gop=0"
        options += f":rc-lookahead={clip.between + 1 if clip.between else 0}"
        options += f":repeat-headers=1:frame-threads=1:log-level=error:vbv-maxrate={clip.kbit}"
        options += f":vbv-bufsize={clip.kbit}"
        return [
            "-c:v",
            "libx265",
            "-preset",
            "superfast",
            *rate,
            *color,
            "-x265-params",
            options,
            "-f",
            "hevc",
        ]
    options = f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:rc-lookahead=0:mbtree=0:sliced-threads=0"
    options += ":slices=1:repeat-headers=1"
    if clip.interlaced:
        options += ":interlaced=1:tff=1"
    options += ":b-adapt=0:b-pyramid=none"
    fast = ["-preset", "veryfast", "-profile:v", clip.profile, "-bf", str(clip.between), "-refs", "1"]
    return ["-c:v", "libx264", *fast, *rate, *color, "-x264-params", options, "-f", "h264"]


Tick = Callable[[int], None]


def _encode(clip: Clip, target: Path, tick: Tick) -> None:
    done = 0

    def counted(part: int) -> Iterator[Picture]:
        nonlocal done
        for picture in pictures(clip, part):
            yield picture
            done += 1
            tick(done)

    with target.open("wb") as out:
        if clip.interlaced == "paff":
            width, height = clip.sizes[0]
            gop = clip.fps * clip.gop_seconds
            out.writelines(paff.encode(counted(0), width, height, clip.fps, gop))
            return
        for part, (width, height) in enumerate(clip.sizes):
            command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin"]
            command += [
                "-f",
                "rawvideo",
                "-pix_fmt",
                "yuv420p",
                "-s",
                f"{width}x{height}",
                "-r",
                str(clip.fps),
            ]
            command += ["-i", "pipe:0", *_encoder(clip), "pipe:1"]
            out.flush()
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out) as process:
                assert process.stdin is not None
                with contextlib.suppress(BrokenPipeError):  # its exit status says more
                    for picture in counted(part):
                        for plane in picture:
                            process.stdin.write(plane.tobytes())
                    process.stdin.close()
            if process.returncode:
                raise RuntimeError(f"clip {clip.name}: ffmpeg ended with status {process.returncode}")
            out.seek(0, os.SEEK_END)


# --- the cache -------------------------------------------------------------------------------------


def cache_folder() -> Path:
    if own := os.environ.get("CAMRING_CACHE"):
        return Path(own) / "clips"
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "camring" / "clips"


def _key(clip: Clip) -> str:
    digest = hashlib.sha256(repr(clip).encode())
    for source in ("clips.py", "framecode.py", "paff.py"):
        digest.update((HERE / source).read_bytes())
    return digest.hexdigest()[:12]


def _forget_unused(folder: Path) -> None:
    """Removes clips of former versions of this code, once nobody has asked for them for a while."""
    for old in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > KEEP_UNUSED_DAYS * 86400:
                old.unlink()


class Progress:
    """Tells on stderr what is being made: a line that rewrites itself on a terminal, else a line per clip."""

    def __init__(self, clip: Clip) -> None:
        self._clip, self._start, self._shown = clip, time.monotonic(), 0.0
        if not sys.stderr.isatty():
            self._say(f"making {clip.name} ({clip.frames} frames)")

    def _say(self, text: str) -> None:
        print(f"clips: {text}", file=sys.stderr, flush=True)

    def tick(self, done: int) -> None:
        if sys.stderr.isatty() and time.monotonic() - self._shown > 0.2:
            self._shown = time.monotonic()
            print(
                f"\rclips: {self._clip.name} {done}/{self._clip.frames} frames\033[K", end="", file=sys.stderr
            )

    def finish(self, size: int) -> None:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        seconds = time.monotonic() - self._start
        self._say(f"{self._clip.name}: {size / 1e6:.1f} MB in {seconds:.1f} s")


def ensure(name: str, folder: Path | None = None) -> Path:
    """The path of a clip, generated first if it is not in the cache. Safe to call from many processes."""
    clip = CLIPS[name]
    folder = folder or cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{clip.name}-{_key(clip)}.{clip.extension}"
    if not path.exists():
        with (folder / f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                progress = Progress(clip)
                half_done = folder / f"{path.name}.{os.getpid()}.part"
                try:
                    _encode(clip, half_done, progress.tick)
                    half_done.rename(path)
                finally:
                    half_done.unlink(missing_ok=True)
                progress.finish(path.stat().st_size)
                _forget_unused(folder)
    with contextlib.suppress(OSError):
        os.utime(path)
    return path


def ensure_all(names: list[str], folder: Path | None = None) -> list[Path]:
    """Several at once, one per core: most of the time goes into single-threaded encoders."""
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(max_workers=cores) as pool:
        by_cost = sorted(set(names), key=lambda n: -CLIPS[n].frames * CLIPS[n].sizes[0][0])
        made = dict(zip(by_cost, pool.map(lambda n: ensure(n, folder), by_cost), strict=True))
    return [made[name] for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument(
        "--make", nargs="+", metavar="NAME", default=[], choices=[*CLIPS], help="generate these"
    )
    parser.add_argument("--make-tests", action="store_true", help="generate what the tests use")
    parser.add_argument("--out", type=Path, metavar="DIR", help="another folder than the cache")
    arguments = parser.parse_args()
    if arguments.list:
        for clip in CLIPS.values():
            sizes = " -> ".join(f"{w}x{h}" for w, h in clip.sizes)
            scan = clip.interlaced or "progressive"
            print(f"{clip.name:14} {clip.codec:5} {sizes} {clip.fps} fps, {clip.seconds} s, {scan}")
    wanted = arguments.make + [c.name for c in CLIPS.values() if arguments.make_tests and not c.bench]
    if not wanted and not arguments.list:
        parser.print_help()
    for path in ensure_all(wanted, arguments.out):
        print(path)


if __name__ == "__main__":
    main()
