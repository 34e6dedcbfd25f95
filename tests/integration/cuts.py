#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A proxy that cuts: takes connections at LISTEN, passes them on to TARGET, and ends one, both ways and at once, whenever so many bytes in
all have gone through it: CUTS places, drawn at random below TOTAL. After each connection REPORT says what went through and was cut.
Usage: cuts.py LISTEN TARGET CUTS TOTAL SEED REPORT (addresses are ADDRESS:PORT)"""
import json
import os
import random
import select
import socket
import struct
import sys


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def reset(sock):
    """Both ends see a connection that broke, and what lies in buffers is lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Proxy:
    def __init__(self, target, cuts, total, seed, report):
        self.target, self.report = target, report
        self.places = sorted(random.Random(seed).sample(range(1, total), cuts)) if cuts else []
        self.bytes = self.cuts = self.connections = 0

    def tell(self):
        with open(self.report + ".new", "w", encoding="ascii") as file:
            json.dump({"bytes": self.bytes, "cuts": self.cuts, "connections": self.connections}, file)
        os.rename(self.report + ".new", self.report)

    def carry(self, one, other):
        """Until an end, or the next place."""
        while True:
            for sock in select.select([one, other], [], [])[0]:
                left = self.places[0] - self.bytes if self.places else 1 << 18
                try:
                    data = sock.recv(max(1, min(left, 1 << 18)))
                    if not data:
                        return
                    self.bytes += len(data)
                    (other if sock is one else one).sendall(data)
                except OSError:
                    return
                if self.places and self.bytes >= self.places[0]:
                    self.places.pop(0)
                    self.cuts += 1
                    return

    def serve(self, listener):
        while True:
            one, _ = listener.accept()
            self.connections += 1
            try:
                other = socket.create_connection(self.target)
            except OSError:
                reset(one)
                continue
            self.carry(one, other)
            self.tell()
            reset(one)
            reset(other)


def main():
    listen, target, cuts, total, seed, report = sys.argv[1:]
    proxy = Proxy(address(target), int(cuts), int(total), int(seed), report)
    with socket.create_server(address(listen)) as listener:
        proxy.tell()
        proxy.serve(listener)


if __name__ == "__main__":
    main()
