"""The process tree's own counters: where its CPU time, memory, disk bytes and waits for a CPU go, process by process.

Points of a process carry ``process.pid``. The CPU time and faults of children that lived and died between two polls are in the
total of whoever waited for them; they are reported under ``process.pid`` = ``exited``, so that the sum over all series is the
tree's total: nothing is lost and nothing is counted twice. Disk bytes of such children stay with their parent. A batch holds
the processes of one rank; what cannot be told apart goes to the target's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from sofa_otel.core import names
from sofa_otel.exporters.collect.polled import PolledCollector
from sofa_otel.exporters.collect.process_table import THREAD_FILES, Process, ProcessStat, ProcessTree
from sofa_otel.exporters.collect.ranks import Ranks
from sofa_otel.exporters.collector import Capability, Target

EXITED: Final = "exited"
"""Value of ``process.pid`` for children that ended before they were seen."""

_SWITCH_POLLS: Final = 5
"""Context switches of a process are read every so many polls."""

_Totals = tuple[int, int, int, int]
"""User ticks, system ticks, minor faults, major faults."""


def _own(stat: ProcessStat) -> _Totals:
    return stat.utime, stat.stime, stat.minor, stat.major


def _children(stat: ProcessStat) -> _Totals:
    return stat.child_utime, stat.child_stime, stat.child_minor, stat.child_major


def _add(*totals: _Totals) -> _Totals:
    a, b, c, d = (sum(column) for column in zip(*totals, strict=True))
    return a, b, c, d


class _Account:
    """What the tree used beyond what the series of known processes show.

    ``exited = children of the living + lost - shown by the gone``: a gone process whose starter lives is in that one's children
    total already; otherwise its last reading is all there is, and it is *lost* to every other total.
    """

    def __init__(self) -> None:
        self._lost: _Totals = (0, 0, 0, 0)
        self._shown: _Totals = (0, 0, 0, 0)
        self._exited: _Totals = (0, 0, 0, 0)

    def gone(self, stat: ProcessStat, *, counted: bool) -> None:
        """A process has gone; ``counted`` tells that a living member has waited for it."""
        self._shown = _add(self._shown, _own(stat))
        if not counted:
            self._lost = _add(self._lost, _own(stat), _children(stat))

    def exited(self, living: Iterable[ProcessStat]) -> _Totals:
        """Totals of children that were never seen. Never falls, also while a child is gone and not yet waited for."""
        now = _add(self._lost, *(_children(stat) for stat in living))
        a, b, c, d = (max(old, n - s) for old, n, s in zip(self._exited, now, self._shown, strict=True))
        self._exited = (a, b, c, d)
        return self._exited


class _Points:
    """Series of one process and the state its gauges need."""

    __slots__ = ("cpu", "deducted", "delay", "disk", "faults", "last_busy", "rss", "runnable", "switches", "threads")

    def __init__(self, collector: ProcCollector, pid: str) -> None:
        make = collector.series_of

        def pair(metric: names.Metric, key: str, first: str, second: str) -> tuple[int, int]:
            return make(metric, pid, {key: first}), make(metric, pid, {key: second})

        self.cpu = pair(names.PROCESS_CPU_TIME, names.CPU_MODE, "user", "system")
        self.faults = pair(names.PROCESS_PAGING_FAULTS, names.PAGING_FAULT_TYPE, "minor", "major")
        self.deducted = [0, 0]
        self.last_busy = -1
        if pid != EXITED:
            self.rss = make(names.PROCESS_MEMORY_USAGE, pid)
            self.threads = make(names.PROCESS_THREAD_COUNT, pid)
            self.disk = pair(names.PROCESS_DISK_IO, names.DISK_DIRECTION, "read", "write")
            self.switches = pair(names.PROCESS_CONTEXT_SWITCHES, names.CONTEXT_SWITCH_TYPE, "voluntary", "involuntary")
            self.delay = make(names.PROCESS_RUN_DELAY, pid)
            self.runnable = make(names.PROCESS_RUNNABLE, pid)


class ProcCollector(PolledCollector):
    """Counters of every process of the target's tree.

    ``sofa.process.runnable`` is the mean number of threads that ran or waited for a CPU since the last poll, from the kernel's
    exact run and wait times, not a snapshot of states.
    """

    name = "proc"
    interval_s = 1.0
    provides = "CPU time, memory, disk bytes, threads, faults, context switches and run-queue wait of each process of the tree"

    def __init__(self, root: str = "/") -> None:
        super().__init__(root)
        self._tree: ProcessTree | None = None
        self._series_of: dict[int, _Points] = {}
        self._account = _Account()
        self._polls = 0
        self._last_ns = 0
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")

    def probe(self) -> Capability:
        """Needs a mounted /proc that shows other processes."""
        if os.path.exists(os.path.join(self.root, "proc/self/stat")):
            return Capability(usable=True, provides=self.provides)
        return Capability(
            usable=False,
            provides=self.provides,
            missing="/proc is not mounted",
            remedy="mount -t proc proc /proc",
        )

    def series_of(self, metric: names.Metric, pid: str, more: dict[str, str] | None = None) -> int:
        """Id of a process's series."""
        return self._series(metric, {names.PROCESS_PID: pid, **(more or {})})

    def pids(self) -> list[int]:
        """Members of the tree at the last poll."""
        return list(self._tree.members) if self._tree else []

    def _open(self, target: Target) -> None:
        self._tree = ProcessTree(target.root, target.pid) if target.pid else None
        self._ranks = Ranks(target.root, target.rank)
        self._series_of.clear()
        self._account = _Account()
        self._polls = self._last_ns = 0

    def _close(self) -> None:
        if self._tree is not None:
            self._tree.close()
            self._tree = None

    def _read(self, now_ns: int) -> None:
        tree = self._tree
        if tree is None:
            return
        tree.discover()
        gone: dict[int, Process] = {}
        spare = THREAD_FILES
        for process in tree:
            if process.read(spare):
                spare -= process.thread_files
            else:
                gone[process.pid] = process
        self._bury(tree, gone)
        elapsed = now_ns - self._last_ns if self._last_ns else 0
        for index, process in enumerate(tree):
            if index % _SWITCH_POLLS == self._polls % _SWITCH_POLLS or process.pid not in self._series_of:
                process.read_switches()
            self._rank = self._ranks.of(process.pid, now_ns)
            self._report(process, elapsed)
        exited = self._account.exited(process.stat for process in tree if process.stat is not None)
        self._rank = self._target.rank if self._target else 0
        if any(exited):
            points = self._series_of.setdefault(0, _Points(self, EXITED))
            self._put_pair(points.cpu, exited[0] * self._tick_s, exited[1] * self._tick_s)
            self._put_pair(points.faults, exited[2], exited[3])
        self._polls += 1
        self._last_ns = now_ns

    def _bury(self, tree: ProcessTree, gone: dict[int, Process]) -> None:
        for pid, process in gone.items():
            if process.stat is None:
                tree.drop(pid)
                continue
            heir = process.stat.ppid
            while heir in gone:
                stat = gone[heir].stat
                heir = stat.ppid if stat is not None else 0
            parent = tree.members.get(heir)
            counted = parent is not None and not parent.reaps_silently()
            self._account.gone(process.stat, counted=counted)
            if counted and heir in self._series_of:
                deducted = self._series_of[heir].deducted
                deducted[0] += process.read_bytes
                deducted[1] += process.write_bytes
        for pid in gone:
            if pid in tree.members:
                tree.drop(pid)
            self._series_of.pop(pid, None)
            self._ranks.forget(pid)

    def _report(self, process: Process, elapsed_ns: int) -> None:
        stat = process.stat
        if stat is None:
            return
        points = self._series_of.get(process.pid)
        if points is None:
            points = self._series_of[process.pid] = _Points(self, str(process.pid))
        self._put_pair(points.cpu, stat.utime * self._tick_s, stat.stime * self._tick_s)
        self._put_pair(points.faults, stat.minor, stat.major)
        self._put(points.rss, stat.rss * self._page)
        self._put(points.threads, stat.threads)
        self._put_pair(points.disk, process.read_bytes - points.deducted[0], process.write_bytes - points.deducted[1])
        self._put_pair(points.switches, process.voluntary, process.involuntary)
        self._put(points.delay, process.delay_ns * 1e-9)
        busy = process.run_ns + process.delay_ns
        if elapsed_ns > 0 and points.last_busy >= 0:
            self._put(points.runnable, (busy - points.last_busy) / elapsed_ns)
        points.last_busy = busy

    def _put_pair(self, series: tuple[int, int], first: float, second: float) -> None:
        self._put(series[0], first)
        self._put(series[1], second)
