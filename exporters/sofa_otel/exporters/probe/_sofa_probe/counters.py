"""The process's own kernel counters, once a second, as the kernel's text: the agent parses it.

In a restricted pod the agent sees neither this ``/proc`` nor this cgroup; quota, oversubscription and disk findings need them.
"""

import os
import time

from _sofa_probe import wire
from _sofa_probe.descriptors import close_quietly, opened

INTERVAL_NS = 1000000000
MAX_BYTES = 4096
PROCESS = ("stat", "io", "status", "schedstat")
CGROUP2 = ("cpu.max", "cpu.stat", "cpuset.cpus.effective", "memory.current", "memory.max", "memory.events", "memory.stat")
CGROUP1 = {
    "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.stat"),
    "cpuacct": ("cpuacct.usage_user", "cpuacct.usage_sys"),
    "memory": ("memory.usage_in_bytes", "memory.limit_in_bytes", "memory.oom_control"),
    "cpuset": ("cpuset.effective_cpus",),
}
ROOT = "/sys/fs/cgroup"


class Counters:
    """Reads the files and sends them."""

    def __init__(self, pid, link):
        self.pid, self._link = pid, link
        self._next = 0
        self._out = []
        files = [("self/" + name, "/proc/self/" + name) for name in PROCESS] + _cgroup_files()
        self._files = [(name, opened(path)) for name, path in files]

    def tick(self, now):
        """Read everything when a second has passed."""
        if now < self._next or not self._link.connected:
            return
        self._next = now + INTERVAL_NS
        found = []
        for name, fd in self._files:
            try:
                found.append((name, os.pread(fd, MAX_BYTES, 0).decode("utf-8", "replace")))
            except OSError:
                continue
        try:
            found.append(("affinity", str(len(os.sched_getaffinity(0)))))
        except (AttributeError, OSError):
            pass
        found.append(("tasks/schedstat", _tasks()))
        self._out.append(wire.stamped(wire.COUNTERS, (time.monotonic_ns(),), found))

    def drain(self):
        """Frames that wait."""
        out, self._out = self._out, []
        return out

    def request(self, mode, bursts, names):
        """Counters are never switched off."""

    def restart(self):
        """Nothing refers to tables."""

    def stats(self):
        """Nothing of interest."""
        return []

    def close(self):
        """Release descriptors."""
        files, self._files = self._files, []
        for _, fd in files:
            close_quietly(fd)

    abandon = close


def _read(path):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, MAX_BYTES).decode("utf-8", "replace")
        finally:
            os.close(fd)
    except OSError:
        return None


MAX_TASKS = 256


def _tasks():
    """Run time, run delay and slices of all threads, summed: ``/proc/self/schedstat`` is the main thread's alone."""
    totals = [0, 0, 0]
    try:
        for task in os.listdir("/proc/self/task")[:MAX_TASKS]:
            text = _read("/proc/self/task/" + task + "/schedstat")
            if text:
                totals = [a + int(b) for a, b in zip(totals, text.split())]
    except (OSError, ValueError):
        return ""
    return " ".join([str(item) for item in totals])


def _cgroup_files():
    """Files of the process's own control group, version 2 and 1, as seen from inside a container or outside."""
    found = []
    for line in (_read("/proc/self/cgroup") or "").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        if parts[1] == "":
            found += _existing(ROOT, parts[2], CGROUP2, "cgroup/")
            continue
        for controller in parts[1].split(","):
            names = CGROUP1.get(controller, ())
            for folder in (parts[1], controller):
                files = _existing(ROOT + "/" + folder, parts[2], names, "cgroup1/")
                if files:
                    found += files
                    break
    return found


def _existing(mount, path, names, prefix):
    # In a container with its own cgroup namespace the path is "/"; without one it may not exist below our mount.
    for base in (mount + path.rstrip("/"), mount):
        files = [(prefix + name, base + "/" + name) for name in names if os.path.exists(base + "/" + name)]
        if files:
            return files
    return []
