#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/outcomes: what of meson's log is a success, a skip, a failure; and what the log does not have is a failure."""
import json
import os
import subprocess
import tempfile
import unittest

OUTCOMES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../outcomes")


class Outcomes(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        os.mkdir(f"{self.folder.name}/meson-logs")
        self.write("said", "the last that meson said\n")

    def write(self, name, text):
        with open(f"{self.folder.name}/meson-logs/{name}", "w", encoding="utf-8") as file:
            file.write(text)

    def line(self, name, result, returncode):
        return json.dumps({"name": f"vstore / {name}", "result": result, "returncode": returncode, "duration": 1.2, "stdout": f"output of {name}"}) + "\n"

    def outcomes(self, *names):
        out = subprocess.run([OUTCOMES, self.folder.name, *names], check=True, capture_output=True, text=True).stdout
        return {name: int(code) for code, _, name in (line.split() for line in out.splitlines())}

    def output(self, name):
        with open(f"{self.folder.name}/outcomes/{name}", encoding="utf-8") as file:
            return file.read()

    def test_each_result_has_its_exit_code(self):
        for result, returncode, want in (("OK", 0, 0), ("EXPECTEDFAIL", 1, 0), ("SKIP", 77, 77), ("FAIL", 3, 3), ("FAIL", -9, -9),
                                         ("UNEXPECTEDPASS", 0, 1), ("TIMEOUT", 0, 1), ("TIMEOUT", 77, 1), ("ERROR", 99, 99)):
            with self.subTest(result=result, returncode=returncode):
                self.write("testlog.json", self.line("a", result, returncode))
                self.assertEqual(self.outcomes("a"), {"a": want})
                self.assertIn("output of a", self.output("a"))

    def test_what_did_not_run_has_failed(self):
        whole, cut = self.line("a", "OK", 0), self.line("b", "OK", 0)[:-20]
        self.write("testlog.json", whole + cut)
        self.assertEqual(self.outcomes("a", "b", "c"), {"a": 0, "b": 1, "c": 1})
        self.assertIn("the last that meson said", self.output("c"))

    def test_without_a_log_all_have_failed(self):
        self.assertEqual(self.outcomes("a", "b"), {"a": 1, "b": 1})


if __name__ == "__main__":
    unittest.main()
