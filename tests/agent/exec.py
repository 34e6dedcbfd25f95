#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs one command in a guest by its guest agent; prints what it said, returns its status. Usage: exec.py DOMAIN COMMAND"""
import base64
import json
import subprocess
import sys
import time


def ask(execute, **arguments):
    text = json.dumps({"execute": execute, "arguments": arguments})
    answer = subprocess.run(["virsh", "qemu-agent-command", "--timeout", "60", domain, text], capture_output=True, text=True)
    if answer.returncode:
        sys.exit(f"the guest agent of {domain}: {answer.stderr.strip()}")
    return json.loads(answer.stdout)["return"]


domain, command = sys.argv[1:3]
pid = ask("guest-exec", path="/bin/sh", arg=["-c", command], **{"capture-output": True})["pid"]
end = time.monotonic() + 300
while not (status := ask("guest-exec-status", pid=pid))["exited"]:
    if time.monotonic() > end:
        sys.exit(f"{command!r} does not end")
    time.sleep(0.1)
for key in "out-data", "err-data":
    sys.stdout.write(base64.b64decode(status.get(key, "")).decode(errors="replace"))
sys.exit(status.get("exitcode", 128 + status.get("signal", 0)))
