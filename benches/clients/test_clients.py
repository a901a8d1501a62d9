"""The arithmetic of the bench, on figures that are known. Peers are not needed."""

from __future__ import annotations

import unittest
from typing import Any

import clients


def case(detectors: int, camring: float) -> dict[str, Any]:
    of_best = {"of_best_other": {"median": camring}}
    return {
        "detectors": detectors,
        "fps": 10,
        "floor_ms": 5.0,
        "best_other_cores": 0.1,
        "peers": {"camring": of_best},
    }


class VerdictsTest(unittest.TestCase):
    def test_the_best_other_is_none_of_camrings(self) -> None:
        cores = {"camring": 0.1, "camring-view": 0.05, "opencv": 0.4, "ffmpeg": 0.3, "shared-memory": None}
        self.assertEqual(clients.best_other(cores), 0.3)
        self.assertIsNone(clients.best_other({"camring": 0.1}))

    def test_the_goal_is_for_three_detectors(self) -> None:
        titles = {"camring": "camring"}
        self.assertIn("PASS", next(clients.verdicts(case(3, 0.5), titles)))
        self.assertIn("over", next(clients.verdicts(case(3, 0.51), titles)))
        one = list(clients.verdicts(case(1, 0.9), titles))
        self.assertEqual(one[0], "camring, 1 detectors, CPU ÷ the best other: 0.90")
        # 5 ms of a picture, ten times a second, of 0.1 cores.
        self.assertTrue(one[1].endswith("0.50"), one)

    def test_a_figure_that_is_not_there_is_said(self) -> None:
        self.assertEqual(clients.verdict("x", None, 20), "x: not measured")
        nothing = case(3, 0.5) | {"best_other_cores": None}
        self.assertEqual(list(clients.verdicts(nothing, {})), [])


if __name__ == "__main__":
    unittest.main()
