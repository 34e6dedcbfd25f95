#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Connections to a vstored as no peer makes them (refuse.sh): with a wrong certificate, without TLS, slowly, recorded and sent again, as a
peer that wants another host's copy. What proto/REPLICATION.md says is written here anew. Each ends when vstored has ended the connection.
Usage: refuse.py knock TARGET CA CERTIFICATE KEY [tls1.2]
       refuse.py plain|garbage|drip TARGET
       refuse.py mute TARGET CA CERTIFICATE KEY
       refuse.py crowd TARGET COUNT           until its input ends
       refuse.py record LISTEN TARGET FILE    until its input ends
       refuse.py replay TARGET FILE
       refuse.py late LISTEN CA CERTIFICATE KEY   handshakes with who connects, when a line comes on its input
       refuse.py foreign TARGET CA CERTIFICATE KEY UUID"""
import os
import socket
import ssl
import struct
import sys
import threading
import time
import uuid

HELLO, ERROR, DOMAIN, OFFER, STATE, GET, MISSING, FOLLOW, WRITE, COMMIT = 1, 2, 4, 5, 6, 7, 9, 16, 18, 19


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def message(kind, body, request=0, flags=0):
    return struct.pack("<IBBHQ", len(body), kind, flags, 0, request) + body


def hello():
    return message(HELLO, struct.pack("<IHH16sQQQ", 0x52505356, 2, 2, os.urandom(16), 0, 0, time.time_ns()))


def name(text):
    return text.encode().ljust(64, b"\0")


def ended(sock):
    """Until the other side ends it: all that came."""
    got = b""
    try:
        while True:
            data = sock.recv(65536)
            if not data:
                return got
            got += data
    except OSError:
        return got


def context(ca, certificate, key, newest=ssl.TLSVersion.TLSv1_3):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE  # who is refused may not know the site's CA
    made.maximum_version = newest
    made.load_cert_chain(certificate, key)
    if ca:
        made.load_verify_locations(ca)
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def knock(target, ca, certificate, key, version="tls1.3"):
    """A handshake, HELLO, and what is said to it."""
    newest = ssl.TLSVersion.TLSv1_2 if version == "tls1.2" else ssl.TLSVersion.TLSv1_3
    plain = socket.create_connection(address(target))
    try:
        with context(ca, certificate, key, newest).wrap_socket(plain) as sock:
            sock.sendall(hello())
            ended(sock)
    except OSError as error:
        print(error)


class Peer:
    """One with a certificate of the site."""

    def __init__(self, target, ca, certificate, key):
        self.sock = context(ca, certificate, key).wrap_socket(socket.create_connection(address(target)))
        self.sock.sendall(hello())
        kind, _, _, _ = self.read()
        assert kind == HELLO, kind
        # Nothing that could be used to go on later without a handshake, or with data before one.
        assert not self.sock.session_reused
        assert not (self.sock.session and self.sock.session.has_ticket), "a session ticket was given"

    def bytes(self, count):
        got = b""
        while len(got) < count:
            data = self.sock.recv(count - len(got))
            if not data:
                raise EOFError
            got += data
        return got

    def read(self):
        length, kind, flags, _, request = struct.unpack("<IBBHQ", self.bytes(16))
        return kind, flags, request, self.bytes(length)

    def say(self, kind, body, request=1):
        self.sock.sendall(message(kind, body, request))

    def error(self):
        """The sentence of the next ERROR; what else comes is looked at by nobody."""
        while True:
            kind, _, request, body = self.read()
            if kind == ERROR:
                return body[6:].decode()
            if kind == GET:
                for at in range(24, len(body), 32):
                    self.sock.sendall(message(MISSING, body[at : at + 32] + struct.pack("<i", -2), request, 1))


def plain(target):
    """The protocol, without TLS."""
    sock = socket.create_connection(address(target))
    sock.sendall(hello())
    ended(sock)


def garbage(target):
    sock = socket.create_connection(address(target))
    try:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(4096))
    except OSError:
        pass
    ended(sock)


def slowly(sock, data):
    """A byte at a time, and never the last one: no silence ends this."""
    sock.settimeout(0.2)
    for at in range(len(data) - 1):
        try:
            sock.sendall(data[at : at + 1])
            if not sock.recv(4096):
                return
        except TimeoutError:
            continue
        except OSError:
            return
    raise SystemExit("it was waited for to the end")


def drip(target):
    """The beginning of a ClientHello of 512 bytes."""
    slowly(socket.create_connection(address(target)), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(501))


def mute(target, ca, certificate, key):
    """A peer, after whose handshake nothing comes but little of HELLO."""
    sock = context(ca, certificate, key).wrap_socket(socket.create_connection(address(target)))
    slowly(sock, hello() + bytes(4096))


def crowd(target, count):
    """So many connections that say nothing."""
    socks = [socket.create_connection(address(target)) for _ in range(int(count))]
    print("there", flush=True)
    sys.stdin.read()
    for sock in socks:
        sock.close()


def carry(one, other, file):
    while True:
        try:
            data = one.recv(65536)
        except OSError:
            data = b""
        if not data:
            break
        if file:
            file.write(data)
            file.flush()
        other.sendall(data)
    other.shutdown(socket.SHUT_WR)


def record(listen, target, path):
    """Passes connections on, and keeps what the first one's client sent."""
    listener = socket.create_server(address(listen))
    print("there", flush=True)

    def serve():
        first = True
        while True:
            one, _ = listener.accept()
            other = socket.create_connection(address(target))
            file = open(path, "wb") if first else None
            first = False
            threading.Thread(target=carry, args=(one, other, file), daemon=True).start()
            threading.Thread(target=carry, args=(other, one, None), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    sys.stdin.read()


def replay(target, path):
    sock = socket.create_connection(address(target))
    with open(path, "rb") as file:
        data = file.read()
    assert len(data) > 100000, "what was recorded is no transfer"
    try:
        sock.sendall(data)
    except OSError:
        pass
    ended(sock)


def late(listen, ca, certificate, key):
    """Takes a connection, and lets it wait for its handshake; then all is as it should be."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate, key)
    made.load_verify_locations(ca)
    made.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(address(listen))
    print("listens", flush=True)
    one, _ = listener.accept()
    print("there", flush=True)
    sys.stdin.readline()
    with made.wrap_socket(one, server_side=True) as sock:
        sock.sendall(hello())
        print(ended(sock), flush=True)


def offer(volume, domain, volume_uuid, epoch):
    lines = struct.pack("<IIQQ16s", 1, 0, epoch, 0, os.urandom(16))
    return (
        os.urandom(16) + domain + volume_uuid + struct.pack("<QQQQQIBBH", 64 << 20, 1, epoch, 1 << 40, 1, 65536, 3, 1, 0)
        + os.urandom(32) + os.urandom(32) + name(volume) + name("cut-9") + lines
    )


def foreign(target, ca, certificate, key, volume_uuid):
    """Wants to change a/v, the copy of another host. What is no sense ends the connection; what is, is about its own copy."""
    of_a = uuid.UUID(volume_uuid).bytes
    domain_key = os.urandom(64)
    domain = __import__("hashlib").sha256(bytes(b ^ 0x6D for b in domain_key)).digest()[:16]
    position = struct.pack("<QQ16s", 1 << 40, 1 << 40, bytes(16))
    for kind, body in (
        (OFFER, offer("a/v", domain, of_a, 1 << 40)),
        (OFFER, offer("../a/v", domain, of_a, 1 << 40)),
        (FOLLOW, of_a + position + name("a/v")),
        (WRITE, struct.pack("<QQ", 0, 4096) + bytes(4096)),
        (COMMIT, struct.pack("<QQ", 0, 0) + position),
    ):
        peer = Peer(target, ca, certificate, key)
        peer.say(kind, body)
        print(peer.error())
    peer = Peer(target, ca, certificate, key)
    peer.say(FOLLOW, of_a + position + name("v"))
    print(peer.error())
    peer = Peer(target, ca, certificate, key)
    peer.say(OFFER, offer("v", domain, of_a, 1 << 40))
    print(peer.error())
    peer.say(DOMAIN, domain + domain_key + name("mine"), 2)
    peer.read()
    peer.say(OFFER, offer("v", domain, of_a, 1 << 40), 3)
    print(peer.error())


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
