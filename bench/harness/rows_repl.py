# SPDX-License-Identifier: Apache-2.0
"""Row 11: replication between two hosts over TLS 1.3: connections alone against the same in the clear and iperf3, a real image, what goes
over after a change and for a second image, what a write in step costs, and what a long link carries."""
import ctypes
import hashlib
import json
import os
import random
import shutil
import sys
import time

from .hosts import Hosts
from .loads import Writer
from .machine import MIB, Failed, remove, run, sha256_of, wait_until
from .result import OURS, interleave, row

CLEAR, LINK, LOCAL = "its own plaintext", "iperf3", "vstored, no replica"
CHUNK, FRAME = 65536, 16384
RUN_CHUNKS = 8  # changed chunks that lie together


class Zstd:
    """What a chunk takes compressed, counted without vstored: zstd -1 of each 16 KiB, as it is where that saves less than 1/16."""

    def __init__(self):
        try:
            self.lib = ctypes.CDLL("libzstd.so.1")
        except OSError:
            raise Failed("libzstd.so.1 cannot be loaded") from None
        self.lib.ZSTD_compress.restype = ctypes.c_size_t
        self.room = ctypes.create_string_buffer(2 * FRAME)

    def chunk(self, chunk):
        total = 0
        for at in range(0, len(chunk), FRAME):
            frame = chunk[at:at + FRAME]
            took = self.lib.ZSTD_compress(self.room, ctypes.c_size_t(len(self.room)), frame, ctypes.c_size_t(len(frame)), 1)
            total += min(took, len(frame)) if took <= len(frame) * 15 // 16 else len(frame)
        return total


def chunks_of(path):
    """(number, chunk) of those that are not zero; holes are not read."""
    zero = bytes(CHUNK)
    with open(path, "rb") as file:
        end, at = os.fstat(file.fileno()).st_size, 0
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // CHUNK * CHUNK
            except OSError:
                return
            hole = max(os.lseek(file.fileno(), at, os.SEEK_HOLE), at + 1)  # data may begin behind the chunk's beginning
            while at < hole:
                chunk = os.pread(file.fileno(), CHUNK, at)  # the file's own place moves with SEEK_DATA
                if chunk != zero[:len(chunk)]:
                    yield at // CHUNK, chunk
                at += CHUNK


def key_of(chunk):
    return hashlib.blake2b(chunk, digest_size=16).digest()


