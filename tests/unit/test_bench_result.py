#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who is judged in a row's measure: peers, and of vstored's other settings those that have a target."""
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench"))
sys.dont_write_bytecode = True
from harness.result import OURS, Measure  # noqa: E402 pylint: disable=wrong-import-position


class Judged(unittest.TestCase):
    def setUp(self):
        self.measure = Measure("a work", "IOPS")
        for name, value in ((OURS, 50), (OURS + ", another setting", 100), ("a peer", 200)):
            self.measure.add(name, value)

    def test_other_settings_are_no_peers(self):
        self.assertEqual(list(self.measure.judged()), ["a peer"])

    def test_other_settings_with_a_target_are_judged(self):
        self.measure.target(OURS + ", another setting", 0.6)
        self.assertEqual(self.measure.judged()[OURS + ", another setting"], {"median": 0.5, "min": 0.5, "max": 0.5, "target": 0.6, "met": False})


if __name__ == "__main__":
    unittest.main()
