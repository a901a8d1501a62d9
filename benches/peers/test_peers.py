"""The arithmetic of the bench, on pictures and counts that are known. Peers are not needed."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import unittest

import figures
import framecode
import numpy as np
import processes
from witness import CodeBook, Tally

WINDOW = (1_000_000_000, 2_000_000_000)


def tally_of(*steps: tuple[int | None, int, int]) -> Tally:
    """A camera of 10 pictures; each step: index, sent and held in ms."""
    tally = Tally(10)
    for index, sent, held in steps:
        tally.add(index, held * 1_000_000, sent * 1_000_000, WINDOW)
    return tally


class CodeBookTest(unittest.TestCase):
    def picture(self, index: int, tag: int = 5) -> framecode.Plane:
        luma = np.full((360, 640), 90, np.uint8)
        framecode.burn(luma, framecode.Code(tag, index))
        return luma

    def test_agrees_with_the_decoder_of_the_frame_code(self) -> None:
        book = CodeBook(5, 100, 640, 360)
        for index in (0, 1, 42, 99):
            luma = self.picture(index)
            self.assertEqual(framecode.read(luma).index, index)
            self.assertEqual(book.index(luma), index)

    def test_refuses_what_is_torn_foreign_or_no_code(self) -> None:
        book = CodeBook(5, 100, 640, 360)
        torn = self.picture(7)
        torn[200:] = self.picture(8)[200:]
        # One line of one field in one band.
        line = self.picture(7)
        line[framecode.band_top(2, 360) + framecode.band_height(360) // 2] = 0
        for luma in (torn, line, self.picture(7, tag=6), self.picture(100), np.zeros((360, 640), np.uint8)):
            self.assertIsNone(book.index(luma))

    def test_reads_the_green_of_an_interleaved_picture(self) -> None:
        picture = np.zeros((360, 640, 3), np.uint8)
        picture[:, :, 1] = self.picture(3)
        self.assertEqual(CodeBook(5, 100, 640, 360).index(picture[:, :, 1]), 3)


class TallyTest(unittest.TestCase):
    def test_all_delivered_across_the_end_of_the_clip(self) -> None:
        tally = tally_of((7, 900, 910), (8, 1000, 1015), (9, 1100, 1105), (0, 1200, 1230), (1, 2000, 2010))
        self.assertEqual((tally.seen, tally.expected, tally.torn, tally.disorder), (3, 3, 0, 0))
        self.assertEqual(tally.latencies_us, [15_000, 5_000, 30_000])
        self.assertEqual(tally.first_ns, 910_000_000)

    def test_lost_ones_are_expected_but_not_those_before_the_window(self) -> None:
        tally = tally_of((1, 900, 910), (4, 1000, 1010), (7, 1300, 1310))
        self.assertEqual((tally.seen, tally.expected), (2, 4))

    def test_repeated_older_and_torn_ones_are_not_delivered(self) -> None:
        tally = tally_of((1, 1000, 1010), (1, 1000, 1020), (0, 1010, 1030), (None, 0, 1040), (None, 0, 2100))
        self.assertEqual((tally.seen, tally.expected, tally.torn, tally.disorder), (1, 1, 1, 2))

    def test_nothing_counts_before_a_window_is_announced(self) -> None:
        tally = Tally(10)
        tally.add(3, 5, 4, (0, 0))
        tally.add(None, 6, 0, (0, 0))
        self.assertEqual((tally.seen, tally.torn, tally.first_ns), (0, 0, 5))


class FiguresTest(unittest.TestCase):
    def test_percentile_is_the_nearest_rank(self) -> None:
        values = list(range(100, 0, -1))
        self.assertEqual([figures.percentile(values, p) for p in (1, 50, 99, 100)], [1, 50, 99, 100])
        self.assertEqual(figures.percentile([7.0], 50), 7.0)
        self.assertTrue(math.isnan(figures.percentile([], 50)))

    def test_delivery_counts_what_cameras_pushed_and_readers_never_saw(self) -> None:
        one = {"seen": 60, "expected": 60, "torn": 0, "disorder": 1, "latencies_us": [1000] * 60}
        two = {"seen": 30, "expected": 40, "torn": 2, "disorder": 0, "latencies_us": [9000] * 30}
        found = figures.delivery({0: one, 1: two}, [60, 60, 60], 10.0)
        self.assertEqual(found["frames"], 90)
        self.assertAlmostEqual(found["delivered_percent"], 50.0)
        self.assertEqual((found["torn"], found["disorder"], found["worst_camera_fps"]), (2, 1, 0))
        self.assertEqual((found["latency_p50_ms"], found["latency_p99_ms"]), (1.0, 9.0))

    def test_delivery_is_at_most_all(self) -> None:
        one = {"seen": 61, "expected": 61, "torn": 0, "disorder": 0, "latencies_us": [1] * 61}
        self.assertEqual(figures.delivery({0: one}, [60], 10.0)["delivered_percent"], 100.0)

    def test_summary_takes_medians_of_what_is_a_number(self) -> None:
        found = figures.summary(
            [{"a": 1.0, "b": math.nan}, {"a": 3.0, "b": math.nan}, {"a": 2.0, "b": math.nan}]
        )
        self.assertEqual(found["a"], {"median": 2.0, "runs": [1.0, 3.0, 2.0]})
        self.assertEqual(found["b"], {"median": None, "runs": [None, None, None]})


class ProcessesTest(unittest.TestCase):
    def test_share_tells_shared_memory_apart(self) -> None:
        private, shared = processes.share(
            "55d0-55d1 r--p 00000000 fd:00 11 /usr/bin/x\nRss: 9 kB\nPss:       4 kB\n"
            "7f00-7f01 rw-s 00000000 00:01 42 /memfd:ring (deleted)\nPss:     100 kB\nPss_Dirty: 3 kB\n"
            "7f02-7f03 rw-p 00000000 00:00 0 \nPss:       8 kB\nVmFlags: rd\n"
            "7f04-7f05 rw-s 00000000 00:1a 7 /dev/shm/x y\nPss:      16 kB\n"
        )
        self.assertEqual(private, 12 * 1024)
        self.assertEqual(shared, {("00:01", 42): 100 * 1024, ("00:1a", 7): 16 * 1024})

    def test_a_tree_its_cpu_time_and_its_end(self) -> None:
        code = (
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'])\n"
            "sum(range(2_000_000)); print('ready', flush=True); child.wait()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as root:
            assert root.stdout
            root.stdout.readline()
            found = processes.tree([root.pid])
            self.assertEqual(len(found), 2)
            self.assertTrue(all(process.alive for process in found))
            self.assertGreater(sum(process.cpu_seconds() or 0 for process in found), 0)
            self.assertGreater(processes.memory_bytes(found), 100_000)
            self.assertEqual(processes.threads(found), 2)
            self.assertNotIn(os.getpid(), [process.pid for process in found])
            processes.end(found, 0)
        self.assertEqual(processes.end(found, 60), [])


if __name__ == "__main__":
    unittest.main()
