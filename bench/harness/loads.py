# SPDX-License-Identifier: Apache-2.0
"""Clients: fio where it can, bench/load for writes (payload of real data, proof of what was answered), nbdcopy for streams."""
import json
import os

from .machine import BUILD, Failed, run, shell

LOAD = os.path.join(BUILD, "bench/load")


class Reading:
    """One figure of one round, with the percentiles and seconds that came with it."""

    def __init__(self, value, latency_us=None, per_second=None):
        self.value, self.latency_us, self.per_second = value, latency_us, per_second


def _fio(args, rw, seconds, size):
    out = run("fio", "--name=x", f"--rw={rw}", "--bs=4k", f"--size={size}", "--time_based", f"--runtime={seconds}", "--randrepeat=0",
              "--norandommap", "--group_reporting", "--output-format=json", "--percentile_list=50:99:99.9", *args)
    job = json.loads(out[out.index("{"):])["jobs"][0]
    if job["error"]:
        raise Failed(f"fio reports error {job['error']}")
    side = job["write" if "write" in rw else "read"]
    at = side["clat_ns"].get("percentile", {})
    latency = {name: at.get(key, 0) / 1e3 for name, key in (("p50", "50.000000"), ("p99", "99.000000"), ("p99.9", "99.900000"))}
    return Reading(side["iops"], latency)


def fio_read(server, size, seconds, depth=32):
    """4 KiB random reads on one connection, per second."""
    return _fio(("--ioengine=nbd", f"--uri={server.uri()}", f"--iodepth={depth}"), "randread", seconds, size)


def load_read(server, size, seconds, depth=32):
    """The same by a client that asks and takes several blocks with one system call; fio makes five for each block."""
    out = json.loads(run(LOAD, "--socket", server.sock, "--export", server.export, "--region", size, "--read", "--seconds", seconds, "--depth", depth))
    return Reading(out["iops"], {k: v for k, v in out["latency_us"].items() if k != "max"})


def fio_disk(path, rw, size, seconds, depth=32, extra=()):
    """The disk's own limit: the same work on the raw file, O_DIRECT, io_uring."""
    return _fio(("--ioengine=io_uring", f"--filename={path}", "--direct=1", f"--iodepth={depth}", *extra), rw, seconds, size)


class Writer:
    """bench/load against one export. It remembers what every block must hold, over several runs, and verifies it."""

    def __init__(self, folder, name, server, region, payload, base):
        """base: the file with what the export held before."""
        self.server, self.region = server, region
        self.state = os.path.join(folder, name + ".generations")
        self.common = ["--region", region, "--payload", payload, "--base", base]
        self.runs = 0
        if os.path.exists(self.state):
            os.unlink(self.state)

    def _load(self, *args, seconds=600):
        return run(LOAD, "--socket", self.server.sock, "--export", self.server.export, *self.common, *args, seconds=seconds)

    def write(self, seconds, depth=1, connections=1, flush=False):
        self.runs += 1
        out = json.loads(self._load("--state", self.state, "--seconds", seconds, "--depth", depth, "--connections", connections,
                                    "--seed", 1000 + self.runs, *(["--flush"] if flush else []), seconds=seconds + 120))
        return Reading(out["iops"], {k: v for k, v in out["latency_us"].items() if k != "max"}, out["per_second"])

    def verify(self):
        """Failed: a block does not hold what was answered."""
        self._load("--state", self.state, "--verify")


def fill(server, path):
    run("nbdcopy", "--flush", path, server.uri())


def export_sha256(server, bytes_):
    return shell('nbdcopy "$1" - | head -c "$2" | sha256sum', server.uri(), bytes_).split()[0]
