"""Kernel files that a probe sent as text, read into resource points: all parsing happens on this side of the socket.

Needed where the agent sees neither the trainer's ``/proc`` nor its control group (a restricted pod). Series are the same as
those of the ``proc`` and ``cgroup`` collectors, so nothing downstream knows the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final

from sofa_otel.core import names
from sofa_otel.core.names import Metric
from sofa_otel.core.series import Series, SeriesTable
from sofa_otel.exporters.collect.kernel_file import count_cpus

OWNER_NS: Final = 3_000_000_000
UNLIMITED: Final = 1 << 60
"""Version 1 writes "no limit" as the largest multiple of the page size."""

Point = tuple[Metric, dict[str, str], float]


class GroupOwner:
    """Which process speaks for the control group, which all processes of a job on a node share: points must not come twice."""

    def __init__(self) -> None:
        self._pid = 0
        self._last_ns = 0

    def speaks(self, pid: int, time_ns: int) -> bool:
        """Whether ``pid`` is the one; another takes over when it has been silent for three seconds."""
        if not self._pid or (pid != self._pid and time_ns - self._last_ns > OWNER_NS):
            self._pid = pid
        if pid == self._pid:
            self._last_ns = time_ns
        return pid == self._pid


class ProcessCounters:
    """Turns the texts of ``/proc/self`` and of the process's control group into points.

    Args:
        table: The sink's series.
        owner: Shared by all probes of a target.
    """

    def __init__(self, table: SeriesTable, owner: GroupOwner) -> None:
        self._table = table
        self._owner = owner
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")

    def points(self, pid: int, time_ns: int, texts: Mapping[str, str]) -> tuple[list[int], list[float]]:
        """Series ids and values; what cannot be read is left out."""
        series: list[int] = []
        values: list[float] = []
        for metric, attributes, value in self._all(pid, time_ns, texts):
            pairs = tuple(sorted(attributes.items()))
            series.append(self._table.intern_series(Series(metric.name, metric.unit, metric.instrument.value, pairs)))
            values.append(value)
        return series, values

    def _all(self, pid: int, time_ns: int, texts: Mapping[str, str]) -> Iterator[Point]:
        own = {names.PROCESS_PID: str(pid)}
        for reader in (self._stat, _status, _io, _tasks):
            try:
                for metric, more, value in reader(texts):
                    yield metric, own | more, value
            except (ValueError, IndexError):
                continue
        if self._owner.speaks(pid, time_ns):
            for group_reader in (_group2, _group1, _limit):
                try:
                    yield from group_reader(texts)
                except (ValueError, IndexError):
                    continue

    def _stat(self, texts: Mapping[str, str]) -> Iterator[Point]:
        """``/proc/PID/stat``, proc(5); fields are counted after the command's closing bracket."""
        fields = texts.get("self/stat", "").rpartition(")")[2].split()
        if len(fields) < 22:
            return
        yield names.PROCESS_PAGING_FAULTS, {names.PAGING_FAULT_TYPE: "minor"}, float(fields[7])
        yield names.PROCESS_PAGING_FAULTS, {names.PAGING_FAULT_TYPE: "major"}, float(fields[9])
        yield names.PROCESS_CPU_TIME, {names.CPU_MODE: "user"}, int(fields[11]) * self._tick_s
        yield names.PROCESS_CPU_TIME, {names.CPU_MODE: "system"}, int(fields[12]) * self._tick_s
        yield names.PROCESS_THREAD_COUNT, {}, float(fields[17])


def _table(text: str, separator: str | None = None) -> dict[str, str]:
    pairs = (line.split(separator, 1) for line in text.splitlines())
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}


def _status(texts: Mapping[str, str]) -> Iterator[Point]:
    found = _table(texts.get("self/status", ""), ":")
    if "VmRSS" in found:
        yield names.PROCESS_MEMORY_USAGE, {}, float(int(found["VmRSS"].split()[0]) * 1024)
    for key, kind in (("voluntary_ctxt_switches", "voluntary"), ("nonvoluntary_ctxt_switches", "involuntary")):
        if key in found:
            yield names.PROCESS_CONTEXT_SWITCHES, {names.CONTEXT_SWITCH_TYPE: kind}, float(found[key])


