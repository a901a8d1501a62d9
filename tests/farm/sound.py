"""The sound of a test camera: a click at the beginning of each second of its clip, over a tone.

Encoded once, by ffmpeg, and sent like the pictures: each frame when the picture of its time is sent, with
its own time. 8 s of 16 kHz are 125 frames of AAC exactly, so the sound repeats without a seam.
"""

from __future__ import annotations

import array
import functools
import math
import subprocess

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

RATE = 16000
SECONDS = 8
# 2.5 ms, nearly full scale, over a tone that is far below: a decoder of anything shows where it is.
CLICK_SAMPLES = 40
TONE_HZ, TONE_LEVEL = 500, 0.02
# Samples in a frame of AAC. An encoder's frame N is heard from sample (N - 1) * 1024 on.
AAC_SAMPLES = 1024
ALAW_RATE, ALAW_SAMPLES = 8000, 160
LOOP = SECONDS * 1_000_000_000
TOLERANCE = 1_000_000

_AAC_CAPS = (
    f"audio/mpeg,mpegversion=4,stream-format=raw,framed=true,rate={RATE},channels=1,codec_data=(buffer)1408"
)
_ALAW_CAPS = f"audio/x-alaw,rate={ALAW_RATE},channels=1"
CODECS = {
    "aac": (_AAC_CAPS, "rtpmp4gpay pt=98"),
    "latm": (_AAC_CAPS, "rtpmp4apay pt=98"),
    "alaw": (_ALAW_CAPS, "rtppcmapay pt=8"),
}


def _level(sample: int) -> int:
    if sample % RATE < CLICK_SAMPLES:
        return 30000 if sample % 4 < 2 else -30000
    return int(32767 * TONE_LEVEL * math.sin(2 * math.pi * TONE_HZ * sample / RATE))


def _encode(seconds: int, *arguments: str) -> bytes:
    samples = array.array("h", [_level(n) for n in range(SECONDS * RATE)] * (seconds // SECONDS))
    command = ["ffmpeg", "-v", "error", "-nostdin", "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "-"]
    command += [*arguments, "-"]
    return subprocess.run(command, input=samples.tobytes(), stdout=subprocess.PIPE, check=True).stdout


@functools.cache
def frames(codec: str) -> tuple[list[bytes], int]:
    """The frames of SECONDS, and how many ns each lasts."""
    if codec == "alaw":
        data = _encode(SECONDS, "-f", "alaw", "-ar", str(ALAW_RATE))
        each = [data[at : at + ALAW_SAMPLES] for at in range(0, len(data), ALAW_SAMPLES)]
        return each, ALAW_SAMPLES * Gst.SECOND // ALAW_RATE
    # Of three rounds the middle one: it begins and ends in the same state.
    data = _encode(3 * SECONDS, "-c:a", "aac", "-b:a", "64k", "-f", "adts")
    every, at = [], 0
    while at + 7 <= len(data):
        length = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        header = 7 if data[at + 1] & 1 else 9
        every.append(data[at + header : at + length])
        at += length
    count = SECONDS * RATE // AAC_SAMPLES
    return every[count + 1 : 2 * count + 1], AAC_SAMPLES * Gst.SECOND // RATE


def add(element: Gst.Bin, codec: str) -> None:
    """Adds the second stream to a camera's media."""
    caps, payloader = CODECS[codec]
    frames(codec)
    source = Gst.ElementFactory.make("appsrc", "sound")
    source.set_property("caps", Gst.Caps.from_string(caps))
    source.set_property("is-live", True)
    source.set_property("format", Gst.Format.TIME)
    source.set_property("max-bytes", 0)
    payload = Gst.parse_bin_from_description(payloader, True)
    payload.set_name("pay1")
    element.add(source)
    element.add(payload)
    source.link(payload)


class Feed:
    """The sound of one media instance."""

    def __init__(self, codec: str, source: Gst.Element) -> None:
        self.frames, self.length = frames(codec)
        self.source = source
        self.base: int | None = None  # when the clip would have begun
        self.next = 0

    def push(self, begins: int, ends: int, clip_time: int) -> None:
        """The sound that begins in the time of a picture, in ns of the stream's clock; `clip_time`: where in
        the clip the picture is, in ns."""
        base = begins - clip_time
        # The clip goes on where it was after a pause, and so does the sound.
        off = (base - self.base) % LOOP if self.base is not None else LOOP // 2
        if min(off, LOOP - off) > TOLERANCE:
            self.base, self.next = base, 0
        assert self.base is not None
        self.next = max(self.next, -((self.base - begins) // self.length))
        while (pts := self.base + self.next * self.length) < ends:
            buffer = Gst.Buffer.new_wrapped(self.frames[self.next % len(self.frames)])
            buffer.pts = pts
            buffer.duration = self.length
            self.source.emit("push-buffer", buffer)
            self.next += 1
