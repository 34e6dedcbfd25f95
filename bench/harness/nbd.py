# SPDX-License-Identifier: Apache-2.0
"""A client that writes what it is given at a rate: real data in large requests, which neither fio (one pattern) nor nbdcopy (whole volumes)
can do."""
import collections
import socket
import struct
import time

from .machine import Failed

DEPTH = 8
_OPTION_MAGIC = b"IHAVEOPT"
_REQUEST_MAGIC, _REPLY_MAGIC, _WRITE, _DISCONNECT = 0x25609513, 0x67446698, 1, 2
_EXPORT_NAME = 1


class Client:
    """One connection to an export; requests are answered in any order, and only counted: the caller writes no place twice at once."""

    def __init__(self, export):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(export.sock)
        if self._take(16) != b"NBDMAGIC" + _OPTION_MAGIC:
            raise Failed("the server is no NBD server of today")
        self._take(2)
        name = export.export.encode()
        self.sock.sendall(struct.pack(">I", 3) + _OPTION_MAGIC + struct.pack(">II", _EXPORT_NAME, len(name)) + name)
        self.bytes = struct.unpack(">QH", self._take(10))[0]
        self.under_way = collections.OrderedDict()

    def _take(self, count):
        got = bytearray()
        while len(got) < count:
            part = self.sock.recv(count - len(got))
            if not part:
                raise Failed("the server ended the connection")
            got += part
        return bytes(got)

    def _request(self, kind, offset, data=b""):
        self.sock.sendall(struct.pack(">IHHQQI", _REQUEST_MAGIC, 0, kind, offset, offset, len(data)))
        if data:
            self.sock.sendall(data)

    def _answer(self):
        magic, error, cookie = struct.unpack(">IIQ", self._take(16))
        if magic != _REPLY_MAGIC or self.under_way.pop(cookie, None) is None:
            raise Failed("the server's answer is not understood")
        if error:
            raise Failed(f"a write of the churn failed with NBD error {error}")

    def write(self, pieces, bytes_a_second, due):
        """pieces: (offset, data), the first of which is due then; when the next one would be. The rate is kept over the whole of it, so that
        what was late is made up for."""
        for offset, data in pieces:
            time.sleep(max(0, due - time.monotonic()))
            while len(self.under_way) >= DEPTH or offset in self.under_way:
                self._answer()
            self.under_way[offset] = True
            self._request(_WRITE, offset, data)
            due += len(data) / bytes_a_second
        while self.under_way:
            self._answer()
        return due

    def close(self):
        self._request(_DISCONNECT, 0)
        self.sock.close()
