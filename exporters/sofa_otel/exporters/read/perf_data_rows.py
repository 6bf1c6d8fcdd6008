"""From joined marks of ``perf.data`` to event batches, and the one place through which batches leave the importer."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Futex, Kind
from sofa_otel.exporters.collect.syscall_names import ON_DESCRIPTOR, TRANSFERS, table_for
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.perf_data_header import Recording
from sofa_otel.exporters.read.perf_data_pairs import Spans

ROWS: Final = 65_536
_SIZE: Final = 1024
"""Call numbers above this are named together."""

_WAITS: Final = np.full(128, Futex.WAKE, np.uint8)
"""Subkind by futex(2) operation. WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI and LOCK_PI2 wait."""
_WAITS[[0, 6, 9, 11, 13]] = Futex.WAIT


class Output:
    """Cuts rows into batches, with the host and the clock that the recording tells.

    Args:
        recording: May still grow.
        sink: Where batches go.
        source: Source name of the batches.
    """

    def __init__(self, recording: Recording, sink: ImportSink, source: str) -> None:
        self.recording, self.sink, self.source = recording, sink, source
        self.rows = 0
        self._seq = 0

    def put(self, **columns: Any) -> None:
        """Deliver rows; ``start_ns`` is on the recording's clock."""
        offset = self.recording.offset_ns
        columns["start_ns"] = columns["start_ns"] + (offset or 0)
        count = len(columns["start_ns"])
        for begin in range(0, count, ROWS):
            part = {key: column if np.ndim(column) == 0 else column[begin : begin + ROWS] for key, column in columns.items()}
            header = BatchHeader(
                job=self.sink.job,
                rank=self.sink.rank,
                host=self.recording.host or self.sink.host,
                source=self.source,
                clock="own" if offset is None else "unix",
                seq=self._seq,
            )
            self._seq += 1
            self.sink.events(EventBatch.build(header, self.sink.tables, **part))
        self.rows += count


class SyscallRows:
    """Rows of system calls: bytes of those that transfer, the descriptor as peer, futex split into wait and wake."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._arch = ""
        self._symbol = np.zeros(_SIZE + 1, np.uint32)
        self._learn("x86_64")

    def _learn(self, arch: str) -> None:
        self._arch = arch
        self._names = table_for(arch) or {}
        numbers = {name: number for number, name in self._names.items()}
        self._transfers, self._described = _flags(numbers, TRANSFERS), _flags(numbers, ON_DESCRIPTOR)
        self._futex, self._futex_wait, self._futex_wake = (numbers.get(n, -1) for n in ("futex", "futex_wait", "futex_wake"))
        self._symbol[:] = 0

    def put(self, spans: Spans) -> None:
        """Deliver calls."""
        if not len(spans.duration):
            return
        if self._output.recording.arch not in ("", self._arch):
            self._learn(self._output.recording.arch)
        begin = spans.begin
        number = np.clip(begin.number, -1, _SIZE)
        skipped = number < 0  # seccomp or a debugger let it not happen
        if skipped.any():
            keep = ~skipped
            number, begin = number[keep], begin.take(keep)
            spans = Spans(begin, spans.duration[keep], spans.result[keep])
        subkind = np.zeros(len(number), np.uint8)
        for futex, kind in ((self._futex, None), (self._futex_wait, Futex.WAIT), (self._futex_wake, Futex.WAKE)):
            mine = number == futex
            subkind[mine] = _WAITS[begin.b[mine] & 127] if kind is None else kind
        result = spans.result
        self._output.put(
            start_ns=begin.time,
            duration_ns=spans.duration,
            kind=Kind.SYSCALL,
            subkind=subkind,
            name=self._symbols(number),
            pid=begin.pid,
            tid=begin.tid,
            cpu=begin.cpu,
            peer=np.where(self._described[number], begin.a & np.uint64(0xFFFFFFFF), np.uint64(0)).astype(np.uint32),
            bytes=np.where(self._transfers[number] & (result > 0), result, 0),
        )

    def _symbols(self, number: NDArray[np.int32]) -> NDArray[np.uint32]:
        used = np.bincount(number, minlength=_SIZE + 1) > 0
        for one in np.flatnonzero(used & (self._symbol == 0)).tolist():
            name = self._names.get(one, f"syscall_{one}" if one < _SIZE else "syscall")
            self._symbol[one] = self._output.sink.tables.symbols.intern(name, "syscall")
        return self._symbol[number]


class SchedRows:
    """Rows of the scheduler: ``sched_switch`` is the time a thread was off its CPU, ``peer`` who came; ``sched_wakeup`` an
    instant in the waking thread, ``peer`` who is woken."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def put_absences(self, spans: Spans) -> None:
        """Deliver times off the CPU."""
        begin = spans.begin
        if len(begin.time):
            self._put("sched_switch", begin.time, spans.duration, begin.pid, begin.tid, begin.cpu, begin.a)

    def put_wakeups(self, time: Any, pid: Any, tid: Any, cpu: Any, woken: Any) -> None:
        """Deliver wake-ups."""
        self._put("sched_wakeup", time, 0, pid, tid, cpu, woken)

    def _put(self, name: str, time: Any, duration: Any, pid: Any, tid: Any, cpu: Any, peer: Any) -> None:
        symbol = self._output.sink.tables.symbols.intern(name, "sched")
        self._output.put(
            start_ns=time, duration_ns=duration, kind=Kind.SCHED, name=symbol, pid=pid, tid=tid, cpu=cpu,
            peer=np.asarray(peer).astype(np.uint32),
        )  # fmt: skip


def _flags(numbers: dict[str, int], wanted: frozenset[str]) -> NDArray[np.bool_]:
    out = np.zeros(_SIZE + 1, bool)
    out[[numbers[name] for name in wanted if name in numbers]] = True
    return out
