"""Resource lanes: a run's counters and gauges thinned to what a screen can show."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core import names
from sofa_otel.core.report import ResourceLane
from sofa_otel.core.series import Series
from sofa_otel.processors.summary.counters import Counters

POINTS: Final = 300

_KEEP: Final[dict[str, tuple[str, ...]]] = {
    names.PROCESS_CPU_TIME.name: (names.CPU_MODE,),
    names.PROCESS_MEMORY_USAGE.name: (),
    names.PROCESS_DISK_IO.name: (names.DISK_DIRECTION,),
    names.PROCESS_RUNNABLE.name: (),
    names.PROCESS_RUN_DELAY.name: (),
    names.SYSTEM_CPU_TIME.name: (names.CPU_MODE,),
    names.SYSTEM_DISK_IO.name: (names.SYSTEM_DEVICE, names.DISK_DIRECTION),
    names.SYSTEM_DISK_IO_TIME.name: (names.SYSTEM_DEVICE,),
    names.SYSTEM_NETWORK_IO.name: (names.NETWORK_INTERFACE, names.NETWORK_DIRECTION),
    names.TCP_RETRANSMITS.name: (),
    names.CGROUP_CPU_THROTTLED.name: (),
    names.CGROUP_MEMORY_USAGE.name: (),
    names.PRESSURE_TIME.name: (names.PRESSURE_RESOURCE, names.PRESSURE_KIND),
    names.GPU_UTILIZATION.name: (names.HW_ID, names.GPU_TASK),
    names.GPU_MEMORY_USAGE.name: (names.HW_ID,),
    names.HW_POWER.name: (names.HW_ID,),
    names.HW_TEMPERATURE.name: (names.HW_ID,),
    names.GPU_IO.name: (names.HW_ID, names.NETWORK_DIRECTION),
}
"""Metrics that are drawn, and the attributes that keep lanes apart; over all others (process, CPU number) they are summed."""


def _grid(
    series: Series, time_ns: NDArray[np.int64], value: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values on the grid: a counter's rate between edges, a gauge's value at their middle; 0 outside the series' life."""
    seconds = (edges - edges[0]) / 1e9
    at = (time_ns - edges[0]) / 1e9
    if series.kind == "counter":
        level = np.interp(seconds, at, value)
        rate: NDArray[np.float64] = np.maximum(np.diff(level), 0.0) / np.maximum(np.diff(seconds), 1e-9)
        return rate
    middle = (seconds[1:] + seconds[:-1]) / 2
    return np.asarray(np.interp(middle, at, value, left=0.0, right=0.0), np.float64)


def lanes_of(counters: Counters, rank: int, start_ns: int, end_ns: int) -> list[ResourceLane]:
    """Lanes of one rank over ``[start_ns, end_ns]``, at most 300 points each; lanes that are zero throughout are left out."""
    if end_ns <= start_ns:
        return []
    out = []
    for metric, keep in _KEEP.items():
        groups: dict[tuple[tuple[str, str], ...], list[tuple[Series, NDArray[np.int64], NDArray[np.float64]]]] = defaultdict(list)
        for series, time_ns, value in counters.series(metric):
            if len(time_ns) > 1:
                groups[tuple((key, series.attribute(key)) for key in keep)].append((series, time_ns, value))
        for attributes, rows in sorted(groups.items()):
            most = max(len(time_ns) for _, time_ns, _ in rows)
            edges = np.linspace(start_ns, end_ns, min(POINTS, max(most, 2)) + 1)
            total = np.sum([_grid(*row, edges) for row in rows], axis=0)
            if not np.any(total):
                continue
            middle = ((edges[1:] + edges[:-1]) / 2).astype(np.int64)
            counter = rows[0][0].kind == "counter"
            out.append(
                ResourceLane(
                    metric=metric, unit=rows[0][0].unit + ("/s" if counter else ""), rank=rank,
                    attributes={key: text for key, text in attributes if text},
                    time_ns=middle.tolist(), value=[float(f"{x:.5g}") for x in total],
                )
            )  # fmt: skip
    return out
