# SPDX-License-Identifier: Apache-2.0
"""Servers with a unix socket: vstored and the peers that speak NBD."""
import contextlib
import json
import os
import signal
import socket
import subprocess
import time

from .machine import BUILD, Failed, remove, run, wait_until

VSTORED = os.path.join(BUILD, "storage/daemon/vstored")
CTL = os.path.join(BUILD, "agent/ctl/vstorectl")
START_SECONDS_MAX = 60


class Export:
    """What a client connects to."""

    def __init__(self, sock, export):
        self.sock, self.export = sock, export

    def uri(self):
        return f"nbd+unix:///{self.export}?socket={self.sock}"


class Server(Export):
    """A process that listens at a unix socket; stopped by its own pid when its context ends."""

    def __init__(self, argv, sock, log, export=""):
        super().__init__(sock, export)
        remove(sock)
        self.log = open(log, "ab")
        try:
            self.process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        except FileNotFoundError:
            self.log.close()
            raise Failed(f"{argv[0]} is not installed") from None
        self.name = os.path.basename(str(argv[0]))
        try:
            wait_until(f"{self.name}'s start", self._listens, START_SECONDS_MAX)
        except Failed:
            self.stop()
            raise

    def _listens(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended with {self.process.returncode} at its start; see {self.log.name}")
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            return probe.connect_ex(self.sock) == 0

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failed(f"{self.name} did not end when it was told to") from None
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


class Vstored(Server):
    """A store in folder/store (made when it is not there) with one volume `a`, and its daemon."""

    def __init__(self, folder, size=None, log="256M", frame=None, program=(VSTORED,), flags=(), **settings):
        """settings: keys of [store] in vstored's configuration file: cache, node_cache, idle_fold ...; program: what runs it"""
        self.folder = os.path.abspath(folder)
        self.store, self.run_dir = os.path.join(self.folder, "store"), os.path.join(self.folder, "run")
        fresh = not os.path.exists(self.store)
        os.makedirs(self.folder, exist_ok=True)
        config = os.path.join(self.folder, "vstored.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write("[store]\nany_file_system = true\n" + "".join(f"{k} = {v}\n" for k, v in settings.items()))
        if fresh:
            run(VSTORED, "--init", "--store", self.store, "--log-size", log, "--any-file-system")
        self.control = os.path.join(self.run_dir, "storage.sock")
        super().__init__([*program, "--config", config, "--store", self.store, "--run", self.run_dir, *flags], self.control,
                         os.path.join(self.folder, "log"), "a")
        try:
            self.sock = self.volume("a").sock
            if fresh and size:
                self.ctl("volume", "create", "a", "--size", size)
                if frame:
                    self.ctl("volume", "set", "a", f"frame={frame}")
        except Failed:
            self.stop()
            raise

    def volume(self, name):
        return Export(os.path.join(self.run_dir, "nbd", name + ".sock"), name)

    def ctl(self, *argv):
        return run(CTL, "--host", "unix:" + self.control, "--progress=none", "--yes", *argv)

    def status(self):
        return json.loads(self.ctl("-o", "json", "store", "status"))

    def settle(self, seconds=300):
        """Until nothing is left to fold, so that the next figure, a peer's perhaps, is not disturbed."""
        wait_until("the end of vstored's folding", lambda: self.status()["dirty_bytes"] == 0, seconds, 0.1)

    def memory(self):
        """Bytes resident now, and at most so far."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return tuple(int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))

    def processor_seconds(self):
        """That all of its threads have used so far."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def frozen(self):
        """While a peer runs beside a measurement that goes on afterwards: no work is done for free meanwhile."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)
            time.sleep(0.05)


def qemu_nbd(folder, name, file, form="raw"):
    """O_DIRECT and io_uring, like vstored."""
    sock = os.path.join(folder, name + ".sock")
    return Server(["qemu-nbd", "-t", "-e", "64", "-k", sock, "-f", form, "--cache=none", "--aio=io_uring", "--discard=unmap", file],
                  sock, os.path.join(folder, name + ".log"))


def nbdkit(folder, name, *plugin):
    sock = os.path.join(folder, name + ".sock")
    return Server(["nbdkit", "-f", "-U", sock, *plugin], sock, os.path.join(folder, name + ".log"))
