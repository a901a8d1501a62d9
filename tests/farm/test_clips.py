"""Every clip decodes to exactly its pictures, in order; a spoiled picture is told from an intact one."""

from __future__ import annotations

import itertools
import subprocess
import unittest
from collections.abc import Iterator

import clips
import framecode
import numpy as np
from framecode import Code, Plane


def decoded(name: str) -> Iterator[Plane]:
    """The luma planes that ffmpeg makes of a clip."""
    clip, path = clips.CLIPS[name], clips.ensure(name)
    part = clip.frames // len(clip.sizes)
    # Scaling a part to another size would blur the code: tell ffmpeg to keep each frame as it is.
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path)]
    command += ["-autoscale", "0", "-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for width, height in clip.sizes:
            for _ in range(part):
                raw = process.stdout.read(width * height)
                if len(raw) < width * height:
                    return
                yield np.frombuffer(raw, np.uint8).reshape(height, width)
        assert not process.stdout.read(1), "more pictures than expected"


class Clips(unittest.TestCase):
    def test_every_picture_of_every_clip_can_be_read(self) -> None:
        for name, clip in clips.CLIPS.items():
            if clip.bench:
                continue
            with self.subTest(name):
                codes = [framecode.read(luma) for luma in decoded(name)]
                self.assertEqual(codes, [Code(clip.tag, n) for n in range(clip.frames)])

    def test_pictures_shown_later_are_sent_first(self) -> None:
        with_b = clips.CLIPS["h264-b"]
        self.assertEqual([with_b.shown(n) for n in range(8)], [0, 3, 1, 2, 6, 4, 5, 9])
        self.assertEqual(sorted(with_b.shown(n) for n in range(with_b.frames)), list(range(with_b.frames)))
        self.assertEqual(with_b.shown(26), 28)
        self.assertEqual([clips.CLIPS["h264-360p"].shown(n) for n in range(30)], list(range(30)))

    def test_tags_are_unique(self) -> None:
        tags = [clip.tag for clip in clips.CLIPS.values()]
        self.assertEqual(len(tags), len(set(tags)))
        self.assertLessEqual(max(tags), framecode.MAX_TAG)


class FrameCode(unittest.TestCase):
    def picture(self, index: int) -> Plane:
        luma = np.full((360, 640), 100, np.uint8)
        framecode.burn(luma, Code(3, index))
        return luma

    def test_round_trip(self) -> None:
        for index, (width, height) in itertools.product(
            (0, 1, 255, framecode.MAX_INDEX), ((320, 180), (640, 360), (1920, 1080), (3840, 2160))
        ):
            luma = np.full((height, width), 100, np.uint8)
            framecode.burn(luma, Code(framecode.MAX_TAG, index))
            self.assertEqual(framecode.read(luma), Code(framecode.MAX_TAG, index))

    def test_a_tear_anywhere_between_two_bands_is_seen(self) -> None:
        for row in range(20, 340, 16):
            torn = self.picture(7)
            torn[row:] = self.picture(8)[row:]
            with self.assertRaises(framecode.CodeError):
                framecode.read(torn)

    def test_fields_of_two_pictures_are_seen(self) -> None:
        woven = self.picture(7)
        woven[1::2] = self.picture(8)[1::2]
        with self.assertRaises(framecode.Torn):
            framecode.read(woven)

    def test_a_band_in_the_wrong_place_or_no_band_is_unreadable(self) -> None:
        luma = self.picture(7)
        luma[-9:] = luma[:9]
        with self.assertRaises(framecode.Unreadable):
            framecode.read(luma)
        for shade in (0, 128, 255):
            with self.assertRaises(framecode.Unreadable):
                framecode.read(np.full((360, 640), shade, np.uint8))


if __name__ == "__main__":
    unittest.main()
