# SPDX-License-Identifier: Apache-2.0
"""Rows 10 and 12: the index's memory, kill -9 to serving, and whether the daemon keeps to the memory that its configuration names."""
import os
import re
import signal
import time

from .loads import Writer, fill
from .machine import BUILD, MIB, run
from .result import OURS, row
from .servers import Vstored

SCALE_OPEN = os.path.join(BUILD, "bench/scale_open")


def kill_to_read(bench, out, folder, size, raw):
    """Seconds from the start of vstored, after a kill -9 under writes, to the first block read through NBD."""
    server = Vstored(folder, size, log="256M", cache="64M")
    try:
        fill(server, raw)
        writer = Writer(bench.folder, "writer", server, size, bench.data.dense(64), raw)
        writer.write(1, depth=32)
        server.stop(signal.SIGKILL)
        start = time.monotonic()
        server = Vstored(folder, cache="64M")
        run("qemu-io", "-r", "-f", "raw", "-c", "read 0 4k", server.uri())
        seconds = time.monotonic() - start
        writer.server = server
        out.checked(f"{OURS}: after kill -9 every block holds what was answered last", writer.verify)
        return seconds
    finally:
        server.stop()


@row(10, titles=["index memory; kill -9 to serving"])
def row10(bench, rows):
    out, megabytes = rows[10], 256 if bench.quick else 1024
    raw = bench.data.dense(megabytes)
    measure = out.measure(f"kill -9 under writes to the first block read, {megabytes} MiB stored", "s", "less", "page cache as it is")
    for _ in range(bench.rounds):
        measure.add(OURS, kill_to_read(bench, out, bench.fresh("ours"), f"{megabytes}M", raw))
    measure.bound("slowest round", max(measure.series[OURS]), 1.0, "s")
    scale_open(out, bench.fresh("scale"), ("1",) if bench.quick else ("1", "10", "50"))


def scale_open(out, folder, millions):
    """bench/scale_open makes stores of so many million chunks, kills and opens them. What it prints is judged here."""
    os.makedirs(folder)
    if not os.path.exists(SCALE_OPEN):
        out.gap("stores of many chunks", "bench/scale_open is not built: ninja -C build-release")
        return
    text = run(SCALE_OPEN, folder, *millions)
    found = re.findall(r"([\d.]+) M chunks: kill -9 to first read ([\d.]+) s .*; ([\d.]+) bytes a chunk", text)
    out.check("each size of store was opened and read", len(found) == len(millions), text)
    measure = out.measure("stores of many chunks", "s", "less", "page cache as it is; the store reads past it")
    for size, seconds, bytes_ in found:
        measure.bound(f"{size} M chunks: kill -9 to the first read", float(seconds), 1.0, "s")
        measure.bound(f"{size} M chunks: index memory a chunk", float(bytes_), 12, "B")
    for line in text.splitlines():
        if line.startswith("slope"):
            out.note(f"index and recovery: {line}")


@row(12, titles=["memory of vstored at rest and under load"])
def row12(bench, rows):
    out, raw = rows[12], bench.data.dense(256)
    settings = {"cache": "64M", "node_cache": "16M", "directory_cache": "16M", "idle_fold": "1s"}
    measure = out.measure("resident memory of vstored (cache 64 MiB, node and directory cache 16 MiB each)", "MiB", "less")
    with Vstored(bench.fresh("ours"), "256M", log="256M", **settings) as server:
        rest = server.memory()[0]
        fill(server, raw)
        writer = Writer(bench.folder, "writer", server, "256M", bench.data.dense(64), raw)
        writer.write(bench.seconds * 2, depth=32)
        writer.write(bench.seconds * 2, connections=16, depth=8, flush=True)
        server.ctl("volume", "import", bench.data.image, "b", "--format", "raw")
        server.settle()
        after, most = server.memory()
        limit = server.status()["memory_bound_bytes"]
        out.checked(f"{OURS}: every block holds what was answered last", writer.verify)
    for what, value in (("at rest, nothing read yet", rest), ("after load", after), ("at most", most)):
        measure.bound(what, value / MIB, limit / MIB, "MiB")
