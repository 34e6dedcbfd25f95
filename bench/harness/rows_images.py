# SPDX-License-Identifier: Apache-2.0
"""Rows 6 to 9: images go in, go in again, come out, and what they take. In a round every tool begins with an empty repository."""
import hashlib
import os
import shutil
import subprocess
import time

from .machine import MIB, Failed, btrfs, drop_caches, remove, run, same, shell
from .result import OURS, row
from .servers import Vstored

PASSWORD = {"RESTIC_PASSWORD": "bench", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}


def timed(function, *args):
    """Seconds until it is done; what others left unwritten does not count."""
    os.sync()
    start = time.monotonic()
    function(*args)
    return time.monotonic() - start


class Tool:
    """A repository in a folder of its own; what it is given is durable when put() returns. None: it has no such thing."""

    name = None
    siblings = True  # takes part in row 7
    once = False  # one round will do
    steps = ("put", "again", "sibling", "get")  # what is timed of it

    def __init__(self, bench):
        self.folder = bench.fresh("tool-" + type(self).__name__.lower())
        os.makedirs(self.folder)
        home = os.path.join(self.folder, "home")
        self.env = {**PASSWORD, "HOME": home, "XDG_CACHE_HOME": home, "BORG_BASE_DIR": home}
        self.repo = os.path.join(self.folder, "repo")
        self.prepare()

    def prepare(self):
        pass

    def call(self, *argv, **kw):
        return run(*argv, env=self.env, **kw)

    def durable(self):
        run("sync", "-f", self.folder)

    def bytes_taken(self):
        return int(run("du", "-sB1", self.repo).split()[0])

    def done(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Ours(Tool):
    name = OURS

    def prepare(self):
        self.server = Vstored(self.folder, log="256M", cache="64M")

    def put(self, image, name):
        self.server.ctl("volume", "import", image, name, "--format", "raw")

    def get_ready(self):
        """Cold: a daemon that has read nothing."""
        self.server.stop()
        self.server = Vstored(self.folder, cache="64M")

    def get(self, name, out):
        self.server.ctl("volume", "export", name, out)

    def bytes_taken(self):
        """All of the store but its log, which is preallocated and does not grow."""
        self.server.stop()
        taken = int(run("du", "-sB1", "--exclude=log", self.server.store).split()[0])
        self.server = Vstored(self.folder, cache="64M")
        return taken

    def done(self):
        self.server.stop()
        super().done()


class Archive(Ours):
    """As a volume that nobody boots from would be made: frames of a whole chunk, a level higher."""
    name = OURS + ", 64 KiB frames, level 3"
    once = True  # its space is the same in every round
    steps = ("put", "again", "sibling")

    def put(self, image, name):
        self.server.ctl("volume", "import", image, name, "--format", "raw", "--frame", "64K", "--level", "3")


class Aged(Ours):
    """What becomes of the first one by itself when its data is a week old; here by the command that does it at once."""
    name = OURS + ", compressed anew"
    once = True
    steps = ("get",)

    def bytes_taken(self):
        self.server.ctl("store", "gc", "--recompress")
        return super().bytes_taken()


class Restic(Tool):
    name = "restic"

    def prepare(self):
        self.call("restic", "init", "-q", "--repository-version", "2", "-r", self.repo)

    def put(self, image, name):
        self.call("restic", "backup", "-q", "-r", self.repo, "--force", "--tag", name, image)
        self.durable()

    def get(self, name, out):
        target = out + ".d"
        self.call("restic", "restore", "-q", "-r", self.repo, "--tag", name, "latest", "--target", target)
        found = shell('find "$1" -type f', target).strip()
        os.rename(found, out)
        shutil.rmtree(target)


class Borg(Tool):
    name = "borg"

    def prepare(self):
        self.call("borg", "init", "-e", "none", self.repo)

    def put(self, image, name):
        self.call("borg", "create", "--compression", "zstd,1", "--chunker-params", "fixed,65536", "--files-cache", "disabled",
                  f"{self.repo}::{name}", image)
        self.durable()

    def get(self, name, out):
        target = out + ".d"
        os.makedirs(target)
        self.call("borg", "extract", "--sparse", f"{self.repo}::{name}", cwd=target)
        found = shell('find "$1" -type f', target).strip()
        os.rename(found, out)
        shutil.rmtree(target)


class Casync(Tool):
    name = "casync"
    siblings = False
    get = None

    def put(self, image, name):
        self.call("casync", "make", f"--store={self.repo}", os.path.join(self.folder, name + ".caibx"), image)
        self.durable()


class QemuImg(Tool):
    name = "qemu-img qcow2+zstd"
    siblings = False

    def put(self, image, name):
        self.call("qemu-img", "convert", "-c", "-o", "compression_type=zstd", "-O", "qcow2", "-W", "-m", "8", image, self.repo)
        self.durable()

    def get(self, name, out):
        self.call("qemu-img", "convert", "-O", "raw", "-W", "-m", "8", self.repo, out)


class Zstd(Tool):
    name = "zstd -1 -T2, as shipped"
    siblings = False

    def put(self, image, name):
        self.call("zstd", "-1", "-T2", "-q", "-f", image, "-o", self.repo)
        self.durable()

    def get(self, name, out):
        self.call("zstd", "-d", "-q", "-f", self.repo, "-o", out)


class ZstdAllocated(Zstd):
    name = "zstd -1 -T2, allocated data"
    get = None

    def put(self, image, name):
        super().put(self.allocated, name)


TOOLS = (Ours, Archive, Aged, Restic, Borg, QemuImg, Zstd, ZstdAllocated, Casync)


class Images:
    """One run for all of rows 6 to 9."""

    def __init__(self, bench, rows):
        self.bench, self.rows = bench, rows
        self.image, self.sibling = bench.data.image, bench.data.sibling
        ZstdAllocated.allocated = bench.data.allocated()
        self.measures, self.space = {}, {}
        for number, key, what, caches, targets in (
                (6, "put", "ingest of an image, durable at the end", "the image is in the page cache",
                 {"restic": 4, "borg": 1.8, "zstd -1 -T2, as shipped": 1.0, "zstd -1 -T2, allocated data": 0.75}),
                (7, "again", "the same image again", "the image is in the page cache; restic and borg read it again too", {"restic": 2, "borg": 2}),
                (7, "sibling", "a second image that shares most files", "the image is in the page cache", {"restic": 2, "borg": 2}),
                (8, "get", "restore of the image, durable at the end", "dropped before; vstored restarted", {"restic": 4, "qemu-img qcow2+zstd": 1})):
            if number in rows:
                self.measures[key] = rows[number].measure(what, "s", "less", caches)
                for peer, ratio in targets.items():
                    self.measures[key].target(peer, ratio)

    def warm(self, *files):
        for file in files:
            shell('cat "$1" >/dev/null', file)

    def step(self, key, tool, function, *args):
        """Done in any case, as later steps need it; counted when its row is wanted."""
        seconds = timed(function, *args)
        if key in self.measures and key in tool.steps:
            self.measures[key].add(tool.name, seconds)

    def restore(self, tool, last):
        out = os.path.join(self.bench.folder, "restored.img")
        remove(out)
        remove(out + ".d")
        if isinstance(tool, Ours):
            tool.get_ready()
        dropped = drop_caches()
        if not dropped:
            self.rows[8].note("caches could not be dropped here: the peers' figures are warm")

        def get():
            tool.get("image", out)
            run("sync", out)

        self.step("get", tool, get)
        if isinstance(tool, Ours) or last:
            self.rows[8].check(f"{tool.name}: the restored image is the one that went in", same(out, self.image))
        remove(out)

    def round_of(self, kind, last):
        tool = kind(self.bench)
        try:
            self.warm(self.image)
            self.step("put", tool, tool.put, self.image, "image")
            if tool.siblings and (7 in self.rows or 9 in self.rows):
                self.step("again", tool, tool.put, self.image, "again")
                self.warm(self.sibling)
                self.step("sibling", tool, tool.put, self.sibling, "sibling")
                self.space[tool.name] = tool.bytes_taken()
            if 8 in self.rows and tool.get and "get" in tool.steps:
                self.restore(tool, last)
            if isinstance(tool, Ours):
                self.verify(tool, last or kind.once)
        finally:
            tool.done()

    def verify(self, tool, last):
        """What the store holds after the row, read back and compared; every round for row 8 by the restore itself."""
        if not last:
            return
        out = os.path.join(self.bench.folder, "verified.img")
        names = {"image": self.image}
        if 7 in self.rows or 9 in self.rows:
            names.update({"again": self.image, "sibling": self.sibling})
        for name, image in names.items():
            remove(out)
            tool.get(name, out)
            for number in {6, 7, 9} & set(self.rows):
                self.rows[number].check(f"{tool.name}: what came in as '{name}' comes out", same(out, image))
        remove(out)

    def go(self):
        rounds = self.bench.rounds
        failed = set()
        for number in range(rounds):
            turn = number % len(TOOLS)
            for kind in TOOLS[turn:] + TOOLS[:turn]:
                if kind in failed or not self.takes_part(kind, number):
                    continue
                try:
                    self.round_of(kind, number == rounds - 1)
                except Failed as error:
                    if kind is Ours:
                        raise
                    failed.add(kind)
                    for row_ in self.rows.values():
                        row_.gap(kind.name, str(error))
                    for measure in self.measures.values():
                        measure.series.pop(kind.name, None)
        if self.bench.profiling:
            self.profiles()
        if 9 in self.rows:
            self.row9()

    def profiles(self):
        out, tool = os.path.join(self.bench.folder, "restored.img"), Ours(self.bench)
        try:
            for number, what, step in ((6, "ingest", lambda: tool.put(self.image, "image")), (7, "again", lambda: tool.put(self.image, "again")),
                                       (8, "restore", lambda: tool.get("image", out))):
                if number == 8:
                    tool.get_ready()
                if number in self.rows:
                    self.bench.profile(self.rows[number], what, step)
                elif number == 6:
                    step()
        finally:
            tool.done()
            remove(out)

    def takes_part(self, kind, number):
        if kind is Casync:  # slow, and no target names it: one round
            if self.bench.quick:
                self.rows.get(6) and self.rows[6].note("casync is left out of --quick: it takes as long as all others together, and no target names it")
            return number == 0 and not self.bench.quick and 6 in self.rows
        if kind.once:
            return number == 0 and 9 in self.rows
        return 6 in self.rows or (8 in self.rows and kind.get) or kind.siblings

    def row9(self):
        out = self.rows[9]
        measure = out.measure("both images in one repository", "MiB", "less", "vstored: without its log, which is preallocated")
        for name, taken in self.space.items():
            measure.add(name, taken / MIB)
        try:
            measure.add("btrfs zstd:1 (no deduplication)", btrfs_bytes(self.bench, (self.image, self.sibling)) / MIB)
        except Failed as error:
            out.gap("btrfs zstd:1 (no deduplication)", str(error))
        unique = unique_zstd_bytes((self.image, self.sibling)) / MIB
        measure.add("zstd -1 of the unique chunks", unique)
        out.note(f"{Aged.name}: by `vstorectl store gc --recompress`, as vstored does by itself with what is a week old")
        measure.target("borg", 1.0)
        measure.bound("against zstd -1 of the unique chunks", self.space[OURS] / MIB / unique, 1.10, "x")
        for kind, what in ((Aged, "compressed anew"), (Archive, "64 KiB frames, level 3")):
            if {"borg", kind.name} <= self.space.keys():
                measure.bound(f"{what}, against borg", self.space[kind.name] / self.space["borg"], 1.0, "x")


def btrfs_bytes(bench, images):
    folder = os.path.join(bench.folder, "btrfs")
    with btrfs(folder + ".img", folder, 12 << 30):
        empty = os.statvfs(folder)
        for image in images:
            run("cp", "--sparse=always", image, folder)
        run("sync", "-f", folder)
        full = os.statvfs(folder)
        return (empty.f_bfree - full.f_bfree) * full.f_frsize


def unique_zstd_bytes(images, chunk_bytes=65536):
    """Each different 64 KiB chunk of the images that is not zero once, as one stream through zstd -1."""
    seen = set()
    with subprocess.Popen(["bash", "-c", "zstd -1 -q -c | wc -c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as zstd:
        for image in images:
            with open(image, "rb") as file:
                while chunk := file.read(chunk_bytes):
                    key = hashlib.blake2b(chunk, digest_size=16).digest()
                    if key not in seen and any(chunk):
                        zstd.stdin.write(chunk)
                    seen.add(key)
        zstd.stdin.close()
        return int(zstd.stdout.read())


@row(6, 7, 8, 9, titles=["ingest of a VM image", "ingest again, unchanged; and the second image", "restore / cold sequential read",
                         "space for both images"])
def rows_6_to_9(bench, rows):
    Images(bench, rows).go()
