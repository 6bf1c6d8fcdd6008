"""The target's control group: how many CPUs and how much memory it was *granted*, and when the kernel held it back.

The granted CPUs are the least of the quotas of the group and all its ancestors, the cpuset and the process's own affinity: a
training job that starts one thread per core of the host finds its limit here and nowhere else.
"""

from __future__ import annotations

import os
from typing import Final

from sofa_otel.core import names
from sofa_otel.exporters.collect.cgroup_layout import Layout, find_layout
from sofa_otel.exporters.collect.kernel_file import KernelFile, count_cpus, read_text
from sofa_otel.exporters.collect.polled import PolledCollector
from sofa_otel.exporters.collector import Capability, Target

UNLIMITED: Final = 1 << 60
"""Version 1 writes "no limit" as the largest multiple of the page size below 2^63."""

_CHILDREN: Final = 8
_LIMIT_POLLS: Final = 5
"""Limits change seldom: they are read every so many polls."""


def parse_flat(data: bytes) -> dict[bytes, int]:
    """``key value`` lines, as in ``cpu.stat`` and ``memory.events``."""
    out: dict[bytes, int] = {}
    for line in data.splitlines():
        key, _, value = line.partition(b" ")
        if value.isdigit():
            out[key] = int(value)
    return out


def parse_cpu_max(text: str) -> float:
    """CPUs that a ``cpu.max`` of version 2 grants (``max 100000`` or ``150000 100000``); infinity for no limit."""
    quota, _, period = text.strip().partition(" ")
    if not quota.isdecimal():
        return float("inf")
    return int(quota) / (int(period) if period.isdecimal() and int(period) else 100_000)


