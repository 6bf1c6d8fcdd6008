"""WrapTracker: boundaries from wraps of sampled stacks, finer than the sampling period.

The true end of a cycle lies somewhere between the sample before and the sample after its wrap. Differences of such instants
are multiples of the sampling period and would make medians wrong, so boundaries are placed inside their intervals such that
consecutive durations differ as little as the samples allow (projected relaxation): where the training is steady the result is
exact, and a slow step still is one, because its interval forces it. Costs a delay of a few iterations.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.names import IterationKind
from sofa_otel.processors.iterate.phases import Cycle
from sofa_otel.processors.iterate.plan import Plan
from sofa_otel.processors.iterate.wraps import ENTERED, FrameId, WrapStore

_DELAY: Final = 4
_MEMORY: Final = 12
_ROUNDS: Final = 40
_MOST_FILLED: Final = 64
_MOST_EARLY: Final = 400
_COARSE: Final = 12.0
"""Below this many samples a cycle some wraps are missed whatever the cut."""


def relax(low: NDArray[np.float64], high: NDArray[np.float64], rounds: int = _ROUNDS) -> NDArray[np.float64]:
    """Smoothest boundaries with ``low <= x <= high`` (Gauss-Seidel on odd and even places, clipped), ns.

    Args:
        low, high: Ascending bounds of each boundary, shape (n,).
        rounds: Sweeps.
    """
    x = (low + high) / 2
    if len(x) < 3:
        return x
    for _ in range(rounds):
        for first in (1, 2):
            at = slice(first, len(x) - 1, 2)
            middle = (x[first - 1 : -2 : 2][: len(x[at])] + x[first + 1 :: 2][: len(x[at])]) / 2
            x[at] = np.minimum(np.maximum(middle, low[at]), high[at])
        x[0] = min(max(2 * x[1] - x[2], low[0]), high[0])
        x[-1] = min(max(2 * x[-2] - x[-3], low[-1]), high[-1])
    return x


class WrapTracker:
    """Follows one plan of mode ``wrap``."""

    def __init__(self, plan: Plan, after_ns: int = 0) -> None:
        self.plan = plan
        self._period = plan.period_ns
        self._seen_ns = after_ns
        self._low: list[float] = []  # bounds of boundaries, the first ``_told`` of which are settled
        self._high: list[float] = []
        self._made: list[bool] = []  # filled in, not seen
        self._begin: dict[int, float] = {}  # where a cycle began later than the last one ended: the frame was entered anew
        self._inner = (0, 1 << 30)
        self._before_ns = 0
        self._count_rows = 0
        self._body = False  # offsets of the loop's body behind the cut were seen since the last boundary
        self._told = 0
        self._count = 0
        self.last_ns = after_ns
        self._first = after_ns == 0

    def state(self) -> list[Any]:
        """Plain values."""
        return [
            self._period, self._seen_ns, self._low, self._high, self._made, self._begin, self._told, self._count, self.last_ns,
            self._first, self._inner, self._count_rows, self._body,
        ]  # fmt: skip

    def restore(self, state: list[Any]) -> None:
        """Inverse of :meth:`state`."""
        (
            self._period,
            self._seen_ns,
            self._low,
            self._high,
            self._made,
            self._begin,
            self._told,
            self._count,
            self.last_ns,
            self._first,
        ) = state[:10]
        self._inner, self._count_rows, self._body = tuple(state[10]), state[11], state[12]

    def advance(self, store: WrapStore, now: int, *, final: bool = False) -> list[Cycle]:
        """Cycles that are settled now."""
        frame = store.frames.get(FrameId(self.plan.pid, self.plan.tid, self.plan.beat))
        if frame is None:
            return []
        rows = frame.rows[(frame.rows[:, 1] > self._seen_ns) & (frame.rows[:, 1] <= now)]
        if len(rows):
            if self._first and not self._low:
                self._before_ns = frame.first_seen(self.plan.cut)
            if self._count_rows % 8 == 0:
                self._inner = frame.interval(self.plan.cut)
            self._count_rows += 1
            self._seen_ns = int(rows[-1, 1])
            self._take(rows, store.threads[self.plan.pid, self.plan.tid].interval)
        return self._settle(final)

    def _take(self, rows: NDArray[np.int64], interval: float) -> None:
        """Wraps over the cut are boundaries. A cycle without a sample on one side of the cut shows as a smaller backward move
        of the same frame, about a period after the last boundary."""
        cut, (first, final) = self.plan.cut, self._inner
        hidden: list[tuple[int, int]] = []
        for low, high, source, target in rows.tolist():
            if cut < target <= final and target > source >= 0:
                self._body = True
            if target > source >= 0:
                continue
            if source == ENTERED:
                self._body = cut < target <= final
                if self._low and (low + high) / 2 - self._high[-1] > 0.3 * self._period:
                    self._begin[len(self._low)] = (low + high) / 2
                hidden.clear()
                continue
            if not (target <= cut < source):
                hidden.append((low, high))
                continue
            if self._low and len(self._low) not in self._begin:
                last = (self._low[-1] + self._high[-1]) / 2
                gap = (low + high) / 2 - last
                cycles = round(gap / self._period)
                width = max(high - low, self._high[-1] - self._low[-1])
                if cycles >= 2 and width > 0.25 * self._period and cycles <= _MOST_FILLED:
                    self._fill(last, gap, cycles)  # sampled too rarely there to see every wrap: counted, not seen
                elif (self.plan.missed > 0.02 or self._period < _COARSE * interval) and 2 <= cycles <= 3:
                    for i in range(1, cycles):
                        due = last + i * gap / cycles
                        near = [move for move in hidden if abs((move[0] + move[1]) / 2 - due) < 0.25 * self._period]
                        if near:
                            self._push(*min(near, key=lambda move: abs((move[0] + move[1]) / 2 - due)), made=True)
                elif gap < 2.5 * self._period:
                    self._period += 0.1 * (gap - self._period)
            hidden.clear()
            outer = 0 <= target < first and source > final
            if outer and not self._body and self._low:  # no part of a step since the last boundary: validation, an epoch's end
                self._begin[len(self._low)] = (low + high) / 2
                continue
            self._body = False
            if not self._low and self._before_ns:
                self._early(low, high)
            self._push(low, high)

    def _early(self, low: int, high: int) -> None:
        """Cycles before the first boundary that was seen: while samples were rare the loop ran already."""
        gap = (low + high) / 2 - self._before_ns
        cycles = round(gap / self._period)
        if 1 < cycles <= _MOST_EARLY:
            self._push(self._before_ns, self._before_ns + 0.9 * gap / cycles, made=True)
            self._fill(self._before_ns + gap / cycles, gap * (cycles - 1) / cycles, cycles - 1)

    def _fill(self, last: float, gap: float, cycles: int) -> None:
        step = gap / cycles
        for i in range(1, cycles):
            self._push(last + (i - 0.33) * step, last + (i + 0.33) * step, made=True)

    def _push(self, low: float, high: float, *, made: bool = False) -> None:
        self._low.append(float(low))
        self._high.append(float(high))
        self._made.append(made)

    def _settle(self, final: bool) -> list[Cycle]:
        ready = len(self._low) - (0 if final else _DELAY)
        if ready <= self._told:
            return []
        low, high = np.array(self._low), np.array(self._high)
        x = relax(low, high)
        cycles: list[Cycle] = []
        for i in range(self._told, ready):
            end = int(x[i])
            self._low[i] = self._high[i] = float(end)
            if self._first:
                self._first = False
                cycles.append(Cycle(end - int(self._period * self.plan.group), end, IterationKind.TRAIN))
                self.last_ns = end
                continue
            begin = self._begin.get(i)
            if begin is not None and begin < end:
                cycles.append(Cycle(self.last_ns, int(begin), IterationKind.OTHER))
                self.last_ns = int(begin)
                self._count = 0
            self._count += 1
            if self._count >= self.plan.group:
                self._count = 0
                cycles.append(Cycle(self.last_ns, end, IterationKind.TRAIN))
                self.last_ns = end
        self._told = ready
        drop = max(0, self._told - _MEMORY)
        if drop:
            del self._low[:drop], self._high[:drop], self._made[:drop]
            self._begin = {i - drop: begin for i, begin in self._begin.items() if i >= drop}
            self._told -= drop
        return cycles
