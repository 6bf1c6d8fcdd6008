"""SampleRows: samples of the CPU out of text, and which of several sampled events is told."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.kinds import Kind, Wait
from sofa_otel.exporters.read.perf_data_rows import Output
from sofa_otel.exporters.read.perf_script_head import Threads

_MODIFIERS: Final = re.compile(r"[ukhpPGHSDIWebR]*")
_EVENT: Final = re.compile(rb"\s(?:\d+ +)?([^\s:]+(?::[^\s]*)?):(?:\s|$)")
_RANKS: Final = ("cpu-clock", "task-clock", "cycles", "cpu-cycles", "ref-cycles", "instructions")
_CLOCKS: Final = frozenset({"cpu-clock", "task-clock"})
_LONGEST_NS: Final = 1_000_000_000
_LONGEST_PERIOD: Final = 1 << 40


def is_tracepoint(event: str) -> bool:
    """Whether an event is ``system:name`` rather than an event with modifiers."""
    head, colon, rest = event.partition(":")
    return bool(colon) and "/" not in event and head != "mem" and _MODIFIERS.fullmatch(rest) is None


def base_of(event: str) -> str:
    """``cycles`` of ``cpu_core/cycles/ppp``, ``cpu-clock`` of ``cpu-clock:u``."""
    parts = event.split("/")
    if len(parts) > 1 and parts[1]:
        return parts[1].split(",")[0]
    return event.partition(":")[0]


def main_event(head: bytes) -> str:
    """The sampled event to tell, of those at the beginning of a text: several count one time more than once. Empty for any."""
    found = {base_of(match[1].decode("utf-8", "replace")): None for match in _EVENT.finditer(head[:65_536])}
    return next((name for name in _RANKS if name in found), "")


class SampleRows:
    """Takes samples one by one, delivers them in bulk.

    Args:
        output: Where they go.
        threads: Whose thread is whose.
    """

    def __init__(self, output: Output, threads: Threads) -> None:
        self._output, self._threads = output, threads
        self._rows: list[tuple[int, int, int, int, int, int, int]] = []
        self._last: dict[int, int] = {}
        self._usual = 0

    @property
    def size(self) -> int:
        """Samples that wait."""
        return len(self._rows)

    def add(self, time: int, pid: int, tid: int, cpu: int, path: int, name: int, period: int) -> None:
        """Take a sample; ``period`` is its time in ns, 0 when it is not told in time."""
        self._rows.append((time, pid, tid, cpu, path, name, min(period, _LONGEST_PERIOD)))

    def flush(self) -> None:
        """Deliver."""
        if not self._rows:
            return
        time, pid, tid, cpu, path, name, period = (np.array(column) for column in zip(*self._rows, strict=True))
        self._rows = []
        unknown = np.flatnonzero(pid == 0)
        pid[unknown] = [self._threads.pid(one) for one in tid[unknown].tolist()]
        duration = np.where(period > 0, period, self._gaps(time, tid)) if (period == 0).any() else period
        self._output.put(
            start_ns=time,
            duration_ns=duration,
            kind=Kind.CPU_SAMPLE,
            subkind=Wait.ON_CPU,
            name=name,
            path=path,
            pid=pid,
            tid=tid,
            cpu=cpu,
        )

    def _gaps(self, time: NDArray[np.int64], tid: NDArray[np.int64]) -> NDArray[np.int64]:
        """Median time between a thread's samples, for each sample; that of all where a thread has only one."""
        out = np.zeros(len(time), np.int64)
        medians: dict[int, int] = {}
        every: list[NDArray[np.int64]] = []
        for one in np.unique(tid).tolist():
            own = time[tid == one]
            gaps = np.diff(own, prepend=self._last.get(one, int(own[0])))
            gaps = gaps[gaps > 0]
            self._last[one] = int(own[-1])
            if len(gaps):
                every.append(gaps)
                medians[one] = _median(gaps)
        if every:
            self._usual = _median(np.concatenate(every))
        for one in np.unique(tid).tolist():
            out[tid == one] = min(medians.get(one, self._usual), _LONGEST_NS)
        return out


def _median(values: NDArray[np.int64]) -> int:
    return int(np.partition(values, len(values) // 2)[len(values) // 2])