def quota_of(version: int, directory: str) -> float:
    """CPUs that the quota of one group grants; infinity for no limit."""
    if version == 2:
        return parse_cpu_max(read_text(f"{directory}/cpu.max"))
    quota, period = read_text(f"{directory}/cpu.cfs_quota_us").strip(), read_text(f"{directory}/cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else float("inf")


def memory_limit(layout: Layout) -> float:
    """Bytes that the group may use: the least of its own limit and its ancestors'; infinity for no limit."""
    version, directories = layout.of("memory")
    limits = [float("inf")]
    for directory in directories:
        text = read_text(f"{directory}/{'memory.max' if version == 2 else 'memory.limit_in_bytes'}").strip()
        if text.isdecimal() and int(text) < UNLIMITED:
            limits.append(int(text))
    return min(limits)


def cpuset_size(layout: Layout) -> float:
    """CPUs of the group's cpuset; infinity when there is none."""
    version, directories = layout.of("cpuset")
    files = ("cpuset.cpus.effective",) if version == 2 else ("cpuset.effective_cpus", "cpuset.cpus")
    for directory in directories:
        for file in files:
            size = count_cpus(read_text(f"{directory}/{file}"))
            if size:
                return size
    return float("inf")


def affinity_size(root: str, pid: int) -> float:
    """CPUs that the process's main thread may run on; infinity when that cannot be read."""
    for line in read_text(os.path.join(root, "proc", str(pid or "self"), "status")).splitlines():
        if line.startswith("Cpus_allowed_list:"):
            return count_cpus(line[18:]) or float("inf")
    return float("inf")


def online_cpus(root: str) -> float:
    """CPUs of the host; infinity when that cannot be read."""
    return count_cpus(read_text(os.path.join(root, "sys/devices/system/cpu/online"))) or float("inf")


class CgroupCollector(PolledCollector):
    """CPU limit, throttling, memory and OOM kills of the target's control group, version 1, 2 or hybrid."""

    name = "cgroup"
    interval_s = 1.0
    provides = "granted CPUs, throttled time, memory and its limit, OOM kills of the target's control group"

    def __init__(self, root: str = "/") -> None:
        super().__init__(root)
        self._polls = 0
        self._limits: list[tuple[int, float]] = []
        self._owner = 0
        self._groups = ""

    def probe(self) -> Capability:
        """Needs a mounted control-group hierarchy."""
        if find_layout(self.root, 0).directories:
            return Capability(usable=True, provides=self.provides)
        return Capability(
            usable=False,
            provides=self.provides,
            missing="no control-group hierarchy is mounted",
            remedy="mount -t cgroup2 none /sys/fs/cgroup (in a container: share /sys/fs/cgroup read-only)",
        )

    def _open(self, target: Target) -> None:
        self._owner, self._groups = self._find_owner(target)
        self._open_group(target)

    def _find_owner(self, target: Target) -> tuple[int, str]:
        """The process whose group counts, and its ``/proc/PID/cgroup``: a child's where a wrapper put it into another group."""
        process = os.path.join(self.root, "proc", str(target.pid or "self"))
        own = read_text(f"{process}/cgroup")
        for child in read_text(f"{process}/task/{target.pid}/children").split()[:_CHILDREN]:
            groups = read_text(os.path.join(self.root, "proc", child, "cgroup"))
            if groups and groups != own:
                return int(child), groups
        return target.pid, own

    def _follow(self, target: Target) -> None:
        """Groups are entered after the start, too: by a wrapper for itself, by a container runtime for a process it moves."""
        owner, groups = self._find_owner(target)
        if groups and groups != self._groups:
            self._owner, self._groups = owner, groups
            for file in self._files:
                file.close()
            self._files.clear()
            self._open_group(target)

    def _open_group(self, target: Target) -> None:
        self._polls = 0
        layout = self._layout = find_layout(target.root, self._owner, target.cgroup)
        self._cpu_version, cpu = layout.of("cpu")
        # The enforcing group is the one with the least quota: throttling is counted where the quota is.
        enforcing = min(cpu, key=lambda directory: quota_of(self._cpu_version, directory), default="")
        self._cpu_stat = self._absolute(enforcing, "cpu.stat")
        own = cpu[0] if cpu else ""
        self._usage = self._absolute(own, "cpu.stat") if self._cpu_version == 2 else None
        acct_version, acct = layout.of("cpuacct")
        if acct_version == 1:
            self._usage = self._absolute(acct[0], "cpuacct.stat")
        self._memory_version, memory = layout.of("memory")
        directory = memory[0] if memory else ""
        v2 = self._memory_version == 2
        self._memory = self._absolute(directory, "memory.current" if v2 else "memory.usage_in_bytes")
        self._oom = self._absolute(directory, "memory.events" if v2 else "memory.oom_control")
        mode, state = names.CPU_MODE, names.PERIOD_STATE
        self._s_user = self._series(names.CGROUP_CPU_TIME, {mode: "user"})
        self._s_system = self._series(names.CGROUP_CPU_TIME, {mode: "system"})
        self._s_throttled = self._series(names.CGROUP_CPU_THROTTLED)
        self._s_elapsed = self._series(names.CGROUP_CPU_PERIODS, {state: "elapsed"})
        self._s_held = self._series(names.CGROUP_CPU_PERIODS, {state: "throttled"})
        self._s_limit = self._series(names.CGROUP_CPU_LIMIT)
        self._s_memory = self._series(names.CGROUP_MEMORY_USAGE)
        self._s_memory_limit = self._series(names.CGROUP_MEMORY_LIMIT)
        self._s_oom = self._series(names.CGROUP_OOM_KILLS)
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")

    def granted_cpus(self) -> float:
        """CPUs that the target may use at once; infinity when nothing tells."""
        version, directories = self._layout.of("cpu")
        quotas = [quota_of(version, directory) for directory in directories]
        return min([*quotas, cpuset_size(self._layout), affinity_size(self.root, self._owner), online_cpus(self.root)])

    def _absolute(self, directory: str, file: str) -> KernelFile | None:
        return self._file(directory, file) if directory else None

    def _read(self, now_ns: int) -> None:
        if self._target is not None and not self._target.cgroup:
            self._follow(self._target)
        if self._polls % _LIMIT_POLLS == 0:
            limits = ((self._s_limit, self.granted_cpus()), (self._s_memory_limit, memory_limit(self._layout)))
            self._limits = [(series, value) for series, value in limits if value != float("inf")]
        self._polls += 1
        for series, value in self._limits:
            self._put(series, value)
        self._read_cpu()
        if self._memory is not None and (data := self._memory.read().strip()).isdigit():
            self._put(self._s_memory, int(data))
        if self._oom is not None:
            kills = parse_flat(self._oom.read()).get(b"oom_kill")
            if kills is not None:
                self._put(self._s_oom, kills)

    def _read_cpu(self) -> None:
        if self._cpu_stat is not None:
            stat = parse_flat(self._cpu_stat.read())
            if b"nr_periods" in stat:
                self._put(self._s_elapsed, stat[b"nr_periods"])
                self._put(self._s_held, stat.get(b"nr_throttled", 0))
                nanos = stat.get(b"throttled_time", 0) + 1000 * stat.get(b"throttled_usec", 0)
                self._put(self._s_throttled, nanos * 1e-9)
        if self._usage is not None:
            usage = parse_flat(self._usage.read())
            if b"user_usec" in usage:
                self._put(self._s_user, usage[b"user_usec"] * 1e-6)
                self._put(self._s_system, usage.get(b"system_usec", 0) * 1e-6)
            elif b"user" in usage:
                self._put(self._s_user, usage[b"user"] * self._tick_s)
                self._put(self._s_system, usage.get(b"system", 0) * self._tick_s)
