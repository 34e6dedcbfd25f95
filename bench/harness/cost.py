# SPDX-License-Identifier: Apache-2.0
"""What a server, its disk and the machine spend: two looks, and the difference."""
import collections
import os

_TICK = os.sysconf("SC_CLK_TCK")
_SECTOR = 512


def _words(path):
    with open(path, encoding="ascii") as file:
        return file.read().split()


def spent(server, folder):
    """So far. Seconds: all processors busy, and stolen by other machines; the server's; its first thread's, which serves, and how long that one
    waited for a processor. Of folder's disk: bytes read, bytes written, flushes."""
    pid, device = server.process.pid, os.stat(folder).st_dev
    machine = [int(word) / _TICK for word in _words("/proc/stat")[1:9]]  # user nice system idle iowait irq softirq steal
    own = _words(f"/proc/{pid}/stat")
    runs, waits = (int(word) / 1e9 for word in _words(f"/proc/{pid}/task/{pid}/schedstat")[:2])
    disk = [int(word) for word in _words(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")]
    return collections.Counter({
        "busy": sum(machine) - machine[3] - machine[4] - machine[7], "stolen": machine[7],
        "server": (int(own[13]) + int(own[14])) / _TICK, "serving": runs, "waiting": waits,
        "read": disk[2] * _SECTOR, "written": disk[6] * _SECTOR, "flushes": disk[15]})


def difference(after, before):
    return collections.Counter({key: after[key] - before[key] for key in after})
