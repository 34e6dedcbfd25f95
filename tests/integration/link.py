#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A link that obeys: takes connections at LISTEN and passes them on to TARGET, as the last line that was written to the FIFO says:
  up        passes on at once (so it begins)
  delay MS  each byte arrives so much later, both ways
  slow KIB  each connection carries so much a second, each way, however many there are
  drop      the newest connection breaks as by `cut`; the others go on as they did
  hold      nothing arrives, and nobody hears of it, until `up`
  cut       all connections break, both ways and at once, with what is on its way; new ones break too, until `up`
REPORT says, as JSON, what it did: connections, bytes, connections that were cut, bytes that were delayed, bytes that were held up.
Usage: link.py LISTEN TARGET FIFO REPORT (addresses are ADDRESS:PORT)"""
import asyncio
import json
import os
import socket
import struct
import sys

CHUNK = 1 << 16
ON_THE_WAY = 64  # chunks a direction


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def reset(writer):
    """Both ends see a connection that broke, and what lies in buffers is lost."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Link:
    def __init__(self, target, report):
        self.target, self.report = target, report
        self.delay_s, self.down, self.bytes_a_second = 0.0, False, 0
        self.flows = asyncio.Event()
        self.flows.set()
        self.open = []  # pairs of writers, the newest last
        self.did = {"connections": 0, "bytes": 0, "cut": 0, "delayed_bytes": 0, "held_bytes": 0}

    def tell(self):
        with open(self.report + ".new", "w", encoding="ascii") as file:
            json.dump(self.did, file)
        os.rename(self.report + ".new", self.report)

    def cut(self, pairs):
        self.did["cut"] += len(pairs)
        for pair in pairs:
            for writer in pair:
                reset(writer)

    def obey(self, words):
        if words[0] == "drop":
            self.cut(self.open[-1:])
            self.tell()
            return
        self.delay_s, self.down, self.bytes_a_second = 0.0, words[0] == "cut", 0
        self.flows.set()
        if words[0] == "delay":
            self.delay_s = int(words[1]) / 1000
        elif words[0] == "slow":
            self.bytes_a_second = int(words[1]) * 1024
        elif words[0] == "hold":
            self.flows.clear()
        elif words[0] == "cut":
            self.cut(list(self.open))
        self.tell()

    async def take(self, reader, way):
        """Puts what comes on its way, with the moment of its arrival; None is the end."""
        try:
            while data := await reader.read(CHUNK):
                self.did["bytes"] += len(data)
                if self.delay_s:
                    self.did["delayed_bytes"] += len(data)
                await way.put((asyncio.get_running_loop().time() + self.delay_s, data))
                if self.bytes_a_second:
                    await asyncio.sleep(len(data) / self.bytes_a_second)
        except OSError:
            pass
        await way.put(None)

    async def give(self, way, writer):
        try:
            while (item := await way.get()) is not None:
                await asyncio.sleep(max(0.0, item[0] - asyncio.get_running_loop().time()))
                if not self.flows.is_set():
                    self.did["held_bytes"] += len(item[1])
                    await self.flows.wait()
                writer.write(item[1])
                await writer.drain()
        except OSError:
            pass

    async def carry(self, one_reader, one):
        self.did["connections"] += 1
        self.tell()
        try:
            if self.down:
                raise ConnectionError
            other_reader, other = await asyncio.open_connection(*self.target)
        except OSError:
            reset(one)
            return
        pair = (one, other)
        self.open.append(pair)
        ways = asyncio.Queue(ON_THE_WAY), asyncio.Queue(ON_THE_WAY)
        takes = [asyncio.ensure_future(self.take(reader, way)) for reader, way in zip((one_reader, other_reader), ways)]
        gives = [asyncio.ensure_future(self.give(way, writer)) for way, writer in zip(ways, (other, one))]
        await asyncio.wait(gives, return_when=asyncio.FIRST_COMPLETED)  # one side has ended, and the other was told all
        for task in takes + gives:
            task.cancel()
        self.open.remove(pair)
        reset(one)
        reset(other)
        self.tell()


async def main():
    listen, target, fifo, report = sys.argv[1:]
    link = Link(address(target), report)
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)

    def heard():
        for line in os.read(fd, 4096).decode().splitlines():
            link.obey(line.split())

    asyncio.get_running_loop().add_reader(fd, heard)
    server = await asyncio.start_server(link.carry, *address(listen))
    link.tell()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
