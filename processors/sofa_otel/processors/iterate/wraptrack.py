"""WrapTracker: boundaries from wraps of sampled stacks, finer than the sampling period.

The true end of a cycle lies somewhere between the sample before and the sample after its wrap. Differences of such instants are
multiples of the sampling period and would make medians wrong, so boundaries are placed inside their intervals such that consecutive
durations differ as little as the samples allow (projected relaxation): where the training is steady the result is exact, and a slow
step still is one, because its interval forces it. Costs a delay of a few iterations.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.names import IterationKind
from sofa_otel.processors.iterate.phases import Cycle
from sofa_otel.processors.iterate.plan import Plan
from sofa_otel.processors.iterate.wraps import FrameId, WrapStore

_DELAY: Final = 4
_MEMORY: Final = 12
_ROUNDS: Final = 200


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
            x[at] = np.clip(middle, low[at], high[at])
        x[0] = np.clip(2 * x[1] - x[2], low[0], high[0])
        x[-1] = np.clip(2 * x[-2] - x[-3], low[-1], high[-1])
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
        self._told = 0
        self._count = 0
        self.last_ns = after_ns
        self._first = after_ns == 0

    def state(self) -> list[Any]:
        """Plain values."""
        return [self._period, self._seen_ns, self._low, self._high, self._made, self._told, self._count, self.last_ns, self._first]

    def restore(self, state: list[Any]) -> None:
        """Inverse of :meth:`state`."""
        self._period, self._seen_ns, self._low, self._high, self._made, self._told, self._count, self.last_ns, self._first = state

    def advance(self, store: WrapStore, now: int, *, final: bool = False) -> list[Cycle]:
        """Cycles that are settled now."""
        frame = store.frames.get(FrameId(self.plan.pid, self.plan.tid, self.plan.beat))
        if frame is None:
            return []
        rows = frame.rows[(frame.rows[:, 1] > self._seen_ns) & (frame.rows[:, 1] <= now)]
        if len(rows):
            self._seen_ns = int(rows[-1, 1])
            self._take(rows)
        return self._settle(final)

    def _take(self, rows: NDArray[np.int64]) -> None:
        """Wraps over the cut are boundaries. A cycle without a sample on one side of the cut shows as a smaller backward move
        of the same frame, about a period after the last boundary."""
        cut = self.plan.cut
        hidden: list[tuple[int, int]] = []
        for low, high, source, target in rows.tolist():
            if not (target <= cut < source):
                hidden.append((low, high))
                continue
            if self._low:
                last = (self._low[-1] + self._high[-1]) / 2
                gap = (low + high) / 2 - last
                cycles = round(gap / self._period)
                if self.plan.missed > 0.02 and 2 <= cycles <= 3:
                    for i in range(1, cycles):
                        due = last + i * gap / cycles
                        near = [move for move in hidden if abs((move[0] + move[1]) / 2 - due) < 0.25 * self._period]
                        if near:
                            self._push(*min(near, key=lambda move: abs((move[0] + move[1]) / 2 - due)), made=True)
                elif gap < 2.5 * self._period:
                    self._period += 0.1 * (gap - self._period)
            hidden.clear()
            self._push(low, high)

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
            self._count += 1
            if self._count >= self.plan.group:
                self._count = 0
                cycles.append(Cycle(self.last_ns, end, IterationKind.TRAIN))
                self.last_ns = end
        self._told = ready
        drop = max(0, self._told - _MEMORY)
        if drop:
            del self._low[:drop], self._high[:drop], self._made[:drop]
            self._told -= drop
        return cycles
