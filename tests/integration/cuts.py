#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A proxy that cuts: takes connections at LISTEN, passes them on to TARGET, and ends one, both ways and at once, whenever so many bytes in
all have gone through: the one that brought the last of them, at CUTS places, drawn at random below TOTAL. After each connection REPORT says what went through and was cut.
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
        self.other = {}  # of each socket that of the other side

    def tell(self):
        with open(self.report + ".new", "w", encoding="ascii") as file:
            json.dump({"bytes": self.bytes, "cuts": self.cuts, "connections": self.connections}, file)
        os.rename(self.report + ".new", self.report)

    def take(self, listener):
        one, _ = listener.accept()
        self.connections += 1
        try:
            other = socket.create_connection(self.target)
        except OSError:
            reset(one)
            return
        self.other[one], self.other[other] = other, one

    def end(self, sock):
        other = self.other.pop(sock)
        del self.other[other]
        self.tell()
        reset(sock)
        reset(other)

    def pass_on(self, sock):
        """False: an end, or the next place."""
        left = self.places[0] - self.bytes if self.places else 1 << 18
        try:
            data = sock.recv(max(1, min(left, 1 << 18)))
            if not data:
                return False
            self.bytes += len(data)
            self.other[sock].sendall(data)
        except OSError:
            return False
        if not self.places or self.bytes < self.places[0]:
            return True
        self.places.pop(0)
        self.cuts += 1
        return False

    def serve(self, listener):
        while True:
            for sock in select.select([listener, *self.other], [], [])[0]:
                if sock is listener:
                    self.take(listener)
                elif sock in self.other and not self.pass_on(sock):
                    self.end(sock)


def main():
    listen, target, cuts, total, seed, report = sys.argv[1:]
    proxy = Proxy(address(target), int(cuts), int(total), int(seed), report)
    with socket.create_server(address(listen)) as listener:
        proxy.tell()
        proxy.serve(listener)


if __name__ == "__main__":
    main()
