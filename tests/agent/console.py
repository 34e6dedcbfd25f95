#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A person at vstorectl vm console, through a terminal of their own: what is typed reaches the guest, Ctrl-C too; Ctrl-] ends it and
leaves the terminal as it was. Usage: console.py COMMAND..."""
import os
import pty
import select
import sys
import termios
import time

master, slave = pty.openpty()
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    for fd in 0, 1, 2:
        os.dup2(slave, fd)
    os.execvp(sys.argv[1], sys.argv[1:])
seen = ""


def expect(word):
    global seen
    end = time.monotonic() + 120
    while word not in seen:
        if time.monotonic() > end:
            sys.exit(f"{word!r} did not come: {seen[-500:]!r}")
        if select.select([master], [], [], 1)[0]:
            seen += os.read(master, 65536).decode(errors="replace")
    seen = seen.split(word, 1)[1]


expect("Ctrl-] ends it")
os.write(master, b"echo sum-$((40 + 2))\n")
expect("sum-42")
os.write(master, b"stty -isig -icanon; echo ready-$((1 + 1)); head -c 1 | od -An -tx1; stty isig icanon\n")
expect("ready-2")
os.write(master, b"\x03")
expect(" 03")
os.write(master, b"\x1d")
expect("the VM goes on")
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
after = termios.tcgetattr(slave)
if status != 0 or before != after:
    sys.exit(f"it ended with {status}; the terminal was {before}, is {after}")
