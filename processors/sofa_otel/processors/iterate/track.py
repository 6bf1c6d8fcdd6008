"""BeatTracker: turns the beats of the chosen loop or hook into the cycles of the leader's time line.

The boundaries are exact, so tracking is bookkeeping: group micro-batches, put cycles in which the optimiser did not run aside
(a validation loop that shares the training loop's code), and give the first cycle a start.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sofa_otel.core.names import IterationKind
from sofa_otel.processors.iterate.keys import KeyTable
from sofa_otel.processors.iterate.phases import LONG, Cycle, foreign_beats, split
from sofa_otel.processors.iterate.plan import Plan
from sofa_otel.processors.iterate.trains import Times, TrainId, TrainStore


class BeatTracker:
    """Follows one plan of mode ``marker`` or ``loop``.

    Args:
        plan: What to follow.
        keys: Local numbers.
        after_ns: Beats up to here were told already (0: from the first beat kept).
    """

    def __init__(self, plan: Plan, keys: KeyTable, after_ns: int = 0) -> None:
        self.plan = plan
        self._keys = keys
        self._period = plan.period_ns
        self._last_ns = after_ns  # end of the last cycle told; 0 before the first
        self._seen_ns = after_ns  # beats up to here were looked at
        self._skip = 0
        self._pending: list[int] = []  # ends of beats since the last cycle's

    @property
    def last_ns(self) -> int:
        """End of the last cycle."""
        return self._last_ns

    def state(self) -> list[Any]:
        """Plain values."""
        return [self._period, self._last_ns, self._seen_ns, self._pending]

    def restore(self, state: list[Any]) -> None:
        """Inverse of :meth:`state`."""
        self._period, self._last_ns, self._seen_ns, self._pending = state

    def advance(self, store: TrainStore, now: int, hits: list[int]) -> list[Cycle]:
        """Cycles that were completed up to ``now``; ``hits`` are instants at which samples saw the optimiser."""
        plan = self.plan
        train = store.trains.get(TrainId(plan.pid, plan.tid, plan.beat))
        if train is None:
            return []
        times = train.times
        beats = times[np.searchsorted(times, self._seen_ns, side="right") : np.searchsorted(times, now, side="right")]
        if not len(beats):
            return []
        calls = self._calls(store) if plan.mode == "loop" and plan.markers else None
        ends = self._guided(beats, hits) if plan.guided else self._before(beats, calls) + self._ends(beats, calls)
        self._seen_ns = int(beats[-1])
        cycles: list[Cycle] = []
        for begin, end in ends:
            cycles += self._cycle(store, begin, end)
        return cycles

    def _calls(self, store: TrainStore) -> Times:
        found = [
            train.times
            for i, train in store.of_thread(self.plan.pid, self.plan.tid)
            if i.key in self.plan.markers
        ]  # fmt: skip
        return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)

    def _before(self, beats: Times, calls: Times | None) -> list[tuple[int, int]]:
        """Steps before the first optimiser call that the source saw at all: it begins to follow the optimiser's loops later
        than the training loop. Counted by groups, in phase with the first call."""
        if calls is None or self._last_ns or not len(calls):
            return []
        first = int(np.searchsorted(beats, calls[0]))
        early = beats[:first]
        ends = early[(first - np.arange(first)) % self.plan.group == 0].tolist()
        self._skip = first
        return [(0, end) for end in ends]

    def _ends(self, beats: Times, calls: Times | None) -> list[tuple[int, int]]:
        """(begin, end) of each step among new beats; begin 0 means "where the last one ended"."""
        ends: list[tuple[int, int]] = []
        group = self.plan.group
        skip, self._skip = self._skip, 0
        last = int(beats[skip - 1]) if skip else self._last_ns
        for beat in beats[skip:].tolist():
            if self.plan.mode == "marker" and self._pending and beat - self._pending[-1] > 5 * self._period:
                self._pending.clear()  # half a turn of two optimisers, then something else
            self._pending.append(beat)
            if calls is None:
                done = len(self._pending) >= group
            else:
                since = self._pending[-2] if len(self._pending) > 1 else last
                done = bool(np.searchsorted(calls, beat, side="right") > np.searchsorted(calls, since, side="right"))
            if done:
                extra = len(self._pending) - group
                ends.append((self._pending[extra - 1] if extra > 0 and calls is not None else 0, beat))
                self._pending.clear()
                last = beat
        if len(self._pending) > 4096:
            del self._pending[:-64]
        return ends

    def _guided(self, beats: Times, hits: list[int]) -> list[tuple[int, int]]:
        """Steps of ``group`` beats where only some optimiser calls were seen: those say which beat is the last."""
        ends: list[tuple[int, int]] = []
        calls = np.asarray(hits, np.int64)
        previous = self._pending[-1] if self._pending else self._last_ns
        for beat in beats.tolist():
            self._pending.append(beat)
            hit = np.searchsorted(calls, beat, side="right") > np.searchsorted(calls, previous, side="right")
            if hit or len(self._pending) >= self.plan.group:
                ends.append((0, beat))
                self._pending.clear()
            previous = beat
        return ends

    def _cycle(self, store: TrainStore, begin: int, end: int) -> list[Cycle]:
        period = self._period
        if not self._last_ns:
            start = end - int(period)
            self._last_ns = end
            return [Cycle(start, end, IterationKind.TRAIN)]
        start, out = self._last_ns, []
        self._last_ns = end
        if begin > start:  # beats of the same loop without the optimiser: its validation pass
            out.append(Cycle(start, begin, IterationKind.VALIDATION))
            start = begin
        if end - start > LONG * period:
            out += split(start, end, period, foreign_beats(store, self.plan, self._keys, start, end))
        else:
            out.append(Cycle(start, end, IterationKind.TRAIN))
            self._period += 0.05 * (end - start - period)
        return out
