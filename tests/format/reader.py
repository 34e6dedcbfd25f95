#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exports a volume or snapshot of a stopped store, written from storage/FORMAT.md alone.

usage: reader.py STORE VOLUME[@SNAP] OUTFILE
"""
import ctypes
import ctypes.util
import hashlib
import os
import struct
import sys

BLOCK, CHUNK = 4096, 65536
ZSTD = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
ZSTD.ZSTD_decompress.restype = ctypes.c_size_t
TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    TABLE.append(n)


def crc(data, start=0):
    value = start ^ 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def u(fmt, data, at=0):
    values = struct.unpack_from("<" + fmt, data, at)
    return values if len(values) > 1 else values[0]


def text(data):
    return data.split(b"\0")[0].decode()


def die(sentence):
    sys.exit(f"reader.py: {sentence}")


class Layer:
    def __init__(self, number):
        self.number, self.frozen, self.chunks, self.ranges = number, False, {}, []

    def entry(self, chunk):
        """{base, id, blocks}; a chunk inside a range of zeros starts as zeros."""
        if chunk not in self.chunks:
            zero = any(first <= chunk < first + count for first, count in self.ranges)
            self.chunks[chunk] = {"base": 1 if zero else 0, "id": None, "blocks": {}}
        return self.chunks[chunk]

    def empty(self):
        return not self.chunks and not self.ranges


class Store:
    def __init__(self, path):
        self.path, self.volumes, self.snapshots, self.segments, self.records = path, {}, {}, {}, {}
        self.read_superblock()
        self.read_checkpoint()
        self.replay()
        for slot, segment in self.segments.items():
            self.read_segment(slot, segment)

    def read(self, name):
        with open(os.path.join(self.path, name), "rb") as file:
            return file.read()

    def read_superblock(self):
        data, best = self.read("superblock"), None
        for at in (0, 65536):
            copy = data[at:at + 4096]
            if len(copy) == 4096 and copy[:8] == b"VSTORE\r\n" and crc(copy[:4092]) == u("I", copy, 4092):
                if best is None or u("Q", copy, 40) > u("Q", best, 40):
                    best = copy
        if best is None:
            die("no copy of the superblock is valid")
        if u("I", best, 8) != 4 or u("Q", best, 32) & ~511:
            die("the store has a version or features that this reader does not know")
        self.uuid, self.secret = best[48:64], best[64:80]
        self.ring = u("Q", best, 88) // BLOCK
        self.log_dir = text(best[160:672]) or self.path
        self.log = open(os.path.join(self.log_dir, "log"), "rb")

    def read_checkpoint(self):
        best = None
        for name in ("checkpoint.0", "checkpoint.1"):
            if not os.path.exists(os.path.join(self.path, name)):
                continue
            data = self.read(name)
            if len(data) < 4096 or data[:8] != b"VSCHECKP" or crc(data[:4092]) != u("I", data, 4092):
                continue
            size = u("Q", data, 64)
            if crc(data[4096:4096 + size]) != u("I", data, 72):
                continue
            if best is None or u("Q", data, 24) > u("Q", best, 24):
                best = data
        if best is None:
            die("no checkpoint is valid")
        self.pos, self.seq = u("QQ", best, 32)
        self.chain = best[48:64]
        body, at = best[4096:], 24
        for _ in range(u("Q", body, 16)):  # domains and peers
            at = self.take_record(body, at)
        for _ in range(u("I", body, 4)):
            at = self.take_record(body, at)
            volume = list(self.volumes.values())[-1]
            count, at = u("Q", body, at), at + 8
            volume["layers"] = []
            for _ in range(count):
                at = self.take_layer(volume, body, at)
        for _ in range(2):  # snapshots, then segments
            count, at = u("Q", body, at), at + 8
            for _ in range(count):
                at = self.take_record(body, at)

    def take_record(self, body, at):
        size = u("H", body, at + 2)
        self.apply(body[at:at + size], None, None)
        return at + size

    @staticmethod
    def take_layer(volume, body, at):
        number, _, ranges, chunks, frozen = u("QQIIQ", body, at)
        layer, at = Layer(number), at + 32
        layer.frozen = bool(frozen)
        for _ in range(ranges):
            layer.ranges.append(u("QQ", body, at))
            at += 16
        for _ in range(chunks):
            chunk, mask, base = u("QHB", body, at)
            at += 16
            entry = {"base": base, "id": None, "blocks": {}}
            if base == 2:
                entry["id"], at = body[at:at + 32], at + 32
            for n in range(16):
                if mask >> n & 1:
                    entry["blocks"][n], at = u("II", body, at), at + 8
            layer.chunks[chunk] = entry
        volume["layers"].append(layer)
        return at

    # ---- log ----

    def log_blocks(self, block, count):
        self.log.seek(block * BLOCK)
        return self.log.read(count * BLOCK)

    @staticmethod
    def check(block, data):
        return crc(data) ^ block

    def log_block(self, block, check):
        if block == 0xFFFFFFFF:
            return bytes(BLOCK)
        data = self.log_blocks(block, 1)
        if self.check(block, data) != check:
            die(f"block {block} of the log is damaged")
        return data

    def replay(self):
        while True:
            block = self.pos % self.ring
            header = self.log_blocks(block, min(8, self.ring - block))
            if header[:8] != b"VSCOMMIT" or header[8:24] != self.uuid:
                return
            seq, pos, _ = u("QQQ", header, 24)
            record_bytes, record_count, header_blocks, payload_blocks, flags = u("IIIII", header, 64)
            if seq != self.seq or pos != self.pos or header[48:64] != self.chain or header_blocks > 8:
                return
            header = header[:header_blocks * BLOCK]
            if len(header) < header_blocks * BLOCK or \
               hashlib.sha256(self.secret + header[:88] + header[104:]).digest()[:16] != header[88:104]:
                return
            if not flags & 1:
                payload = self.log_blocks(block + header_blocks, payload_blocks)
                for n in range(payload_blocks):
                    if self.check(block + header_blocks + n, payload[n * BLOCK:(n + 1) * BLOCK]) != \
                       u("I", header, 104 + record_bytes + 4 * n):
                        return
                at, used = 104, block + header_blocks
                checks = 104 + record_bytes
                for _ in range(record_count):
                    size = u("H", header, at + 2)
                    count = self.apply(header[at:at + size], used, header[checks:])
                    used, checks = used + count, checks + 4 * count
                    at += size
            self.chain, self.seq = header[88:104], self.seq + 1
            self.pos += header_blocks + payload_blocks

    # ---- records ----

    def apply(self, record, log_block, checks):
        kind, flags, _, number = u("BBHI", record)
        if kind == 1:
            _, epoch, first, count = u("QQQI", record, 8)
            layer = self.volumes[number]["layers"][-1]
            for n in range(count):
                layer.entry((first + n) // 16)["blocks"][(first + n) % 16] = (log_block + n, u("I", checks, 4 * n))
            return count
        if kind == 2:
            self.zero(self.volumes[number]["layers"][-1], *u("QQ", record, 24))
        elif kind == 3:
            chunk, name = u("Q", record, 24), record[32:64]
            base = 2 if any(name) else 1
            self.volumes[number]["layers"][-1].chunks[chunk] = {"base": base, "id": name, "blocks": {}}
        elif kind == 4:
            self.freeze(self.volumes[number])
        elif kind == 5:
            self.put_volume(number, flags, record)
        elif kind == 6:
            del self.volumes[number]
            self.snapshots = {n: s for n, s in self.snapshots.items() if s["volume"] != number}
        elif kind == 7:
            self.put_snapshot(number, flags, record)
        elif kind == 8:
            del self.snapshots[number]
        elif kind == 9:
            self.segments[number] = u("Q", record, 8)
        elif kind == 10:
            del self.segments[number]
        elif kind not in (11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25):
            die(f"the log has a record of the unknown kind {kind}")
        return 0

    @staticmethod
    def zero(layer, first, count):
        end = first + count
        while first < end:
            if first % 16 or end - first < 16:
                layer.entry(first // 16)["blocks"][first % 16] = (0xFFFFFFFF, 0)
                first += 1
                continue
            chunks = (end - first) // 16
            for chunk in [c for c in layer.chunks if first // 16 <= c < first // 16 + chunks]:
                del layer.chunks[chunk]
            layer.ranges.append((first // 16, chunks))
            first += chunks * 16

    @staticmethod
    def freeze(volume):
        last = volume["layers"][-1]
        if not last.empty():
            last.frozen = True
            volume["layers"].append(Layer(last.number + 1))

    def put_volume(self, number, flags, record):
        state = record[24]
        size = u("Q", record, 32)
        folded = u("Q", record, 88)
        top, name = record[96:128], text(record[128:192])
        volume = self.volumes.setdefault(number, {})
        if flags == 0:
            volume.update(state=state, size=size, top=top, name=name, layers=[Layer(folded + 1)])
        elif flags == 2:
            volume.update(state=state, size=size, name=name)
        elif flags == 3:
            volume["layers"].pop(0)
            volume["top"] = top
            self.seal(number)
        elif flags == 5:
            volume.update(name=name)
        elif flags == 4:
            volume.update(size=size, top=top, layers=[Layer(volume["layers"][-1].number + 1)])

    def put_snapshot(self, number, flags, record):
        snapshot = {"volume": u("I", record, 8), "state": record[16], "sealed": record[17],
                    "layer": u("Q", record, 24), "size": u("Q", record, 32),
                    "top": record[80:112], "name": text(record[112:176])}
        if flags == 2:
            self.snapshots[number].update(name=snapshot["name"], state=snapshot["state"])
            return
        volume = self.volumes[snapshot["volume"]]
        if flags == 1:
            snapshot.update(layer=volume["layers"][-1].number - 1, size=volume["size"])
        self.snapshots[number] = snapshot
        if flags == 1:
            self.seal(snapshot["volume"])

    def seal(self, number):
        volume = self.volumes[number]
        for snapshot in self.snapshots.values():
            if snapshot["volume"] == number and not snapshot["sealed"] and \
               snapshot["layer"] < volume["layers"][0].number:
                snapshot.update(sealed=1, top=volume["top"])

    # ---- segments ----

    def read_segment(self, slot, number):
        data = self.read(f"seg/{number:016x}")
        if data[:8] != b"VSSEGMT1" or data[8:24] != self.uuid or u("QI", data, 24) != (number, slot):
            die(f"segment {number:016x} has another's header")
        trailer = data[-BLOCK:]
        if trailer[:8] == b"VSSEGEND" and u("Q", trailer, 8) == number and crc(trailer[:4092]) == u("I", trailer, 4092):
            offset, size, count, check = u("QQII", trailer, 16)
            directory, at = data[offset:offset + size], 0
            if crc(directory) != check:
                die(f"the directory of segment {number:016x} is damaged")
            for _ in range(count):
                place, at = u("I", directory, at) * 64, at + 4
                at += self.take_header(number, data, directory, at, place)
            return
        at = 4096  # not sealed: record by record
        while at + 52 <= len(data):
            size = self.take_header(number, data, data, at, at)
            if size:
                at = (at + size + self.stored_bytes(data[at:at + size]) + 63) // 64 * 64
            elif at % BLOCK:
                at = (at + BLOCK - 1) // BLOCK * BLOCK
            else:
                return

    def take_header(self, number, data, table, at, place):
        """The bytes of the header with its frame table, or 0: there is no whole record."""
        if u("I", table, at) != 0x52435356:
            return 0
        kind, frames = table[at + 4], table[at + 5]
        size = 52 + 8 * frames
        header = table[at:at + size]
        if frames == 0 or frames > 16 or crc(header[:48] + bytes(4) + header[52:]) != u("I", header, 48):
            return 0
        self.records[bytes(header[8:40])] = (data, place, size, kind, header)
        return size

    @staticmethod
    def stored_bytes(header):
        quarters = 128 if header[4] == 1 else 0
        return quarters + sum(u("I", header, 52 + 8 * n) & 0xFFFFFF for n in range(header[5]))

    def fetch(self, name, kind):
        if name not in self.records:
            die(f"the record {name.hex()} is missing")
        data, place, at, have, header = self.records[name]
        raw_bytes = 65536 if kind == 1 else 8192
        frames, out = header[5], b""
        if have != kind:
            die(f"the record {name.hex()} is of another type")
        place += at + (128 if kind == 1 else 0)
        for n in range(frames):
            word, check = u("II", header, 52 + 8 * n)
            stored, codec = word & 0xFFFFFF, word >> 24
            part = data[place:place + stored]
            if crc(part, u("I", name) ^ n * 0x9E3779B1 & 0xFFFFFFFF) != check:
                die(f"frame {n} of {name.hex()} is damaged")
            place += stored
            if codec in (1, 4):
                room = ctypes.create_string_buffer(raw_bytes // frames)
                got = ZSTD.ZSTD_decompress(room, raw_bytes // frames, part, stored)
                if got != raw_bytes // frames:
                    die(f"frame {n} of {name.hex()} does not decompress")
                part = room.raw
            elif codec == 2:
                part = bytes(raw_bytes // frames)
            elif codec == 3:
                die(f"frame {n} of {name.hex()} is lost")
            out += part
        return out

    # ---- volumes ----

    def mapped(self, top, chunk):
        for shift in (24, 16, 8, 0):
            if not any(top):
                return None
            slot = chunk >> shift & 255
            top = self.fetch(top, 2)[32 * slot:32 * slot + 32]
        return top if any(top) else None

    def chunk(self, top, layers, number):
        blocks, base = {}, None
        for layer in reversed(layers):
            entry = layer.chunks.get(number)
            if entry is None:
                if any(first <= number < first + count for first, count in layer.ranges):
                    break
                continue
            for n, place in entry["blocks"].items():
                blocks.setdefault(n, place)
            if entry["base"] == 2:
                base = entry["id"]
            if entry["base"]:
                break
        else:
            base = self.mapped(top, number)
        if base is None and not blocks:
            return None
        data = bytearray(self.fetch(base, 1) if base else bytes(CHUNK))
        for n, place in blocks.items():
            data[n * BLOCK:(n + 1) * BLOCK] = self.log_block(*place)
        return data

    def export(self, name, out):
        volume_name, _, snapshot_name = name.partition("@")
        number, volume = next(((n, v) for n, v in self.volumes.items()
                               if v["name"] == volume_name and v["state"] == 0), (0, None))
        if volume is None:
            die(f"there is no volume {volume_name}")
        top, size, layers = volume["top"], volume["size"], volume["layers"]
        if snapshot_name:
            snapshot = next((s for s in self.snapshots.values() if s["volume"] == number and
                             s["name"] == snapshot_name and s["state"] == 0), None)
            if snapshot is None:
                die(f"there is no snapshot {name}")
            size = snapshot["size"]
            layers = [] if snapshot["sealed"] else [l for l in layers if l.number <= snapshot["layer"]]
            top = snapshot["top"] if snapshot["sealed"] else top
        with open(out, "wb") as file:
            for chunk in range((size + CHUNK - 1) // CHUNK):
                data = self.chunk(top, layers, chunk)
                if data is not None:
                    file.seek(chunk * CHUNK)
                    file.write(data[:size - chunk * CHUNK])
            file.truncate(size)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    Store(sys.argv[1]).export(sys.argv[2], sys.argv[3])
