"""The marker's promise: a marker made from a frame shows on exactly that frame.

A real camera whose pictures carry their numbers is recorded; its frames are marked through the Python
client; then, as a player does it, each marker's date is looked up in the playlist, the segment at that
place is decoded, and the number is read from the picture that is on the screen there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path

import camring
import framecode
import numpy as np
import pytest
from conftest import CAMERA, PATIENCE_S, Site, wait_for

WIDTH, HEIGHT = 320, 180
COUNT = int(os.environ.get("CAMRING_MARKERS", "1000" if "CAMRING_TORTURE" in os.environ else "200"))

SETTINGS = """
[http]
listen = "127.0.0.1:0"

[record]
mode = "copy"
segment = "1s"
min_free = "1MiB"
"""


@pytest.fixture(scope="module")
def recorded() -> Iterator[Site]:
    site = Site({"yard": "h264-180p"}, camera=CAMERA, settings=SETTINGS)
    yield site
    site.end()


@pytest.fixture(scope="module")
def url(recorded: Site) -> str:
    def address() -> str | None:
        found: str | None = (recorded.status()["http"] or {}).get("address")
        return found

    return f"http://{wait_for('an address', address)}"


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        body: bytes = answer.read()
        return body


@dataclass
class Segment:
    """Of a playlist."""

    start: datetime
    duration: Fraction
    init: str
    address: str
    pictures: list[tuple[Fraction, int]] = field(default_factory=list)


def date(text: str) -> datetime:
    return datetime.fromisoformat(text)


def read_playlist(base: str, text: str) -> tuple[list[Segment], dict[str, datetime]]:
    """Segments with their dates, and the date of each marker, as a player finds them."""
    segments: list[Segment] = []
    dates: dict[str, datetime] = {}
    init, duration = "", Fraction(0)
    when: datetime | None = None
    for line in text.splitlines():
        if found := re.match(r'#EXT-X-MAP:URI="([^"]+)"', line):
            init = found[1]
        elif line.startswith("#EXT-X-PROGRAM-DATE-TIME:"):
            when = date(line.split(":", 1)[1])
        elif line.startswith("#EXTINF:"):
            duration = Fraction(line.split(":", 1)[1].split(",")[0])
        elif line.startswith("#EXT-X-DATERANGE:"):
            name = re.search(r'ID="([^"]+)"', line)
            start = re.search(r'START-DATE="([^"]+)"', line)
            assert name and start, line
            dates[name[1]] = date(start[1])
        elif line and not line.startswith("#"):
            assert when is not None, text
            segments.append(Segment(when, duration, f"{base}/{init}", f"{base}/{line}"))
            when += timedelta(microseconds=round(duration * 1_000_000))
    return segments, dates


def decode(segment: Segment, folder: Path) -> None:
    """Its pictures: when each is shown, from the segment's start, and the number in it."""
    path = folder / "segment.mp4"
    path.write_bytes(get(segment.init) + get(segment.address))
    probe = ["ffprobe", "-v", "error", "-select_streams", "v", "-of", "json"]
    probe += ["-show_entries", "stream=time_base:frame=pts", str(path)]
    found = json.loads(subprocess.run(probe, check=True, capture_output=True).stdout)
    time_base = Fraction(found["streams"][0]["time_base"])
    times = [frame["pts"] * time_base for frame in found["frames"]]
    raw = subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-i", str(path), "-fps_mode", "passthrough"),
            *("-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"),
        ],
        check=True,
        capture_output=True,
    ).stdout
    pictures = np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, WIDTH)
    assert len(pictures) == len(times), (len(pictures), len(times))
    first = min(times)
    codes = [framecode.read(picture).index for picture in pictures]
    segment.pictures = sorted((time - first, code) for time, code in zip(times, codes, strict=True))


