# SPDX-License-Identifier: Apache-2.0
"""The machine: commands, caches, mounts, and what is said of it in a result. Whatever is started or mounted here is stopped
and unmounted at the end of the run, by its own pid or path."""
import contextlib
import os
import shutil
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build-release")
MIB = 1 << 20
COMMAND_SECONDS_MAX = 900

# command: Debian package. A missing one is a gap with a name.
TOOLS = {
    "fio": "fio", "qemu-nbd": "qemu-utils", "qemu-img": "qemu-utils", "qemu-io": "qemu-utils", "nbdkit": "nbdkit", "nbdcopy": "libnbd-bin", "zstd": "zstd",
    "restic": "restic", "borg": "borgbackup", "casync": "casync", "mkfs.btrfs": "btrfs-progs", "gnuplot": "gnuplot-nox",
    "mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "losetup": "mount", "iperf3": "iperf3", "ip": "iproute2", "valgrind": "valgrind",
}


class Failed(Exception):
    """Something could not be measured; the text is for a person. Of a peer it is a gap, of vstored it fails the row."""


def run(*argv, env=None, cwd=None, seconds=COMMAND_SECONDS_MAX):
    """A command to its end; its output. Failed: with its last words."""
    argv = [str(a) for a in argv]
    try:
        done = subprocess.run(argv, capture_output=True, env={**os.environ, **(env or {})}, cwd=cwd, timeout=seconds,
                              stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        raise Failed(f"{argv[0]} is not installed (Debian package {TOOLS.get(argv[0], 'unknown')})") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{os.path.basename(argv[0])} did not end within {seconds} s") from None
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise Failed(f"{os.path.basename(argv[0])} ended with {done.returncode}: {words[-1][:300] if words else 'no words'}")
    return done.stdout.decode(errors="replace")


def build(*targets):
    """Those, or all. The programs are those of the source: a figure names a commit, and older programs would lie under its name."""
    if not os.path.exists(os.path.join(BUILD, "build.ninja")):
        run("meson", "setup", BUILD, ROOT, "-Dwerror=true")
    run("ninja", "-C", BUILD, *targets)


def shell(script, *args, **kw):
    return run("bash", "-euc", "set -o pipefail; " + script, "bench", *args, **kw)


def wait_until(what, test, seconds, step=0.005):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = test()
        if value:
            return value
        time.sleep(step)
    raise Failed(f"{what} did not happen within {seconds} s")


def drop_caches():
    """True: the page cache is empty. False: we may not, and the result must say so."""
    os.sync()
    try:
        write_text("/proc/sys/vm/drop_caches", 3)
        return True
    except OSError:
        return False


def forget(path):
    """Nothing of the file is in the page cache: O_DIRECT beside cached pages pays for throwing them out."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def copy_cold(source, path):
    """A copy with every range allocated, and not in the page cache."""
    shutil.copyfile(source, path)
    forget(path)
    return path


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)


def same(a, b):
    """Two files, byte by byte."""
    return subprocess.run(["cmp", "-s", a, b], check=False).returncode == 0


def sha256_of(path, head_bytes=None):
    return shell('head -c "$2" "$1" | sha256sum', path, head_bytes or 1 << 62).split()[0]


@contextlib.contextmanager
def _loop_mounted(image, folder, mkfs, mount):
    """The file system that `mkfs` makes in a file, mounted at folder for as long as the context lasts; the file goes."""
    os.makedirs(folder, exist_ok=True)
    try:
        run(*mkfs, image)
        device = run("losetup", "--find", "--show", "--direct-io=on", image).strip()
        try:
            run("mount", *mount, device, folder)
            try:
                yield folder
            finally:
                run("umount", folder)
        finally:
            run("losetup", "-d", device)
    finally:
        remove(image)


def btrfs(image, folder, size_bytes):
    """btrfs with compress=zstd:1 on a loop device."""
    remove(image)
    with open(image, "wb") as file:
        file.truncate(size_bytes)
    return _loop_mounted(image, folder, ["mkfs.btrfs", "-q"], ["-t", "btrfs", "-o", "compress=zstd:1"])


def ext4(image, folder, size_mib):
    """ext4 of a fixed size on a loop device, every block of which was written before: what is written first costs no more than what is
    written over."""
    remove(image)
    run("dd", "if=/dev/zero", f"of={image}", "bs=1M", f"count={size_mib}", "oflag=direct", "conv=fsync")
    return _loop_mounted(image, folder, ["mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"], [])


class MemoryLimit:
    """A memory cgroup of our own (version 1 or 2) for a peer whose reads go through the page cache: what it holds now, and so much for
    its page cache, as vstored's caches are bounded too. Where it cannot be made, `made` is false and the row says so."""

    def __init__(self, name, pid, cache_bytes):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            own = next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:"))
        self.path = None
        for base, file in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            path = os.path.join(base, name)
            try:
                os.makedirs(path, exist_ok=True)
                write_text(os.path.join(path, file), own + cache_bytes)
                write_text(os.path.join(path, "cgroup.procs"), pid)
            except OSError:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
                continue
            self.path = path
            return

    @property
    def made(self):
        return self.path is not None

    def done(self):
        """After the process has ended."""
        if self.made:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)


def write_text(path, value):
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))


def install_missing():
    """Installs the packages of missing peers, as root, from the system's own sources."""
    missing = sorted({package for command, package in TOOLS.items() if not shutil.which(command)})
    if missing:
        print("installing", *missing, flush=True)
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", "-qq", env=environment)
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, env=environment)


def first_line(*argv):
    try:
        lines = run(*argv).strip().splitlines()
        return lines[0] if lines else "unknown"
    except Failed as error:
        return str(error)


def facts(folder):
    """What a result must say of where it was made."""
    def field(path, key):
        with open(path, encoding="utf-8") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(key)), "unknown")

    versions = {"qemu": ("qemu-nbd", "--version"), "nbdkit": ("nbdkit", "--version"), "fio": ("fio", "--version"),
                "restic": ("restic", "version"), "borg": ("borg", "--version"), "casync": ("casync", "--version"),
                "zstd": ("zstd", "--version"), "btrfs-progs": ("mkfs.btrfs", "--version")}
    return {
        "processor": field("/proc/cpuinfo", "model name"), "cores": os.cpu_count(), "memory": field("/proc/meminfo", "MemTotal"),
        "kernel": os.uname().release, "file_system": first_line("stat", "-f", "-c", "%T", folder),
        "load_before": os.getloadavg()[0],
        "commit": first_line("git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"),
        "changed": bool(shell('git -C "$1" status --porcelain --untracked-files=no || true', ROOT).strip()),
        "versions": {name: first_line(*argv) for name, argv in versions.items()},
    }
