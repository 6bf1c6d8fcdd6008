"""What a thread waits for, from what it was doing at an instant: one table look-up a sample, rules in one place.

The loop's own input work is *loader* even when it is computing: the iteration waits for its input either way. A wait that has a
better name keeps it (a disk read in the loader is *disk*, a socket in a collective is *communication*).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.kinds import Wait
from sofa_otel.core.names import PROCESS_CPU_TIME, Resource
from sofa_otel.core.series import ResourceBatch
from sofa_otel.processors.attribute.phases import BACKWARD, LOADING, PHASES

RESOURCES: Final = tuple(Resource)
"""Resource codes are positions in this tuple."""
RESOURCE_CODE: Final = {resource: code for code, resource in enumerate(RESOURCES)}
CPU_USER: Final = RESOURCE_CODE[Resource.CPU_USER]
CPU_SYSTEM: Final = RESOURCE_CODE[Resource.CPU_SYSTEM]
GPU_COMPUTE: Final = RESOURCE_CODE[Resource.GPU_COMPUTE]
COMMUNICATION: Final = RESOURCE_CODE[Resource.COMMUNICATION]
COPY: Final = RESOURCE_CODE[Resource.COPY]
LOADER: Final = RESOURCE_CODE[Resource.LOADER]
DISK: Final = RESOURCE_CODE[Resource.DISK]
NETWORK: Final = RESOURCE_CODE[Resource.NETWORK]
SYNC: Final = RESOURCE_CODE[Resource.SYNC]
IDLE: Final = RESOURCE_CODE[Resource.IDLE]

_WAITS: Final = 16


def _rule(phase: int, wait: int, distributed: bool) -> int:
    if wait == Wait.DISK:
        return DISK
    if distributed and phase == BACKWARD and wait in {Wait.LOCK, Wait.NETWORK, Wait.IPC, Wait.OTHER}:
        return COMMUNICATION  # gradients are averaged inside backward, out of sight of Python
    if wait == Wait.NETWORK:
        return NETWORK
    if phase == LOADING:
        return LOADER
    if wait in {Wait.UNKNOWN, Wait.ON_CPU}:
        return CPU_USER
    if wait in {Wait.LOCK, Wait.GIL, Wait.IPC, Wait.CHILD}:
        return SYNC
    return IDLE


_TABLE: Final = np.array(
    [[[_rule(phase, wait, d) for wait in range(_WAITS)] for phase in range(len(PHASES))] for d in (False, True)], np.int64
)


def exposed_resource(
    phase: NDArray[np.int64], wait: NDArray[np.uint8], communication: NDArray[np.bool_], *, distributed: bool
) -> NDArray[np.int64]:
    """Resource code of samples of the leading thread.

    Args:
        phase: Phase code by sample.
        wait: :class:`~sofa_otel.core.kinds.Wait` by sample.
        communication: Whether the sample is inside a collective.
        distributed: Whether this rank averages gradients with others.
    """
    found = _TABLE[int(distributed)][phase, np.minimum(wait, _WAITS - 1)]
    return np.where(communication, COMMUNICATION, found)


def syscall_resource(name: str, phase: int) -> int:
    """Resource code of a system call family of the leading thread (where there are no samples)."""
    if name.startswith("futex"):
        return SYNC
    if name in {"sync to disk", "file"}:
        return DISK
    if phase == LOADING:
        return LOADER
    return {"read": DISK, "write": DISK, "poll": SYNC, "socket": NETWORK, "sleep": IDLE, "process": SYNC}.get(name, CPU_SYSTEM)


class CpuCounters:
    """User and system CPU time of the target, from ``process.cpu.time`` points; keeps the last ten minutes or so.

    Only points up to the end of the asked window are used, so an answer does not depend on what came later.
    """

    _KEEP = 600

    def __init__(self) -> None:
        self._points: dict[tuple[str, str], list[tuple[int, float]]] = {}

    def feed(self, batch: ResourceBatch) -> None:
        """Take resource points in; everything but process CPU time is left alone."""
        for series_id in np.unique(batch.series).tolist():
            series = batch.table[series_id]
            mode = series.attribute("cpu.mode")
            if series.metric != PROCESS_CPU_TIME.name or mode not in {"user", "system"}:
                continue
            rows = np.flatnonzero(batch.series == series_id)
            who = ",".join(f"{key}={value}" for key, value in series.attributes if key != "cpu.mode")
            points = self._points.setdefault((who, mode), [])
            points += zip(batch.time_ns[rows].tolist(), batch.value[rows].tolist(), strict=True)
            points.sort()
            del points[: -self._KEEP]

    def between(self, start_ns: int, end_ns: int) -> tuple[float, float] | None:
        """``(user, system)`` CPU seconds around a window, None when no two points bracket it or come close."""
        total = {"user": 0.0, "system": 0.0}
        seen = False
        for (_, mode), points in self._points.items():
            times = [time for time, _ in points]
            last = int(np.searchsorted(times, end_ns, "right")) - 1
            first = min(int(np.searchsorted(times, start_ns, "right")) - 1, last - 1)
            if last < 1:
                continue
            seen = True
            total[mode] += max(points[last][1] - points[max(first, 0)][1], 0.0)
        return (total["user"], total["system"]) if seen and sum(total.values()) > 0 else None

    def system_share(self, start_ns: int, end_ns: int) -> float:
        """Share of CPU time spent in the kernel, 0 when not known."""
        found = self.between(start_ns, end_ns)
        return 0.0 if found is None else found[1] / (found[0] + found[1])
