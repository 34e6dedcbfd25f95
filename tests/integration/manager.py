#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""In systemd's place: prints what a daemon tells the socket NOTIFY, a line each; behind READY whether its API answered at that moment.
Usage: manager.py NOTIFY API-SOCKET"""
import http.client
import socket
import sys

name, api = sys.argv[1:3]


def serves():
    request = http.client.HTTPConnection("vstore")
    request.sock = socket.socket(socket.AF_UNIX)
    try:
        request.sock.connect(api)
        request.request("GET", "/v1/jobs")
        return request.getresponse().status == 200
    except OSError:
        return False


ears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ears.bind("\0" + name[1:] if name.startswith("@") else name)
print("listens", flush=True)
while True:
    state = ears.recv(4096).decode()
    print(state if state != "READY=1" or serves() else "READY too early", flush=True)
