#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A proxy before a unix socket that holds back what begins with WORDS, for so long or until a file is there, and says so.
Usage: slow.py SOCKET TO WORDS SECONDS|FILE"""
import os
import socket
import sys
import threading
import time

path, to, words, until = sys.argv[1:5]


def wait():
    print("held", flush=True)
    if until.isdigit():
        time.sleep(int(until))
    else:
        while not os.path.exists(until):
            time.sleep(0.02)


def copy(source, sink, hold):
    while data := source.recv(65536):
        if hold and data.startswith(words.encode()):
            wait()
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)


def serve(client):
    server = socket.socket(socket.AF_UNIX)
    server.connect(to)
    back = threading.Thread(target=copy, args=(server, client, False), daemon=True)
    back.start()
    try:
        copy(client, server, True)
        back.join()
    except OSError:
        pass
    client.close()
    server.close()


listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
