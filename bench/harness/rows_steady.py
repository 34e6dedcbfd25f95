# SPDX-License-Identifier: Apache-2.0
"""Row 5: random writes for minutes, past the log. vstored runs in slices and is frozen (SIGSTOP) while the peers have theirs, so that it
cannot fold for free; its seconds together are what the row asks for."""
import contextlib
import os
import shutil
import statistics

from .loads import Writer, fill, fio_disk
from .machine import MIB, Failed, btrfs, copy_cold
from .result import DISK, OURS, interleave, row, start_peer
from .rows_guest import BTRFS, RAW
from .servers import Vstored, qemu_nbd



@row(5, titles=["4 KiB random write QD32 for minutes, past the log"])
def row5(bench, rows):
    out = rows[5]
    slices, ours_seconds, peer_seconds = (2, 12, 2) if bench.quick else (5, 62, 15)
    log_mib = 128 if bench.quick else 256
    region_mib = 8 * log_mib
    raw, region = bench.data.dense(region_mib), f"{region_mib}M"
    measure = out.measure(f"4 KiB random write QD32, {region_mib} MiB over a log of {log_mib} MiB, {slices * ours_seconds} s", "IOPS",
                          caches="O_DIRECT; collections run as configured by default")
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(Vstored(bench.fresh("ours"), region, log=f"{log_mib}M", cache="256M", idle_fold="1s"))
        fill(ours, raw)
        ours.settle()
        servers = {OURS: ours}
        copy = copy_cold(raw, os.path.join(bench.folder, "write.raw"))
        servers[RAW] = start_peer(out, stack, RAW, lambda: qemu_nbd(bench.folder, "raw", copy))
        if not bench.quick:
            servers[BTRFS] = start_peer(out, stack, BTRFS, lambda: btrfs_peer(bench, stack, raw))
        writers = {name: Writer(bench.folder, f"writer-{number}", server, region, bench.data.dense(64 if bench.quick else 512), raw)
                   for number, (name, server) in enumerate(servers.items()) if server}
        os.sync()
        before = ours.status()

        def peer(name):
            with ours.frozen():
                reading = writers[name].write(peer_seconds, depth=32) if name in writers else \
                    fio_disk(copy, "randwrite", region, min(peer_seconds, 5))
                os.sync()
                return reading

        contenders = {OURS: lambda: writers[OURS].write(ours_seconds, depth=32)}
        contenders.update({name: lambda n=name: peer(n) for name in writers if name != OURS})
        interleave(out, measure, contenders, slices)
        judge(out, measure, before, ours.status(), log_mib)
        bench.profile(out, measure.what, lambda: writers[OURS].write(10, depth=32))
        for name, writer in writers.items():
            out.checked(f"{name}: every block holds what was answered last", writer.verify)
        measure_disk_limit(out, measure, lambda: peer(DISK), slices)
    shutil.rmtree(ours.folder, ignore_errors=True)


def measure_disk_limit(out, measure, run_once, rounds):
    """Last, as it overwrites the raw peer's file."""
    for _ in range(min(rounds, 2)):
        try:
            measure.add(DISK, run_once())
        except Failed as error:
            out.gap(DISK, str(error))


def btrfs_peer(bench, stack, raw):
    folder = os.path.join(bench.folder, "btrfs")
    stack.enter_context(btrfs(folder + ".img", folder, 8 << 30))
    copy = copy_cold(raw, os.path.join(folder, "disk.raw"))
    return qemu_nbd(bench.folder, "btrfs", copy)


def judge(out, measure, before, after, log_mib):
    """The ratio wanted depends on how many dirty blocks a folded chunk had; and no second may fall off a cliff."""
    changed = {key: after[key] - before[key] for key in ("writes_total", "folded_chunks_total", "segments_dropped_total",
                                                         "written_bytes_total", "chunk_out_bytes_total")}
    density = changed["writes_total"] / max(changed["folded_chunks_total"], 1)
    measure.target(RAW, 0.25 if density >= 2 else 0.2)
    out.note(f"{density:.2f} writes for a folded chunk; {changed['folded_chunks_total']:,} chunks folded, "
             f"{changed['segments_dropped_total']:,} segments given back meanwhile")
    out.note(f"written to segments: {changed['chunk_out_bytes_total'] / max(changed['written_bytes_total'], 1):.2f} bytes for a guest's byte")
    measure.bound("written meanwhile, in sizes of the log", changed["written_bytes_total"] / (log_mib * MIB), 2, "x", better="more")
    seconds = [second for slice_ in measure.seconds[OURS] for second in slice_]
    measure.bound("slowest second, against the median second", min(seconds) / max(statistics.median(seconds), 1), 0.5, "x", better="more")
