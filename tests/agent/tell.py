#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs one command in a test guest by its serial console. Usage: tell.py TERMINAL COMMAND"""
import os
import re
import select
import sys
import termios
import time
import tty

terminal, command = sys.argv[1:3]
fd = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
tty.setraw(fd)
termios.tcflush(fd, termios.TCIFLUSH)
mark = f"BEGIN-{os.getpid()}"
os.write(fd, f"echo {mark}; {command}\n".encode())
text, end = "", time.monotonic() + 120
while time.monotonic() < end:
    if select.select([fd], [], [], 1)[0]:
        text += os.read(fd, 65536).decode(errors="replace")
    if found := re.search(mark + r"\r?\n(.*?)END (\d+)\r?\n", text, re.S):
        sys.stdout.write(found.group(1).replace("\r", ""))
        sys.exit(int(found.group(2)))
print(f"the guest did not answer: {text[-500:]!r}", file=sys.stderr)
sys.exit(124)
