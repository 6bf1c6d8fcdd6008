"""The host as a whole: CPU time by mode and CPU, memory, load. Needed to tell "we are slow" from "the machine is busy"."""

from __future__ import annotations

import os
from typing import Final

from sofa_otel.core import names
from sofa_otel.exporters.collect.polled import PolledCollector
from sofa_otel.exporters.collector import Capability, Target

_MODES: Final = ("user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal")
"""Columns of a ``cpuN`` line, proc(5). Guest time is contained in user time."""

_MEMORY: Final = {b"MemTotal": 0, b"MemFree": 1, b"MemAvailable": 2, b"Buffers": 3, b"Cached": 4, b"Shmem": 5, b"SReclaimable": 6}


def parse_cpus(data: bytes) -> list[tuple[int, list[int]]]:
    """``(cpu, ticks by mode)`` of each ``cpuN`` line of ``/proc/stat``."""
    out = []
    for line in data[: data.find(b"intr")].splitlines():
        if line.startswith(b"cpu") and line[3:4].isdigit():
            cpu, *ticks = line[3:].split()
            out.append((int(cpu), [int(tick) for tick in ticks[:8]]))
    return out


def parse_meminfo(data: bytes) -> list[int]:
    """Bytes of total, free, available, buffers, cached, shared, reclaimable slab; -1 where the kernel does not tell."""
    out = [-1] * len(_MEMORY)
    for line in data.splitlines():
        key, _, rest = line.partition(b":")
        index = _MEMORY.get(key)
        if index is not None:
            out[index] = int(rest.split()[0]) * 1024
    return out


class HostCollector(PolledCollector):
    """``/proc/stat``, ``/proc/meminfo`` and ``/proc/loadavg``."""

    name = "host"
    interval_s = 2.0
    provides = "CPU time of each CPU by mode, memory and load of the host"

    def __init__(self, root: str = "/") -> None:
        super().__init__(root)
        self._cpu: dict[int, list[int]] = {}
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")

    def probe(self) -> Capability:
        """Needs a mounted /proc."""
        if os.path.exists(os.path.join(self.root, "proc/stat")):
            return Capability(usable=True, provides=self.provides)
        return Capability(usable=False, provides=self.provides, missing="/proc/stat", remedy="mount -t proc proc /proc")

    def _open(self, target: Target) -> None:
        self._stat = self._file("proc/stat")
        self._meminfo = self._file("proc/meminfo")
        self._loadavg = self._file("proc/loadavg")
        self._cpu.clear()
        state = names.MEMORY_STATE
        self._memory = [
            self._series(names.SYSTEM_MEMORY_USAGE, {state: value}) for value in ("used", "free", "buffers", "cached", "shared")
        ]
        self._load = self._series(names.HOST_LOAD)
        self._runnable = self._series(names.HOST_THREADS, {names.THREAD_STATE: "runnable"})
        self._blocked = self._series(names.HOST_THREADS, {names.THREAD_STATE: "blocked"})

    def _read(self, now_ns: int) -> None:
        data = self._stat.read()
        for cpu, ticks in parse_cpus(data):
            series = self._cpu.get(cpu)
            if series is None:
                series = self._cpu[cpu] = [
                    self._series(names.SYSTEM_CPU_TIME, {names.CPU_MODE: mode, names.CPU_LOGICAL_NUMBER: str(cpu)})
                    for mode in _MODES
                    if mode != "softirq"
                ]
            # Both kinds of interrupt are one cpu.mode.
            merged = ticks[:5] + [ticks[5] + ticks[6]] + ticks[7:] if len(ticks) >= 7 else ticks
            for index, value in zip(series, merged, strict=False):
                self._put(index, value * self._tick_s)
        for key, series_id in ((b"procs_running ", self._runnable), (b"procs_blocked ", self._blocked)):
            at = data.find(key)
            if at >= 0:
                self._put(series_id, int(data[at + len(key) :].split(None, 1)[0]))
        self._read_memory()
        load = self._loadavg.read().split()
        if load:
            self._put(self._load, float(load[0]))

    def _read_memory(self) -> None:
        total, free, available, buffers, cached, shared, slab = parse_meminfo(self._meminfo.read())
        if total < 0 or free < 0:
            return
        cached = max(cached, 0) + max(slab, 0)
        used = total - (available if available >= 0 else free + max(buffers, 0) + cached)
        for series, value in zip(self._memory, (used, free, buffers, cached, shared), strict=True):
            if value >= 0:
                self._put(series, value)