def _io(texts: Mapping[str, str]) -> Iterator[Point]:
    found = _table(texts.get("self/io", ""), ":")
    for key, direction in (("read_bytes", "read"), ("write_bytes", "write")):
        if key in found:
            yield names.PROCESS_DISK_IO, {names.DISK_DIRECTION: direction}, float(found[key])


def _tasks(texts: Mapping[str, str]) -> Iterator[Point]:
    fields = texts.get("tasks/schedstat", "").split()
    if len(fields) == 3:
        yield names.PROCESS_RUN_DELAY, {}, int(fields[1]) / 1e9


def _group2(texts: Mapping[str, str]) -> Iterator[Point]:
    """Files of a version 2 group (kernel: admin-guide/cgroup-v2)."""
    stat = _table(texts.get("cgroup/cpu.stat", ""))
    for key, metric, attributes in (
        ("user_usec", names.CGROUP_CPU_TIME, {names.CPU_MODE: "user"}),
        ("system_usec", names.CGROUP_CPU_TIME, {names.CPU_MODE: "system"}),
        ("throttled_usec", names.CGROUP_CPU_THROTTLED, {}),
    ):
        if key in stat:
            yield metric, attributes, int(stat[key]) / 1e6
    yield from _periods(stat)
    yield from _bytes(texts, "cgroup/memory.current", "cgroup/memory.max")
    events = _table(texts.get("cgroup/memory.events", ""))
    if "oom_kill" in events:
        yield names.CGROUP_OOM_KILLS, {}, float(events["oom_kill"])


def _group1(texts: Mapping[str, str]) -> Iterator[Point]:
    """Files of version 1 groups (kernel: admin-guide/cgroup-v1)."""
    for key, mode in (("cgroup1/cpuacct.usage_user", "user"), ("cgroup1/cpuacct.usage_sys", "system")):
        if texts.get(key, "").strip():
            yield names.CGROUP_CPU_TIME, {names.CPU_MODE: mode}, int(texts[key]) / 1e9
    stat = _table(texts.get("cgroup1/cpu.stat", ""))
    if "throttled_time" in stat:
        yield names.CGROUP_CPU_THROTTLED, {}, int(stat["throttled_time"]) / 1e9
    yield from _periods(stat)
    yield from _bytes(texts, "cgroup1/memory.usage_in_bytes", "cgroup1/memory.limit_in_bytes")
    kills = _table(texts.get("cgroup1/memory.oom_control", ""))
    if "oom_kill" in kills:
        yield names.CGROUP_OOM_KILLS, {}, float(kills["oom_kill"])


def _periods(stat: Mapping[str, str]) -> Iterator[Point]:
    for key, state in (("nr_periods", "elapsed"), ("nr_throttled", "throttled")):
        if key in stat:
            yield names.CGROUP_CPU_PERIODS, {names.PERIOD_STATE: state}, float(stat[key])


def _bytes(texts: Mapping[str, str], usage: str, limit: str) -> Iterator[Point]:
    for key, metric in ((usage, names.CGROUP_MEMORY_USAGE), (limit, names.CGROUP_MEMORY_LIMIT)):
        text = texts.get(key, "").strip()
        if text.isdecimal() and int(text) < UNLIMITED:
            yield metric, {}, float(text)


def _limit(texts: Mapping[str, str]) -> Iterator[Point]:
    """CPUs granted: the least of quota, cpuset and affinity."""
    granted: list[float] = []
    quota = texts.get("cgroup/cpu.max", "").split()
    if len(quota) == 2 and quota[0] != "max":
        granted.append(int(quota[0]) / int(quota[1]) if int(quota[1]) else 0.0)
    old, period = texts.get("cgroup1/cpu.cfs_quota_us", "").strip(), texts.get("cgroup1/cpu.cfs_period_us", "").strip()
    if old.isdecimal() and period.isdecimal() and int(period):
        granted.append(int(old) / int(period))
    granted += [count_cpus(texts.get(key, "")) for key in ("cgroup/cpuset.cpus.effective", "cgroup1/cpuset.effective_cpus")]
    affinity = texts.get("affinity", "").strip()
    granted.append(float(affinity) if affinity.isdecimal() else 0.0)
    usable = [value for value in granted if value > 0]
    if usable:
        yield names.CGROUP_CPU_LIMIT, {}, min(usable)
