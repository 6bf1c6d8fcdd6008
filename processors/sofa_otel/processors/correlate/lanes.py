"""Lanes: the resource series that are tested, summed over whatever keeps apart parts of the same thing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core import names
from sofa_otel.processors.summary.counters import StoredSeries

_MERGED: Final = frozenset({names.PROCESS_PID, names.CPU_LOGICAL_NUMBER, names.THREAD_ID, names.CONTEXT_SWITCH_TYPE})
"""Attributes over which a metric is summed: processes come and go, threads move between CPUs."""

_LEFT_OUT: Final = frozenset(
    one.name
    for one in (
        names.COLLECTOR_CPU_TIME, names.COLLECTOR_DROPPED, names.COLLECTOR_LATENCY, names.COLLECTOR_RATE, names.PROCESSOR_EVENTS,
        names.PROCESSOR_LATE, names.PROCESSOR_CPU_TIME, names.CGROUP_CPU_LIMIT, names.CGROUP_MEMORY_LIMIT, names.GPU_MEMORY_LIMIT,
        names.HOST_LOAD, names.HOST_THREADS,
    )
)  # fmt: skip
"""Our own cost, limits, and averages that remember a minute (their past would answer for the present)."""

_IDLE: Final = "idle"
MAX_LANES: Final = 96


@dataclass(frozen=True)
class Lane:
    """One resource to be explained.

    Attributes:
        metric: Name of the metric.
        counter: Whether ``level`` is a running total; else it is a value that holds since the point before.
        time_ns: Ascending instants.
        level: One value an instant.
    """

    metric: str
    counter: bool
    time_ns: NDArray[np.int64]
    level: NDArray[np.float64]

    @property
    def spacing_ns(self) -> float:
        """Typical distance of two points."""
        return float(np.median(np.diff(self.time_ns)))

    def total(self, time_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """The running total at any instant: a counter's, or the integral of a value (unit · s)."""
        at = (self.time_ns - self.time_ns[0]) / 1e9
        run = self.level if self.counter else np.concatenate([[0.0], np.cumsum(self.level[1:] * np.diff(at))])
        return np.asarray(np.interp((time_ns - self.time_ns[0]) / 1e9, at, run), np.float64)


def lanes_of(resources: Iterable[StoredSeries]) -> list[Lane]:
    """Lanes of a rank's series. Constant ones and ones of less than 30 points are left out, the metrics' order is kept."""
    groups: dict[tuple[object, ...], list[StoredSeries]] = defaultdict(list)
    for one in resources:
        series = one.series
        idle = series.attribute(names.CPU_MODE) == _IDLE  # says what the other modes say
        if series.metric not in _LEFT_OUT and len(one.time_ns) > 2 and not idle:
            kept = tuple(pair for pair in series.attributes if pair[0] not in _MERGED)
            groups[series.metric, series.kind, kept].append(one)
    lanes = []
    for (metric, kind, _), members in sorted(groups.items(), key=lambda item: repr(item[0])):
        lane = _sum(str(metric), kind == "counter", members)
        if len(lane.time_ns) >= 30 and np.ptp(lane.level) > 0 and bool(np.isfinite(lane.level).all()):
            lanes.append(lane)
    return lanes[:MAX_LANES]


def _sum(metric: str, counter: bool, members: list[StoredSeries]) -> Lane:
    """The members on the points of the longest one."""
    parts = []
    for one in members:
        time_ns, first = np.unique(one.time_ns, return_index=True)
        value = one.value[first]
        if counter:
            step = np.diff(value)
            value = np.concatenate([[0.0], np.cumsum(np.where(step >= 0, step, value[1:]))])  # a reset counts from zero
        parts.append((time_ns, value))
    grid = max((time_ns for time_ns, _ in parts), key=len)
    total = np.zeros(len(grid))
    for time_ns, value in parts:
        at, to = (time_ns - grid[0]) / 1e9, (grid - grid[0]) / 1e9
        total += np.interp(to, at, value) if counter else np.interp(to, at, value, left=0.0, right=0.0)
    return Lane(metric, counter, grid, total)
