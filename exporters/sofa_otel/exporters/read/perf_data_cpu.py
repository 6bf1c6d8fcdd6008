"""Samples of a CPU clock: call paths by the mappings that held at the time of each sample.

Samples wait until all CPUs have told what happened before them. Mappings that contradict nothing (almost all) are taken at
once; only where an address gets another meaning are the process's earlier samples resolved first.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.kinds import Kind, Wait
from sofa_otel.core.symbols import NO_PATH
from sofa_otel.exporters.read.perf_data_attr import PERIOD, Attr
from sofa_otel.exporters.read.perf_data_maps import Mapping, Spaces
from sofa_otel.exporters.read.perf_data_rows import Output

_MARKER: Final = np.uint64((1 << 64) - 4096)
"""Entries of a call chain from here on say whose addresses follow."""

_MOST_CHAINS: Final = 262_144
_NOMINAL_NS: Final = 10_000_000


class Change(NamedTuple):
    """What happened to a process's addresses: ``new`` was mapped, or it was forked from ``parent``, or (neither) has a new
    program."""

    time: int
    pid: int
    new: Mapping | None = None
    parent: int = -1


class Samples(NamedTuple):
    """Rows of samples with their chains (innermost first) one after the other; ``gap`` where the duration is only a bound."""

    time: NDArray[np.int64]
    pid: NDArray[np.uint32]
    tid: NDArray[np.uint32]
    cpu: NDArray[np.int16]
    duration: NDArray[np.int64]
    gap: NDArray[np.bool_]
    length: NDArray[np.int64]
    chain: NDArray[np.uint64]

    def take(self, index: NDArray[Any]) -> Samples:
        """Rows by index."""
        length = self.length[index]
        begins = (np.cumsum(self.length) - self.length)[index]
        chain = self.chain[np.repeat(begins - (np.cumsum(length) - length), length) + np.arange(length.sum())]
        return _samples([*(column[index] for column in self[:6]), length, chain])


def _samples(columns: Iterable[Any]) -> Samples:
    return Samples(*columns)


def chains(words: NDArray[np.uint64], ip: NDArray[np.uint64], at: Any, length: Any) -> tuple[Any, Any]:
    """``(length, chain)`` of samples, without markers; the sampled address where there is nothing else.

    Args:
        words: The block.
        ip: Sampled address of each.
        at, length: Where each chain stands.
    """
    flat = words[np.repeat(at - (np.cumsum(length) - length), length) + np.arange(length.sum())]
    good = flat < _MARKER
    owner = np.repeat(np.arange(len(ip)), length)[good]
    count = np.bincount(owner, minlength=len(ip))
    alone = np.flatnonzero(count == 0)
    if not len(alone):
        return count, flat[good]
    owner = np.concatenate([owner, alone])
    order = np.argsort(owner, kind="stable")
    count[alone] = 1
    return count, np.concatenate([flat[good], ip[alone]])[order]


def durations(attr: Attr, words: NDArray[np.uint64], at: NDArray[np.int64]) -> tuple[NDArray[np.int64], bool]:
    """``(nanoseconds that each sample stands for, whether that is only a bound)``."""
    if attr.is_clock and attr.word(PERIOD):
        return np.minimum(words[at + attr.word(PERIOD)], np.uint64(1 << 40)).astype(np.int64), False
    if attr.freq:
        return np.full(len(at), 10**9 // max(attr.every, 1), np.int64), False
    if attr.is_clock:
        return np.full(len(at), min(attr.every, 1 << 40), np.int64), False
    return np.full(len(at), _NOMINAL_NS, np.int64), True


class CpuRows:
    """Rows of CPU samples.

    Args:
        output: Where they go.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._spaces = Spaces(output.sink.tables.symbols)
        self._waiting: list[Samples] = []
        self._changes: list[Change] = []
        self._paths: dict[bytes, tuple[int, int]] = {}
        self.size = 0

    def add(self, found: Samples) -> None:
        """Take samples."""
        self._waiting.append(found)
        self.size += len(found.time)

    def change(self, what: Change) -> None:
        """Take a change of mappings."""
        self._changes.append(what)

    def mapping(self, pid: int, start: int, length: int, offset: int, path: str) -> Mapping | None:
        """See :meth:`Spaces.mapping`."""
        return self._spaces.mapping(pid, start, length, offset, path)

    def flush(self, cut: int) -> None:
        """Deliver what was sampled before ``cut``."""
        changes = sorted((c for c in self._changes if c.time < cut), key=lambda c: c.time)
        self._changes = [c for c in self._changes if c.time >= cut]
        found = _samples(map(np.concatenate, zip(*self._waiting, strict=True))) if self._waiting else None
        self._waiting, self.size = [], 0
        by_pid: dict[int, NDArray[np.int64]] = {}
        if found is not None:
            late = found.time >= cut
            if late.any():
                self._waiting = [found.take(np.flatnonzero(late))]
                self.size = len(self._waiting[0].time)
                found = found.take(np.flatnonzero(~late))
            found = found.take(np.argsort(found.time, kind="stable"))
            order = np.argsort(found.pid, kind="stable")
            pids, begins = np.unique(found.pid[order], return_index=True)
            borders = [*begins.tolist(), len(order)]
            by_pid = {pid: order[begin:end] for pid, (begin, end) in zip(pids.tolist(), pairwise(borders), strict=True)}
        symbol = np.zeros(0 if found is None else len(found.chain), np.uint32)
        offsets = np.zeros(1, np.int64) if found is None else np.concatenate([[0], np.cumsum(found.length)])
        for change in changes:
            rows = by_pid.get(change.pid)
            if found is not None and rows is not None and len(rows) and self._contradicts(change):
                split = int(np.searchsorted(found.time[rows], change.time))
                self._resolve(found, offsets, symbol, change.pid, rows[:split])
                by_pid[change.pid] = rows[split:]
            self._apply(change)
        if found is None:
            return
        for pid, rows in by_pid.items():
            self._resolve(found, offsets, symbol, pid, rows)
        self._deliver(found, offsets, symbol)

    def _contradicts(self, change: Change) -> bool:
        if change.new is not None:
            return self._spaces.contradicts(change.pid, change.new)
        return self._spaces.knows(change.pid)

    def _apply(self, change: Change) -> None:
        if change.new is not None:
            self._spaces.add(change.pid, change.new)
        elif change.parent >= 0:
            self._spaces.fork(change.pid, change.parent)
        else:
            self._spaces.clear(change.pid)

    def _resolve(self, found: Samples, offsets: NDArray[np.int64], symbol: Any, pid: int, rows: NDArray[np.int64]) -> None:
        if not len(rows):
            return
        length = found.length[rows]
        flat = np.repeat(offsets[rows] - (np.cumsum(length) - length), length) + np.arange(length.sum())
        symbol[flat] = self._spaces.symbols_of(pid, found.chain[flat])

    def _deliver(self, found: Samples, offsets: NDArray[np.int64], symbol: NDArray[np.uint32]) -> None:
        paths = self._output.sink.tables.paths
        data, known = symbol.tobytes(), self._paths
        ends = (offsets * 4).tolist()
        rows: list[tuple[int, int]] = []
        for begin, end in pairwise(ends):
            key = data[begin:end]
            row = known.get(key)
            if row is None:
                frames = symbol[begin // 4 : end // 4].tolist()
                if len(known) >= _MOST_CHAINS:
                    known.clear()
                row = known[key] = (paths.intern_frames(reversed(frames)) if frames else NO_PATH, frames[0] if frames else 0)
            rows.append(row)
        table = np.array(rows, np.uint32).reshape(-1, 2)
        self._output.put(
            start_ns=found.time,
            duration_ns=_durations(found),
            kind=Kind.CPU_SAMPLE,
            subkind=Wait.ON_CPU,
            name=table[:, 1],
            path=table[:, 0],
            pid=found.pid,
            tid=found.tid,
            cpu=found.cpu,
        )


def _durations(found: Samples) -> NDArray[np.int64]:
    """Where the period is in cycles a sample stands for the time since the thread's last one, at most for its bound."""
    if not found.gap.any():
        return found.duration
    order = np.lexsort((found.time, found.tid))
    since = np.full(len(order), 1 << 62, np.int64)
    time, tid = found.time[order], found.tid[order]
    since[1:][tid[1:] == tid[:-1]] = (time[1:] - time[:-1])[tid[1:] == tid[:-1]]
    gap = np.empty(len(order), np.int64)
    gap[order] = since
    return np.where(found.gap, np.minimum(found.duration, gap), found.duration)
