# SPDX-License-Identifier: Apache-2.0
"""Where the processors' time goes while vstored is measured: one more run of the same work under perf, of the whole machine, so that
the client's and the kernel's part are seen too. It never counts as a figure."""
import os
import signal
import subprocess

from .machine import Failed, run

LINES_MAX = 30
HERTZ = 997


def profile(folder, function):
    """The text of perf's report on all processes while function runs; Failed: there is no perf here."""
    data = os.path.join(folder, "perf.data")
    try:
        recorder = subprocess.Popen(["perf", "record", "-a", "-F", str(HERTZ), "-o", data], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        raise Failed("perf is not installed (Debian package linux-perf)") from None
    try:
        function()
    finally:
        recorder.send_signal(signal.SIGINT)
        recorder.wait(60)
    parts = [f"by {what}:\n{report(data, sort, lines)}\n" for what, sort, lines in
             (("process", "comm", 8), ("library", "comm,dso", 12), ("function", "comm,dso,symbol", LINES_MAX))]
    os.unlink(data)
    return "\n".join(parts)


def report(data, sort, lines):
    text = run("perf", "report", "-i", data, "--stdio", "--sort", sort, "--percent-limit", "0.7")
    found = [line.rstrip(" -") for line in text.splitlines()
             if line.strip() and not line.startswith("#") and "swapper" not in line and "[.] 0x0" not in line]
    return "\n".join(found[:lines])