class Replication:
    def __init__(self, bench, out, hosts):
        self.bench, self.out, self.hosts = bench, out, hosts
        self.rounds = 1 if bench.quick else bench.rounds
        self.image_rounds = 1 if bench.quick else 3  # each makes a store anew; they hardly differ
        self.seconds = min(bench.seconds, 2)
        self.log = "64M" if bench.quick else "256M"
        self.sender, self.receiver = bench.fresh("repl-a"), bench.fresh("repl-b")
        self.zstd = Zstd()

    def send(self, a, snapshot):
        """What the job says of it."""
        return json.loads(a.ctl("-o", "json", "replica", "send", snapshot, "b"))["job"]["result"]

    def pair(self, clear=False, fresh=True):
        if fresh:
            remove(self.receiver)
        a = self.hosts.vstored("a", self.sender, clear, self.log)
        self.hosts.enter_context(a)
        b = self.hosts.vstored("b", self.receiver, clear, self.log)
        self.hosts.enter_context(b)
        return a, b

    def connections(self):
        for streams in (1, 4):
            measure = self.out.measure(f"connections alone, {streams} stream{'s' if streams > 1 else ''}", "MiB/s",
                                       caches="two network namespaces, veth; messages of 24 KiB; both ends and the link share these processors")
            measure.target(CLEAR, 0.8)
            measure.target(LINK, 0.5)
            interleave(self.out, measure, {
                OURS: lambda n=streams: self.hosts.carried(n, self.seconds), CLEAR: lambda n=streams: self.hosts.carried(n, self.seconds, clear=True),
                LINK: lambda n=streams: self.hosts.iperf3(n, self.seconds)}, self.rounds)

    def image(self):
        """All of it to an empty peer; each time the same sender and a new receiver."""
        with self.hosts.vstored("a", self.sender, log=self.log) as a:
            a.ctl("volume", "import", self.bench.data.image, "v", "--format", "raw")
            a.ctl("snap", "create", "v@1")

        def whole(clear):
            a, b = self.pair(clear)
            start = time.monotonic()
            self.result = self.send(a, "v@1")
            seconds = time.monotonic() - start
            a.stop()
            b.stop()
            return seconds

        measure = self.out.measure("an image to an empty peer, until it is durable and published there", "s", "less",
                                   "both stores on the same disk, both daemons on these processors")
        measure.target(CLEAR, 0.8)
        interleave(self.out, measure, {CLEAR: lambda: whole(True), OURS: lambda: whole(False)}, self.image_rounds)
        self.out.note(f"the image: {self.result['sent']:,} chunks, {self.result['sent_bytes'] / MIB:.1f} MiB on the wire")

    def long_link(self):
        """To an empty peer far away: what TCP makes of loss bounds one connection, and a send has up to four."""
        mib, seconds = (4, 2) if self.bench.quick else (64, 10)
        data = os.path.join(self.bench.folder, "random.img")
        with open(data, "wb") as file:
            file.write(random.Random(11).randbytes(mib * MIB))  # as it is on the wire
        with self.hosts.long_link(80, 1000, 1000) as far:
            if not far:
                self.out.note("no long link: there is no /dev/net/tun")
                return

            def send():
                folders = [self.bench.fresh("far-" + side) for side in "ab"]
                with self.hosts.vstored("a", folders[0], address=far) as a, self.hosts.vstored("b", folders[1], address=far):
                    a.ctl("volume", "import", data, "v", "--format", "raw")
                    a.ctl("snap", "create", "v@1")
                    start = time.monotonic()
                    self.send(a, "v@1")
                    return mib / (time.monotonic() - start)

            measure = self.out.measure(f"{mib} MiB to an empty peer over a link with a round trip of 80 ms, where 1 of 1,000 packets is lost", "MiB/s",
                                       caches="1 Gbit/s, cubic, made by bench/long_link.c; until it is durable and published there")
            interleave(self.out, measure, {OURS: send, LINK + ", 1 stream": lambda: self.hosts.iperf3(1, seconds, far),
                                           LINK + ", 4 streams": lambda: self.hosts.iperf3(4, seconds, far)}, self.image_rounds)
        remove(data)

    def payload(self, count, seed):
        """Chunks of real data that are nowhere yet."""
        with open(self.bench.data.dense(64), "rb") as source:
            for number in range(count):
                source.seek(number * CHUNK % (64 * MIB))
                yield seed.to_bytes(4, "little") + number.to_bytes(8, "little") + source.read(CHUNK)[12:]

    def change(self, a, used, run_chunks, seed):
        """1 % of the chunks, those of numbers `used`, become others; what these take compressed, and how many there were."""
        runs = max(1, len(used) // 100 // run_chunks)
        first = random.Random(seed).sample(range(len(used) // run_chunks), runs)
        numbers = [used[at * run_chunks + i] for at in first for i in range(run_chunks)]
        folder, command, compressed = self.bench.fresh("changed"), ["qemu-io", "-f", "raw"], 0
        os.makedirs(folder)
        for number, chunk in zip(numbers, self.payload(len(numbers), seed)):
            compressed += self.zstd.chunk(chunk)
            name = os.path.join(folder, str(number))
            with open(name, "wb") as file:
                file.write(chunk)
            command += ["-c", f"write -s {name} {number * CHUNK} {CHUNK}"]
        run(*command, "-c", "flush", a.volume("v").uri())
        shutil.rmtree(folder)
        return compressed, len(numbers)

    def changes(self, a):
        measure = self.out.measure("bytes on the wire, all counted, against the changed chunks compressed by zstd -1 alone", "MiB", "less")
        keys = {number: key_of(chunk) for number, chunk in chunks_of(self.bench.data.image)}
        for name, run_chunks, seed in (("in runs of 512 KiB", RUN_CHUNKS, 2), ("each alone", 1, 3)):
            compressed, count = self.change(a, list(keys), run_chunks, seed)
            a.ctl("snap", "create", f"v@{seed}")
            sent = self.send(a, f"v@{seed}")
            self.out.check(f"1 % changed {name}: these chunks went over, and no other", sent["sent"] == count, f"{sent['sent']} of {count}")
            measure.bound(f"1 % changed, {name} ({compressed / MIB:.2f} MiB compressed)", sent["sent_bytes"] / compressed, 1.06, "x")
        known = set(keys.values())
        compressed = count = 0
        for _, chunk in chunks_of(self.bench.data.sibling):
            key = key_of(chunk)
            if key not in known:
                known.add(key)
                compressed += self.zstd.chunk(chunk)
                count += 1
        a.ctl("volume", "import", self.bench.data.sibling, "w", "--format", "raw")
        a.ctl("snap", "create", "w@1")
        sent = self.send(a, "w@1")
        self.out.check("of the second image only chunks went over that the first does not have", sent["sent"] == count, f"{sent['sent']} of {count}")
        measure.bound(f"a second image ({compressed / MIB:.2f} MiB of new chunks compressed)", sent["sent_bytes"] / compressed, 1.06, "x")

    def in_step(self, a):
        region, base = "64M", os.path.join(self.bench.folder, "zeros")
        with open(base, "wb") as file:
            file.truncate(64 * MIB)
        writers = {}
        for name, volume in ((OURS, "step"), (LOCAL, "local")):
            a.ctl("volume", "create", volume, "--size", region)
            writers[name] = Writer(self.bench.folder, volume, a.volume(volume), region, self.bench.data.dense(64), base)
        a.ctl("replica", "add", "step", "b", "--mode", "sync")
        wait_until("being in step", lambda: '"in step"' in a.ctl("-o", "json", "replica", "status"), 300, 0.1)
        measure = self.out.measure("4 KiB write + flush, 1 client, in step with a replica over TLS", "IOPS",
                                   caches="both stores on the same disk: the replica's writes and flushes are beside our own")
        measure.target(LOCAL, 0.5)
        interleave(self.out, measure, {name: lambda w=writer: w.write(self.seconds, flush=True) for name, writer in writers.items()}, self.rounds)
        for name, writer in writers.items():
            self.out.checked(f"{name}: every block is what was answered last", writer.verify)
        a.ctl("replica", "remove", "step", "b")
        a.ctl("snap", "create", "step@end")
        wait_until("a send behind what was in step", lambda: self.sent(a, "step@end"), 300, 0.2)

    def sent(self, a, snapshot):
        """False: the other side does not know yet that nothing follows any more."""
        try:
            return bool(self.send(a, snapshot))
        except Failed as error:
            if "being received" in str(error):
                return False
            raise

    def same(self, a, b):
        """Roots are compared when a snapshot is published; here the data itself, as both give it."""
        for snapshot in ("v@3", "step@end"):
            sums = []
            for server, name in ((a, snapshot), (b, "a/" + snapshot)):
                out = os.path.join(self.bench.folder, "replica.img")
                remove(out)
                server.ctl("volume", "export", name, out)
                sums.append(sha256_of(out))
                remove(out)
            self.out.check(f"{snapshot} is the same on both hosts", sums[0] == sums[1])


@row(11, titles=["replication over TLS 1.3"])
def row11(bench, rows):
    with Hosts(bench.fresh("hosts")) as hosts:
        work = Replication(bench, rows[11], hosts)
        start = time.monotonic()

        def part(name, function, *args):
            nonlocal start
            function(*args)
            print(f"    {name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
            start = time.monotonic()

        part("connections", work.connections)
        part("image", work.image)
        part("a long link", work.long_link)
        a, b = work.pair(fresh=False)
        part("changes", work.changes, a)
        part("in step", work.in_step, a)
        part("the same on both hosts", work.same, a, b)
        bench.profile(rows[11], "connections alone, 1 stream", lambda: hosts.carried(1, 3))
