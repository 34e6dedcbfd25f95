# SPDX-License-Identifier: Apache-2.0
"""Two hosts on this machine: network namespaces a and b with a veth between them, and a certificate of one CA for each. For a while there may be a
long link beside it."""
import contextlib
import itertools
import json
import os
import subprocess

from .machine import BUILD, Failed, run, wait_until
from .servers import CTL, VSTORED, Vstored

IN_THE_CLEAR = os.path.join(BUILD, "storage/daemon/vstored_plaintext")  # built for this harness alone
LIMIT = os.path.join(BUILD, "bench/repl_limit")
LONG_LINK = os.path.join(BUILD, "bench/long_link")
ADDRESS = {"a": "10.78.0.1", "b": "10.78.0.2"}
FAR = {"a": "10.79.0.1", "b": "10.79.0.2"}  # over the long link
PORT = 7410


class Hosts(contextlib.ExitStack):
    def __init__(self, folder):
        super().__init__()
        self.folder, self.net = folder, f"vsb{os.getpid()}"
        self.ports = itertools.count(7500)  # the kernel may hold one a little longer than its process lives
        os.makedirs(folder)
        try:
            self.make()
        except Failed:
            self.close()
            raise

    def make(self):
        for side in "ab":
            run("ip", "netns", "add", self.name(side))
            self.callback(run, "ip", "netns", "del", self.name(side))
        run("ip", "-n", self.name("a"), "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", self.name("b"))
        run(CTL, "pki", "init", os.path.join(self.folder, "ca"), "--cluster", "bench")
        for side in "ab":
            run("ip", "-n", self.name(side), "addr", "add", ADDRESS[side] + "/24", "dev", "veth0")
            run("ip", "-n", self.name(side), "link", "set", "veth0", "up")
            run(CTL, "pki", "issue", os.path.join(self.folder, "ca"), side, self.tls(side))

    def name(self, side):
        return f"{self.net}-{side}"

    def tls(self, side):
        return os.path.join(self.folder, "tls-" + side)

    def within(self, side):
        return ["ip", "netns", "exec", self.name(side)]

    def vstored(self, side, folder, clear=False, log="256M", address=None):
        """A daemon on this host that knows the other as its peer."""
        other, address = "b" if side == "a" else "a", address or ADDRESS
        how = ["--tls", "plaintext:" + other if clear else self.tls(side), "--listen", f"{address[side]}:{PORT}"]
        server = Vstored(folder, log=log, program=[*self.within(side), IN_THE_CLEAR if clear else VSTORED], flags=how, idle_fold="1s")
        server.ctl("peer", "add", other, f"{address[other]}:{PORT}")
        return server

    def listens(self, side, port):
        return f":{port} " in run(*self.within(side), "ss", "-Hltn")

    @contextlib.contextmanager
    def listening(self, side, port, *argv):
        """A process of ours there, for as long as the context lasts."""
        with subprocess.Popen([*self.within(side), *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                wait_until(f"{argv[0]}'s start", lambda: self.listens(side, port), 60, 0.02)
                yield
            finally:
                process.terminate()

    def carried(self, streams, seconds, clear=False):
        """MiB/s of our connections without a store behind them."""
        port = next(self.ports)
        to = f"{ADDRESS['b']}:{port}"
        with self.listening("b", port, LIMIT, "take", to, *([] if clear else [self.tls("b")])):
            return float(run(*self.within("a"), LIMIT, "give", to, streams, seconds, *([] if clear else [self.tls("a")])))

    def iperf3(self, streams, seconds, address=None):
        """MiB/s of the same link."""
        port, to = next(self.ports), (address or ADDRESS)["b"]
        with self.listening("b", port, "iperf3", "-s", "-B", to, "-p", str(port)):
            out = run(*self.within("a"), "iperf3", "-c", to, "-p", port, "-P", streams, "-t", seconds, "-J")
        return json.loads(out)["end"]["sum_received"]["bits_per_second"] / 8 / (1 << 20)

    @contextlib.contextmanager
    def long_link(self, delay_ms, lost_of_a_million, mbit):
        """A link from FAR["a"] to FAR["b"] with this round trip; None: no tun device can be made here."""
        with subprocess.Popen([LONG_LINK, self.name("a"), self.name("b"), str(delay_ms), str(lost_of_a_million), str(mbit)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
            try:
                if process.stdout.readline() != "up\n":
                    yield None
                    return
                for side, other in (("a", "b"), ("b", "a")):
                    run("ip", "-n", self.name(side), "addr", "add", FAR[side], "peer", FAR[other], "dev", "long0")
                    run("ip", "-n", self.name(side), "link", "set", "long0", "up", "txqueuelen", "10000")
                    run("ip", "-n", self.name(side), "route", "replace", FAR[other], "dev", "long0", "congctl", "cubic")  # as Debian has it
                yield FAR
            finally:
                process.terminate()
