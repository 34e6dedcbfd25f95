#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Damages copies of the stores `closed` and `killed`, one place at a time, and asks of each:
--check says what is wrong, or nothing a client can see is; and it is served right, with errors in place of what is lost, or
refused in one sentence. Usage: damage.py VSTORED STAMPS, in the folder of the stores."""
import os
import random
import shutil
import struct
import subprocess
import sys
import time

VSTORED, STAMPS = sys.argv[1:3]
MUST = 11  # --check has to find it
seed = int(os.environ.get("SEED", "1"))
random.seed(seed)
counts = {"found": 0, "harmless": 0, "served": 0, "served with errors": 0, "refused": 0}


def flip(name, at):
    def damage():
        with open(f"store/{name}", "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ random.randrange(1, 256)]))
    return f"{name}: a flipped byte at {at}", damage


def cut(name, size):
    return f"{name}: cut to {size} bytes", lambda: os.truncate(f"store/{name}", size)


def remove(name):
    return f"{name}: removed", lambda: os.remove(f"store/{name}")


def both(first, second):
    return f"{first[0]}; {second[0]}", lambda: (first[1](), second[1]())


def segment_places(store, name):
    """One place of each kind in a sealed segment (FORMAT.md, segment), and some in its frames."""
    with open(f"{store}/{name}", "rb") as file:
        data = file.read()
    trailer = len(data) - 4096
    if trailer < 0 or data[trailer:trailer + 8] != b"VSSEGEND":
        return
    directory, directory_bytes, records = struct.unpack_from("<QQI", data, trailer + 16)
    if records < 20:
        return
    offsets = [at for at in range(4096, directory, 64) if data[at:at + 4] == b"VSCR"]
    for which in random.sample(range(len(offsets) - 1), 8):
        middle = (offsets[which] + offsets[which + 1]) // 2  # in a frame: what is stored here cannot be compressed
        yield MUST, flip(name, middle + random.randrange(64))
    yield 0, flip(name, offsets[0] + random.randrange(52))  # the directory has a copy of it
    yield 0, flip(name, offsets[1] + 52 + random.randrange(160))
    for _ in range(3):
        yield 0, flip(name, directory + random.randrange(directory_bytes))  # rebuilt from the records
    yield 0, flip(name, trailer + random.randrange(48))
    yield 0, flip(name, random.randrange(48))
    yield 0, cut(name, len(data) - 1)
    yield MUST, cut(name, len(data) // 2)
    yield MUST, cut(name, 0)
    yield MUST, remove(name)


def places(store):
    names = sorted(os.path.relpath(os.path.join(top, name), store) for top, _, files in os.walk(store) for name in files)
    yield 0, flip("superblock", random.randrange(672))
    yield 0, flip("superblock", 65536 + random.randrange(672))
    yield MUST, both(flip("superblock", random.randrange(160)), flip("superblock", 65536 + random.randrange(160)))
    yield MUST, cut("superblock", 0)
    yield MUST, cut("log", 4096)
    segments = sorted((name for name in names if name.startswith("seg/") and not os.path.basename(name).startswith(".")),
                      key=lambda name: os.path.getsize(f"{store}/{name}"))
    sealed = [name for name in segments if list(segment_places(store, name))]
    if store == "closed":
        yield from segment_places(store, sealed[-1])
    others = [name for name in names if not name.startswith("seg/") and name not in ("superblock", "log")]
    for name in others:
        size = os.path.getsize(f"{store}/{name}")
        if size:
            yield 0, flip(name, random.randrange(min(size, 64)))
            yield 0, flip(name, random.randrange(size))
            yield 0, cut(name, size // 2)
        yield 0, remove(name)
    checkpoints = [name for name in others if name.startswith("checkpoint")]
    if len(checkpoints) == 2:
        yield MUST, both(flip(checkpoints[0], 28), flip(checkpoints[1], 30))
    with open(f"{store}/log", "rb") as file:
        log = file.read()
    heads = [at for at in range(0, len(log), 4096) if log[at:at + 8] == b"VSCOMMIT"]
    # What no later commit calls durable may be lost by rot at the log's end as by a power cut.
    durable = max(struct.unpack_from("<Q", log, at + 40)[0] for at in heads)
    heads = sorted((at for at in heads if struct.unpack_from("<Q", log, at + 24)[0] <= durable),
                   key=lambda at: struct.unpack_from("<Q", log, at + 24)[0])
    for at in heads[-3:] + random.sample(heads, 2):
        yield 0, flip("log", at + random.randrange(200))
        header, payload = struct.unpack_from("<II", log, at + 72)
        if payload:
            yield 0, flip("log", at + (header + random.randrange(payload)) * 4096 + random.randrange(4096))


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def serve(why):
    """Starts vstored on the damaged store and reads everything. Returns what became of it."""
    with open("serve.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen([VSTORED, "--store", "store", "--run", "run", "--any-file-system", "--cache", "8M"], stderr=log)
    try:
        while process.poll() is None:
            with open("serve.log", encoding="utf-8") as log:
                if "vstored.serving" in log.read():
                    break
            time.sleep(0.01)
        if process.poll() is not None:
            with open("serve.log", encoding="utf-8") as log:
                words = [line for line in log if line.startswith("vstored: ")]
            assert 0 < process.returncode < 20 and len(words) == 1, f"{why}: vstored ended with {process.returncode}: {words}"
            if os.path.exists("run/starting"):
                os.remove("run/starting")
            return "refused"
        code, out = run(STAMPS, "verify", "run/nbd/a.sock", "a", "known")
        assert code in (0, 3), f"{why}: wrong data was served ({code}): {out}"
        return "served" if code == 0 else "served with errors"
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


for which in "closed", "killed":
    for want, (why, damage) in list(places(which)):
        why = f"{which} store, seed {seed}, {why}"
        shutil.rmtree("store", ignore_errors=True)
        shutil.copytree(which, "store")
        shutil.copy(f"{which}.known", "known")
        damage()
        code, out = run(VSTORED, "--check", "--store", "store", "--any-file-system")
        assert code in (0, 1, 11), f"{why}: --check ends with {code}: {out}"
        assert code == 0 or out.strip(), f"{why}: --check says nothing"
        assert code != 0 or want == 0, f"{why}: --check finds nothing: {out}"
        became = serve(why)
        assert code or became == "served", f"{why}: --check finds nothing, but it is {became}: {out}"
        counts[became] += 1
        counts["found" if code else "harmless"] += 1
        if os.environ.get("VERBOSE"):
            print(f"{why}: check {code}, {became}: {out.strip().splitlines()[:2]}")
print(", ".join(f"{name} {count}" for name, count in counts.items()))
assert all(counts.values()), "a kind of outcome was not seen"
