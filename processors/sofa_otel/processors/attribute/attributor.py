"""The attribution stage: rows wait here until the iterations they belong to are known, then become records.

Everything is decided by event time: windows by the iterations, swarms by the grouper's grid. Memory is bounded by the row buffer;
rows that must be given up before any iteration claims them are reported as time outside iterations, so no time is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind, Wait
from sofa_otel.core.records import Iteration, PhaseBreakdown, StackProfile, SwarmInfo, SwarmWindow
from sofa_otel.core.series import ResourceBatch
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.attribute.beside import event_totals, outside, overlapped, sample_totals
from sofa_otel.processors.attribute.breakdown import Facts, Split, split_window
from sofa_otel.processors.attribute.phases import PHASES
from sofa_otel.processors.attribute.profile import Profile
from sofa_otel.processors.attribute.resources import RESOURCES, CpuCounters
from sofa_otel.processors.attribute.rows import MAX_ROWS, Columns, RowBuffer, is_sample, take
from sofa_otel.processors.attribute.totals import Totals
from sofa_otel.processors.attribute.windows import Window, WindowMaker
from sofa_otel.processors.group.grouper import Grouper

OUTSIDE: Final = -1
_AHEAD_NS: Final = 1_000_000_000
_WAITS: Final = tuple(wait.name.lower() for wait in Wait)
_LONG_AGO: Final = -(1 << 62)

Records = list[SwarmWindow | PhaseBreakdown | SwarmInfo]


class Attributor:
    """Attribution for one rank.

    Args:
        job, rank: Go into the records.
        tables: Tables of the batches.
        grouper: Swarms; it is fed by this object.
        bound: Rows kept at most.
    """

    def __init__(self, job: str, rank: int, tables: Tables, grouper: Grouper, bound: int = MAX_ROWS) -> None:
        self._job = job
        self._rank = rank
        self._grouper = grouper
        self._rows = RowBuffer(bound)
        self._windows = WindowMaker()
        self._cpu = CpuCounters()
        self._profile = Profile()
        self._leader: tuple[int, int] | None = None
        self._done_ns = _LONG_AGO
        self._pending: Records = []
        self._told: dict[str, tuple[object, ...]] = {}
        self._generation = -1
        self._started = False
        self._reported = False
        self._seen: dict[int, tuple[int, int]] = {}

    def feed(self, batch: EventBatch, until_ns: int) -> None:
        """Take events in (a canonical slice of event time; everything before ``until_ns`` has been seen)."""
        self._rows.append(batch, self._grouper.feed(batch))
        if self._rows.compact():
            columns = self._rows.columns()
            self._reported = True
            self._pending += self._outside(columns, int(columns["at"][len(columns["at"]) // 2]))
            self._rows.drop_before(self._done_ns)

    def feed_resources(self, batch: ResourceBatch) -> None:
        """Take resource points in; process CPU time splits ``cpu_user`` from ``cpu_system``."""
        self._cpu.feed(batch)

    def close(self, iterations: Sequence[Iteration], leader: tuple[int, int] | None, until_ns: int) -> Records:
        """Account for iterations that have ended.

        Args:
            iterations: Of one level, ascending, each before ``until_ns``; an overlapping or early one is left out.
            leader: ``(pid, tid)`` of the thread that runs the loop.
            until_ns: Everything before it has been seen.

        Returns:
            Records of the windows that are complete; the last iterations may wait for the next call.
        """
        if leader is not None and leader != self._leader:
            self._leader = leader
            self._grouper.set_leader(*leader)
        windows = [window for iteration in iterations for window in self._windows.add(iteration)]
        return self._take_pending() + self._account(windows) + self._changed_infos()

    def finish(self, end_ns: int) -> list[SwarmWindow | PhaseBreakdown | SwarmInfo | StackProfile]:
        """Account for the rest of the run; call once."""
        out: list[SwarmWindow | PhaseBreakdown | SwarmInfo | StackProfile] = []
        out += self._take_pending() + self._account(self._windows.flush())
        out += self._outside(self._rows.columns(), end_ns + _AHEAD_NS)
        self._grouper.recut()
        out += self._grouper.infos()
        ids = self._grouper.swarm_ids
        out += self._profile.records(self._job, self._rank, self._grouper.tree, self._grouper.node_swarms(), ids)
        return out

    # -- windows ---------------------------------------------------------------------------------------------------------------
    def _account(self, windows: list[Window]) -> Records:
        out: Records = []
        if not windows:
            return out
        columns = self._rows.columns()
        if not self._started:
            self._started = True
            self._grouper.restart(take(columns, columns["at"] >= windows[0].start_ns), keep_ids=self._reported)
            self._reported = True
        at, hi = columns["at"], columns["hi"]
        first = 0
        for window in windows:
            if window.start_ns < self._done_ns or window.end_ns <= window.start_ns:
                continue
            out += self._outside(columns, window.start_ns)
            last = int(np.searchsorted(at, window.end_ns + _AHEAD_NS))
            out += self._window(window, take(columns, slice(first, last)))
            self._done_ns = window.end_ns
            counted = int(np.searchsorted(at, window.end_ns))
            reaching = np.flatnonzero(hi[first:counted] > window.end_ns)
            first = first + int(reaching[0]) if len(reaching) else counted
        self._rows.drop_before(self._done_ns)
        return out

    def _facts(self) -> Facts:
        return Facts(self._grouper.node_swarms(), self._grouper.tree, self._cpu, self._seen)

    def _leads(self, rows: Columns) -> NDArray[np.bool_]:
        """Rows of the leading thread; before one is known, of the main thread with the most samples."""
        pid, tid = self._leader or _guess_leader(rows)
        return np.asarray((rows["pid"] == pid) & (rows["tid"] == tid) & ~_is_device(rows["kind"]))

    def _window(self, window: Window, rows: Columns) -> Iterator[SwarmWindow | PhaseBreakdown]:
        facts = self._facts()
        leads = self._leads(rows)
        lead, others = take(rows, leads), take(rows, ~leads)
        split = split_window(window, lead, take(others, _is_device(others["kind"])), facts)
        swarm = facts.swarm[split.node].astype(np.int64)
        totals, beside = Totals(), Totals()
        totals.add(swarm, split.phase, split.time_ns)
        counted = take(lead, _inside(lead, window))
        sample_totals(totals, counted, facts, split)
        event_totals(totals, counted, facts, None)
        busy = overlapped(beside, others, window, facts, self._profile)
        sampled = np.unique(rows["pid"][is_sample(rows["kind"])])
        event_totals(beside, take(others, _inside(others, window)), facts, sampled)
        self._profile.add(split.node, split.time_ns)
        counted = take(counted, is_sample(counted["kind"]))
        self._profile.count(counted["node"], counted["count"])
        self._grouper.note_phases(swarm, split.phase, split.time_ns)
        yield from totals.records(self._job, self._rank, window.first, window.folded, self._grouper.swarm_ids, concurrent=False)
        yield from beside.records(self._job, self._rank, window.first, window.folded, self._grouper.swarm_ids, concurrent=True)
        yield self._breakdown(window, split, busy)

    def _breakdown(self, window: Window, split: Split, busy: dict[int, int]) -> PhaseBreakdown:
        phase = np.zeros(len(PHASES), np.int64)
        np.add.at(phase, split.phase, split.time_ns)
        exposed = np.zeros(len(RESOURCES), np.int64)
        np.add.at(exposed, split.resource, split.time_ns)
        waits = np.zeros(len(_WAITS), np.int64)
        np.add.at(waits, np.minimum(split.wait, len(_WAITS) - 1), split.time_ns)
        return PhaseBreakdown(
            job=self._job,
            rank=self._rank,
            iteration=window.first,
            iterations=window.folded,
            start_ns=window.start_ns,
            end_ns=window.end_ns,
            phase_ns={one: int(ns) for one, ns in zip(PHASES, phase, strict=True) if ns},
            exposed_ns={one: int(ns) for one, ns in zip(RESOURCES, exposed, strict=True) if ns},
            waits_ns={one: int(ns) for one, ns in zip(_WAITS, waits, strict=True) if ns},
            overlapped_ns={RESOURCES[code]: ns for code, ns in sorted(busy.items()) if ns},
        )

    def _outside(self, columns: Columns, until_ns: int) -> Records:
        """Time from the last accounted instant to ``until_ns`` that no iteration covers."""
        since = self._done_ns
        rows = take(columns, (columns["at"] >= since) & (columns["at"] < until_ns))
        self._done_ns = max(since, until_ns)
        if not len(rows["at"]):
            return []
        facts = self._facts()
        leads = self._leads(rows)
        totals, beside = Totals(), Totals()
        outside(totals, beside, rows, leads, since, facts, self._profile)
        out: Records = []
        out += totals.records(self._job, self._rank, OUTSIDE, 1, self._grouper.swarm_ids, concurrent=False)
        out += beside.records(self._job, self._rank, OUTSIDE, 1, self._grouper.swarm_ids, concurrent=True)
        return out

    def _take_pending(self) -> Records:
        out, self._pending = self._pending, []
        return out

    def _changed_infos(self) -> list[SwarmInfo]:
        if self._generation == self._grouper.generation or not self._reported:
            return []
        self._generation = self._grouper.generation
        out = []
        for info in self._grouper.infos():
            said = (info.caption, info.kind, info.phase)
            if self._told.get(info.swarm) != said:
                self._told[info.swarm] = said
                out.append(info)
        return out


def _inside(rows: Columns, window: Window) -> slice:
    """Rows that are counted in a window: they are sorted by the instant they are counted at."""
    first, last = np.searchsorted(rows["at"], [window.start_ns, window.end_ns])
    return slice(int(first), int(last))


def _is_device(kind: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((kind == Kind.GPU_KERNEL) | (kind == Kind.GPU_COPY))


def _guess_leader(rows: Columns) -> tuple[int, int]:
    main = np.flatnonzero((rows["pid"] == rows["tid"]) & ~_is_device(rows["kind"]))
    if not len(main):
        return (0, 0)
    who, inverse = np.unique(rows["pid"][main], return_inverse=True)
    covered = np.bincount(inverse, (rows["hi"] - rows["lo"])[main] + 1)
    best = int(who[int(covered.argmax())])
    return (best, best)
