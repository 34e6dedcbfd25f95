# SPDX-License-Identifier: Apache-2.0
"""Rows 1 to 4: what a guest sees: 4 KiB random reads from the cache and cold, a burst of writes, writes that are flushed."""
import contextlib
import os
import shutil

from .loads import Writer, export_sha256, fill, fio_disk, fio_read, load_read
from .machine import MIB, MemoryLimit, btrfs, copy_cold, drop_caches, forget, run, sha256_of
from .result import DISK, NULL, OURS, interleave, row, start_peer
from .servers import Vstored, nbdkit, qemu_nbd

BTRFS_SLACK_MIB = 8  # for what qemu-nbd itself needs more while it serves
RAW, KIT, QCOW2, BTRFS = "qemu-nbd raw", "nbdkit file", "qemu-nbd qcow2+zstd", "qemu-nbd on btrfs zstd:1"


def rewarm(server, size, seconds):
    """Whatever this server can keep in memory is there: read once in order, then as it will be measured."""
    run("nbdcopy", server.uri(), "null:")
    fio_read(server, size, seconds)


def check_contents(row_, name, server, path, bytes_):
    row_.check(f"{name}: all of the volume, read through NBD, has the checksum of what was written",
               export_sha256(server, bytes_) == sha256_of(path, bytes_))


def null_server(bench, row_, stack, size):
    return start_peer(row_, stack, NULL, lambda: nbdkit(bench.folder, "null", "null", f"size={size}"))


@row(1, titles=["4 KiB random read QD32, working set in the cache"])
def row1(bench, rows):
    out = rows[1]
    for megabytes in (256,) if bench.quick else (256, 1024):
        size, raw = f"{megabytes}M", bench.data.dense(megabytes)
        caches = "warm: read once before; vstored's cache and the page cache (nbdkit) hold all of it; qemu-nbd is O_DIRECT"
        measure = out.measure(f"4 KiB random read QD32, {megabytes} MiB", "IOPS", caches=caches)
        lean = out.measure(f"4 KiB random read QD32, {megabytes} MiB, asked by bench/load", "IOPS", caches=caches)
        if megabytes == 256:  # the larger set is shown
            for each in (measure, lean):
                each.target(RAW, 4.0)
                each.target(KIT, 1.3)
        with contextlib.ExitStack() as stack:
            ours = stack.enter_context(Vstored(bench.fresh("ours"), size, cache="1200M", idle_fold="1s"))
            fill(ours, raw)
            copy = copy_cold(raw, os.path.join(bench.folder, "direct.raw"))
            servers = {OURS: ours, RAW: start_peer(out, stack, RAW, lambda: qemu_nbd(bench.folder, "raw", copy)),
                       KIT: start_peer(out, stack, KIT, lambda: nbdkit(bench.folder, "kit", "file", raw)),
                       NULL: null_server(bench, out, stack, size)}
            servers = {name: server for name, server in servers.items() if server}
            ours.settle()
            for server in servers.values():
                rewarm(server, size, 1 if bench.quick else 3)
            for each, read in ((measure, fio_read), (lean, load_read)):
                interleave(out, each, {name: lambda s=server: read(s, size, bench.seconds) for name, server in servers.items()}, bench.rounds)
                bench.profile(out, each.what, lambda: read(ours, size, bench.seconds))
            check_contents(out, f"{OURS}, {megabytes} MiB", ours, raw, megabytes * MIB)


