"""TrainStore: beat trains of exact sources, a train a loop or hook of one thread.

A loop's backward jump and a hook's return are *beats*. Everything that is asked of them later (period, nesting, how often the
optimiser ran inside a cycle) is a question about sorted arrays of instants, so that is all that is kept.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Call, Kind
from sofa_otel.processors.iterate.keys import KeyTable

Times = NDArray[np.int64]
LOOP: Final = 0
HOOK: Final = 1


class TrainId(NamedTuple):
    """A loop or hook of one thread; ``key`` is a local number."""

    pid: int
    tid: int
    key: int


class Train:
    """Beats of one loop or hook.

    Attributes:
        family: ``LOOP`` or ``HOOK``.
        times: End of each cycle, ns, ascending; the oldest are forgotten beyond a bound.
        total: Beats ever seen.
        first_ns: The first beat ever seen.
    """

    __slots__ = ("_buffer", "_size", "family", "first_ns", "total")

    def __init__(self, family: int) -> None:
        self.family = family
        self.total = 0
        self.first_ns = 0
        self._buffer: Times = np.empty(32, np.int64)
        self._size = 0

    @property
    def times(self) -> Times:
        return self._buffer[: self._size]

    def extend(self, times: Times, most: int) -> None:
        """Append ascending instants; keep at most ``most`` of the newest (between ``most`` and half of it)."""
        if not self.total:
            self.first_ns = int(times[0])
        self.total += len(times)
        times = times[-most:]
        if self._size + len(times) > most:
            self.forget_before_count(most // 2)
        need = self._size + len(times)
        if need > len(self._buffer):
            grown = np.empty(max(need, 2 * len(self._buffer)), np.int64)
            grown[: self._size] = self.times
            self._buffer = grown
        self._buffer[self._size : need] = times
        if self._size and times[0] < self._buffer[self._size - 1]:
            self._buffer[:need].sort()
        self._size = need

    def forget_before_count(self, keep: int) -> None:
        """Keep the newest ``keep`` beats."""
        drop = max(0, self._size - keep)
        if drop:
            self._buffer = self._buffer[drop : self._size].copy()
            self._size -= drop

    def forget_before(self, instant: int) -> None:
        """Forget beats before ``instant``, but not the newest."""
        self.forget_before_count(max(1, self._size - int(np.searchsorted(self.times, instant))))

    def state(self) -> list[Any]:
        """Plain values."""
        return [self.family, self.total, self.first_ns, self.times.astype("<i8").tobytes()]

    @classmethod
    def restored(cls, state: list[Any]) -> Train:
        """Inverse of :meth:`state`."""
        train = cls(state[0])
        train._buffer = np.frombuffer(state[3], "<i8").astype(np.int64)
        train._size = len(train._buffer)
        train.total, train.first_ns = state[1], state[2]
        return train


class TrainStore:
    """All trains of one rank.

    Args:
        keys: Local numbers.
        max_keys: Trains kept.
    """

    def __init__(self, keys: KeyTable, max_keys: int) -> None:
        self._keys = keys
        self._max_keys = max_keys
        self.trains: dict[TrainId, Train] = {}

    def add(self, batch: EventBatch, most: int) -> None:
        """Take LOOP and HOOK rows of a batch; other rows are ignored. Beats are ends (a loop's jump has no duration)."""
        subkind = batch.subkind
        rows = np.flatnonzero((batch.kind == Kind.PYTHON_CALL) & ((subkind == Call.LOOP) | (subkind == Call.HOOK)))
        if not rows.size:
            return
        ends = batch.end_ns[rows]
        order = np.argsort(ends, kind="stable")
        rows, ends = rows[order], ends[order]
        name, pid, tid = batch.name[rows], batch.pid[rows], batch.tid[rows]
        thread = (pid.astype(np.uint64) << np.uint64(32)) | tid
        sort = np.lexsort((np.arange(len(rows)), name, thread))
        cut = np.flatnonzero((np.diff(name[sort].astype(np.int64)) != 0) | (np.diff(thread[sort]) != 0)) + 1
        for group in np.split(sort, cut):
            at = group[0]
            key = self._keys.number(batch.tables.symbols, int(name[at]))
            train_id = TrainId(int(pid[at]), int(tid[at]), key)
            train = self.trains.get(train_id)
            if train is None:
                train = self.trains[train_id] = Train(HOOK if subkind[rows[at]] == Call.HOOK else LOOP)
            train.extend(ends[group], most)
        if len(self.trains) > self._max_keys:
            self._evict()

    def _evict(self) -> None:
        """Drop installed code's loops that have been silent longest: importing a framework runs thousands of loops, once."""
        surplus = len(self.trains) - self._max_keys * 3 // 4

        def worth(item: tuple[TrainId, Train]) -> tuple[bool, bool, int, int]:
            train_id, train = item
            return (train.family == HOOK, self._keys.role(train_id.key).user, int(train.times[-1]), -train.total)

        for train_id, _ in sorted(self.trains.items(), key=worth)[:surplus]:
            del self.trains[train_id]

    def threads(self) -> list[tuple[int, int]]:
        """Threads that have trains, sorted."""
        return sorted({(train_id.pid, train_id.tid) for train_id in self.trains})

    def of_thread(self, pid: int, tid: int) -> list[tuple[TrainId, Train]]:
        """Trains of one thread."""
        return [(i, t) for i, t in self.trains.items() if i.pid == pid and i.tid == tid]

    def prune(self, before_ns: int, keep: int) -> None:
        """After a lock: forget what the tracker has passed, beyond the newest ``keep`` beats a train."""
        for train in self.trains.values():
            if len(train.times) > keep:
                train.forget_before(max(before_ns, 0))
                train.forget_before_count(4 * keep)