def shown(segments: list[Segment], when: datetime, folder: Path) -> int:
    """The number in the picture that is on the screen when a player is at this date."""
    place = bisect_right([segment.start for segment in segments], when) - 1
    assert place >= 0, f"{when} is before the playlist"
    segment = segments[place]
    # Dates have milliseconds.
    offset = Fraction((when - segment.start) // timedelta(microseconds=1), 1_000_000)
    assert offset <= segment.duration + Fraction(1, 100), f"{when} is in no segment"
    if not segment.pictures:
        decode(segment, folder)
    at = bisect_right([time for time, _ in segment.pictures], offset + Fraction(1, 1000)) - 1
    return segment.pictures[max(at, 0)][1]


def test_a_marker_shows_on_exactly_the_frame_that_it_was_made_from(
    recorded: Site, url: str, tmp_path: Path
) -> None:
    numbers: dict[str, int] = {}
    times: list[int] = []
    batch: list[camring.Marker] = []
    with camring.attach("yard", socket=recorded.socket, timeout=PATIENCE_S) as camera:
        for frame in camera.frames(in_order=True, timeout=PATIENCE_S):
            # A camera's own clock takes over with its first report, a second or so after it connects, and
            # may step back then: what was dated by arrival before lies beside what follows.
            if frame.time_source != "sender-report":
                continue
            number = framecode.read(frame.y).index
            times.append(frame.time_ns)
            if len(numbers) % 10 == 0:
                # At once, and mostly before the picture is on the disk.
                stored = camring.mark(frame, "seen", score=0.5, box=(0, 0, 1, 1), url=url, timeout=PATIENCE_S)
                numbers[stored.id] = number
            else:
                batch.append(camring.Marker.of(frame, "seen"))
                numbers[batch[-1].id] = number
            if len(batch) == 50 or len(numbers) == COUNT:
                camring.mark_many(batch, url=url, timeout=PATIENCE_S)
                batch = []
            if len(numbers) == COUNT:
                break

    found = wait_for("the pictures of all markers", lambda: with_pictures(url))
    # Found by capture time: the same picture, to the microsecond in which times are recorded.
    assert found.keys() == numbers.keys()
    off = [abs(frame_time - start) for start, frame_time in found.values()]
    assert max(off) <= 1000, max(off)

    first, last = min(times) / 1e9 - 2, max(times) / 1e9 + 2
    playlist = f"{url}/hls/yard/main/source/range.m3u8?from={first:.3f}&to={last:.3f}"
    # The last picture's segment may still be open.
    ((segments, dates),) = wait_for("all markers in the playlist", lambda: listed(playlist, max(times)))
    assert dates.keys() >= numbers.keys(), f"{len(numbers.keys() - dates.keys())} markers are missing"
    wrong = {
        name: (number, on_screen)
        for name, number in numbers.items()
        if (on_screen := shown(segments, dates[name], tmp_path)) != number
    }
    assert not wrong, f"{len(wrong)} of {COUNT} markers show on another frame: {list(wrong.values())[:10]}"
    print(f"{COUNT} of {COUNT} markers show on the frame that they were made from")


def with_pictures(url: str) -> dict[str, tuple[int, int]]:
    """Start and picture of each marker, once all have one."""
    found: dict[str, tuple[int, int]] = {}
    cursor = ""
    while True:
        page = json.loads(get(f"{url}/api/v1/cameras/yard/markers?limit=1000{cursor}"))
        for marker in page["markers"]:
            if "frame_time" not in marker:
                return {}
            found[marker["id"]] = (ns(marker["start"]), ns(marker["frame_time"]))
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


def ns(text: str) -> int:
    """To the nanosecond."""
    whole, rest = text.rstrip("Z").split(".")
    return round(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 10**9 + int(rest.ljust(9, "0"))


def listed(playlist: str, last_ns: int) -> list[tuple[list[Segment], dict[str, datetime]]]:
    """The playlist, once it reaches beyond the last picture."""
    try:
        text = get(playlist).decode()
    except urllib.error.HTTPError:
        return []
    segments, dates = read_playlist(playlist.split("/range.m3u8", 1)[0], text)
    if not segments:
        return []
    end = segments[-1].start + timedelta(seconds=float(segments[-1].duration))
    return [(segments, dates)] if end.timestamp() > last_ns / 1e9 + 0.1 else []