@row(2, titles=["4 KiB random read QD32, cold, compressed on disk"])
def row2(bench, rows):
    out, megabytes = rows[2], 256 if bench.quick else 1024
    size, raw = f"{megabytes}M", bench.data.dense(megabytes)
    cache = megabytes // 64  # three caches of 1/64 and the page cache of none: below 1/16 of the set
    measure = out.measure(f"4 KiB random read QD32, {megabytes} MiB, cold", "IOPS",
                          caches=f"O_DIRECT; every range allocated; vstored's caches together {3 * cache} MiB (1/16 of the set: {megabytes // 16})")
    measure.target(RAW, 0.85)
    measure.target(BTRFS, 4.0)
    qcow2, on_btrfs = os.path.join(bench.folder, "cold.qcow2"), os.path.join(bench.folder, "btrfs")
    run("qemu-img", "convert", "-c", "-o", "compression_type=zstd", "-W", "-m", "4", "-f", "raw", "-O", "qcow2", raw, qcow2)
    with contextlib.ExitStack() as stack:
        frames = ("16K", "4K") if bench.quick else ("16K", "8K", "4K")
        names = {frame: OURS if frame == "16K" else f"{OURS}, {frame[:-1]} KiB frames" for frame in frames}
        settings = {"idle_fold": "1s"} | {key: f"{cache}M" for key in ("cache", "node_cache", "directory_cache")}
        servers = {}
        for frame in frames:
            servers[names[frame]] = stack.enter_context(Vstored(bench.fresh("ours" + frame), size, frame=frame, **settings))
            fill(servers[names[frame]], raw)
        forget(raw)
        servers[RAW] = start_peer(out, stack, RAW, lambda: qemu_nbd(bench.folder, "raw", raw))
        servers[QCOW2] = start_peer(out, stack, QCOW2, lambda: qemu_nbd(bench.folder, "qcow2", qcow2, "qcow2"))
        servers[BTRFS] = start_peer(out, stack, BTRFS, lambda: btrfs_server(bench, out, stack, on_btrfs, raw, megabytes))
        servers = {name: server for name, server in servers.items() if server}
        for frame in frames:
            servers[names[frame]].settle()

        def cold(name, server):
            if name == BTRFS:  # the others do not use the page cache
                drop_caches()
            return fio_read(server, size, bench.seconds)

        contenders = {name: lambda n=name, s=server: cold(n, s) for name, server in servers.items()}
        contenders[DISK] = lambda: fio_disk(raw, "randread", size, bench.seconds)
        interleave(out, measure, contenders, bench.rounds)
        for frame in frames:
            bench.profile(out, f"frames of {frame}", contenders[names[frame]])
        smaller = [(names[f], measure.series) for f in frames if f != "16K"]
        for name, series in smaller:
            against_raw = [a / b for a, b in zip(series[name], series.get(RAW, []))]
            if against_raw:
                measure.bound(f"{name}, against {RAW}", sorted(against_raw)[len(against_raw) // 2], 1.0, "x", better="more")
        for frame in frames:
            check_contents(out, names[frame], servers[names[frame]], raw, megabytes * MIB)


def btrfs_server(bench, out, stack, folder, raw, megabytes):
    """qemu-nbd over a file on btrfs. O_DIRECT reads of compressed extents go through the page cache there; it is bounded."""
    stack.enter_context(btrfs(folder + ".img", folder, 4 << 30))
    copy = copy_cold(raw, os.path.join(folder, "disk.raw"))
    forget(raw)
    server = qemu_nbd(bench.folder, "btrfs", copy)
    limit = MemoryLimit("vstore-bench-btrfs", server.process.pid, (BTRFS_SLACK_MIB + megabytes // 16) * MIB)
    stack.callback(limit.done)
    out.note("btrfs: caches dropped before each round" +
             (f"; its page cache has {BTRFS_SLACK_MIB + megabytes // 16} MiB at most" if limit.made else
              "; its page cache is not bounded (no memory cgroup here), which flatters it"))
    return server


def write_servers(bench, out, stack, size, raw, log, kit=False):
    """vstored, the raw peer on a copy, and the ceiling; with one Writer each."""
    settings = {"cache": "256M", "idle_fold": "1s"}
    ours = stack.enter_context(Vstored(bench.fresh("ours"), size, log=log, **settings))
    fill(ours, raw)
    servers = {OURS: ours}
    copy = copy_cold(raw, os.path.join(bench.folder, "write.raw"))
    servers[RAW] = start_peer(out, stack, RAW, lambda: qemu_nbd(bench.folder, "raw", copy))
    if kit:
        kit_copy = os.path.join(bench.folder, "kit.raw")
        shutil.copyfile(raw, kit_copy)  # stays in the page cache, which is what it is measured with
        servers[kit] = start_peer(out, stack, kit, lambda: nbdkit(bench.folder, "kit", "file", kit_copy))
    servers[NULL] = null_server(bench, out, stack, size)
    os.sync()
    ours.settle()
    return {name: (server, Writer(bench.folder, f"writer-{number}", server, size, bench.data.dense(64), raw))
            for number, (name, server) in enumerate(servers.items()) if server}


def verify_writers(out, servers):
    for name, (server, writer) in servers.items():
        if name != NULL:
            out.checked(f"{name}: every block holds what was answered last", writer.verify)


@row(3, titles=["4 KiB random write QD32, burst within the log"])
def row3(bench, rows):
    out, size, kit = rows[3], "256M", "nbdkit file (page cache)"
    raw, seconds = bench.data.dense(256), 1 if bench.quick else 2
    measure = out.measure(f"4 KiB random write QD32, {size}, bursts of {seconds} s", "IOPS",
                          caches="O_DIRECT; vstored answers when the log has it (safe against kill -9); nbdkit answers from the page cache")
    measure.target(RAW, 1.8)
    with contextlib.ExitStack() as stack:
        servers = write_servers(bench, out, stack, size, raw, "4G", kit)

        def burst(name):
            server, writer = servers[name]
            reading = writer.write(seconds, depth=32)
            if name == OURS:
                server.settle()
            elif name == kit:
                os.sync()
            return reading

        copy = copy_cold(raw, os.path.join(bench.folder, "disk.raw"))
        contenders = {name: lambda n=name: burst(n) for name in servers}
        contenders[DISK] = lambda: fio_disk(copy, "randwrite", size, seconds)
        interleave(out, measure, contenders, bench.rounds)
        bench.profile(out, measure.what, contenders[OURS])
        ours, writer = servers[OURS]
        ours.stop(9)  # kill -9 right after the last answers
        with Vstored(ours.folder) as again:
            writer.server = again
            verify_writers(out, servers)
        out.note("vstored was killed with -9 before its blocks were verified")


@row(4, titles=["4 KiB write + flush, QD1 and 16 clients"])
def row4(bench, rows):
    out, size, raw = rows[4], "256M", bench.data.dense(256)
    with contextlib.ExitStack() as stack:
        servers = write_servers(bench, out, stack, size, raw, "4G")
        copy = copy_cold(raw, os.path.join(bench.folder, "disk.raw"))
        for clients, wanted in ((1, 1.6), (16, 1.5)):
            measure = out.measure(f"4 KiB write + flush, {clients} client{'s' if clients > 1 else ''}", "pairs/s",
                                  caches="durable: every write is followed by a flush of its own")
            measure.target(RAW, wanted)
            contenders = {name: lambda w=writer: w.write(bench.seconds, connections=clients, flush=True)
                          for name, (_, writer) in servers.items()}
            contenders[DISK] = lambda: fio_disk(copy, "randwrite", size, bench.seconds, 1,
                                                ("--fdatasync=1", f"--numjobs={clients}"))
            interleave(out, measure, contenders, bench.rounds)
            bench.profile(out, measure.what, contenders[OURS])
        verify_writers(out, servers)
