# SPDX-License-Identifier: Apache-2.0
"""Row 13: how fast a scrub by hand goes through what is stored, against the disk's sequential read, and what guests' reads lose to it."""
import contextlib
import json
import statistics
import threading
import time

from .loads import export_sha256, fill, fio_disk, fio_read
from .machine import MIB, Failed, sha256_of
from .result import DISK, OURS, interleave, row
from .servers import Vstored


@contextlib.contextmanager
def scrubbing(server):
    """A pass after the other, for as long as the context lasts; one that fails fails it."""
    ended, failed = threading.Event(), []

    def loop():
        try:
            while not ended.is_set():
                server.ctl("store", "scrub")
        except Failed as error:
            failed.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failed:
        raise failed[0]


@row(13, titles=["scrub"])
def row13(bench, rows):
    out, megabytes = rows[13], 512 if bench.quick else 2048
    size, raw = f"{megabytes}M", bench.data.dense(megabytes)
    measure = out.measure(f"scrub by hand, {megabytes} MiB of a guest's data", "MiB/s of what is stored",
                          caches="O_DIRECT; every stored byte is read and checked; decoding and ids are --deep's")
    measure.target(DISK, 0.7)
    with Vstored(bench.fresh("ours"), size, cache="16M", node_cache="16M", idle_fold="1s") as server:
        fill(server, raw)
        server.settle()
        status = server.status()
        stored = (status["live_bytes"] + status["garbage_bytes"]) / MIB

        def scrub():
            start = time.monotonic()
            server.ctl("store", "scrub")
            return stored / (time.monotonic() - start)

        interleave(out, measure, {OURS: scrub, DISK: lambda: fio_disk(raw, "read", size, bench.seconds, depth=8, extra=("--bs=1M",)).value},
                   bench.rounds)
        bench.profile(out, measure.what, scrub)
        foreground(bench, out, server, size)
        found = json.loads(server.ctl("-o", "json", "store", "scrub"))["job"]["result"]
        out.check("the scrub went through the records, and found nothing", found["chunks"] > 0 and found["damaged"] == 0)
        out.check(f"{OURS}: what is read is what was written", export_sha256(server, megabytes * MIB) == sha256_of(raw, megabytes * MIB))


def foreground(bench, out, server, size):
    """The median of guests' reads with and without a scrub, a few seconds apart."""
    medians = {"without": [], "with": []}
    for _ in range(bench.rounds):
        medians["without"].append(fio_read(server, size, bench.seconds, depth=1).latency_us["p50"])
        with scrubbing(server):
            medians["with"].append(fio_read(server, size, bench.seconds, depth=1).latency_us["p50"])
    lost = statistics.median(a / b for a, b in zip(medians["with"], medians["without"]))
    beside = out.measure("4 KiB random reads QD1 beside a scrub, cold", "us", "less")
    for without, beside_one in zip(medians["without"], medians["with"]):
        beside.add("without a scrub", without)
        beside.add("beside a scrub", beside_one)
    beside.bound("median over the rounds of one beside it against the one before", lost, 1.10, "x")
