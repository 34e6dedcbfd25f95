#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Changes bytes of both copies of a superblock and makes their checksums right again: superblock.py FILE OFFSET HEX"""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../format"))
from reader import crc  # noqa: E402

path, offset, new = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
with open(path, "r+b") as file:
    for at in (0, 65536):
        file.seek(at)
        copy = bytearray(file.read(4096))
        copy[offset:offset + len(new)] = new
        copy[4092:] = struct.pack("<I", crc(bytes(copy[:4092])))
        file.seek(at)
        file.write(copy)
