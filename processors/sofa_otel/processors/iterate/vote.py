"""VoteTracker: boundaries of anonymous streams by a Hough vote of the anchors.

Every occurrence of an anchor says "a cycle began this many tokens ago". Votes are summed in bins of a 48th of a period; peaks
that are at least .55 periods apart and .35 of the usual height are cycles. Cycles with few votes are something else
(validation, checkpoint).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.names import IterationKind
from sofa_otel.processors.iterate.learn import GRAMS, Anchors, gram_hashes, places_of
from sofa_otel.processors.iterate.phases import LONG, Cycle
from sofa_otel.processors.iterate.plan import Plan
from sofa_otel.processors.iterate.tokens import Stream, StreamId, TokenWindow

_BINS: Final = 48
_APART: Final = 0.55
_HEIGHT: Final = 0.35


def boundaries(places: NDArray[np.float64], period: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Peaks of the votes: (position in tokens, height)."""
    if not len(places):
        return np.empty(0), np.empty(0)
    width = period / _BINS
    first = float(places.min())
    bins = ((places - first) / width).astype(np.int64)
    votes = np.bincount(bins).astype(np.float64)
    smooth = np.convolve(votes, [1, 2, 3, 2, 1], "same")
    usual = float(np.quantile(smooth[smooth > 0], 0.9))
    candidates = np.flatnonzero(smooth >= _HEIGHT * usual)
    order = candidates[np.lexsort((candidates, -smooth[candidates]))]
    taken: list[int] = []
    used = np.zeros(len(smooth), bool)
    reach = int(_APART * _BINS)
    for at in order.tolist():
        if not used[at]:
            taken.append(at)
            used[max(0, at - reach) : at + reach + 1] = True
    peaks = np.array(sorted(taken), np.int64)
    centres = np.empty(len(peaks))
    ordered = np.sort(places)
    for i, at in enumerate(peaks.tolist()):
        low, high = np.searchsorted(ordered, [first + (at - 2) * width, first + (at + 3) * width])
        centres[i] = float(np.median(ordered[low:high])) if high > low else first + (at + 0.5) * width
    return centres, smooth[peaks]


def times_at(places: NDArray[np.float64], base: int, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Event times of (fractional) token positions; the next token's end, so a boundary is never inside an event."""
    index = np.clip(np.ceil(places - base), 0, len(times) - 1).astype(np.int64)
    return times[index]


class VoteTracker:
    """Follows one plan of mode ``vote``.

    Args:
        plan: What to follow.
        anchors: Learned anchors.
        after_ns: Boundaries up to here were told already.
    """

    def __init__(self, plan: Plan, anchors: Anchors, after_ns: int = 0) -> None:
        self.plan = plan
        self.anchors = anchors
        self.last_ns = after_ns
        self._place = -np.inf  # of the last boundary, tokens
        self._seen = 0  # tokens whose votes are in
        self._votes: list[float] = []

    def state(self) -> list[Any]:
        """Plain values."""
        hashes, phases, period, voters, count, coverage = self.anchors
        return [
            hashes.tobytes(),
            phases.tobytes(),
            period,
            voters,
            count,
            coverage,
            self.last_ns,
            float(self._place),
            self._seen,
            self._votes,
        ]

    @classmethod
    def restored(cls, plan: Plan, state: list[Any]) -> VoteTracker:
        """Inverse of :meth:`state`."""
        anchors = Anchors(np.frombuffer(state[0], np.uint64), np.frombuffer(state[1], np.float64), *state[2:6])
        tracker = cls(plan, anchors, state[6])
        tracker._place, tracker._seen, tracker._votes = state[7], state[8], list(state[9])
        return tracker

    def advance(self, window: TokenWindow, *, final: bool = False, forget: bool = True) -> list[Cycle]:
        """Cycles that are settled: more than .6 periods of tokens lie behind their end. ``forget`` drops tokens behind them."""
        stream = window.streams.get(StreamId(self.plan.pid, self.plan.tid, self.plan.beat))
        if stream is None:
            return []
        tokens, times = stream.arrays()
        self._take(stream, tokens)
        period = self.anchors.period
        end = stream.base + len(tokens)
        votes = np.array(self._votes)
        centres, _ = boundaries(votes, period)
        settled = end - (0.0 if final else 0.6 * period)
        centres = centres[(centres > self._place + _APART * period) & (centres <= settled)]
        cycles: list[Cycle] = []
        if len(centres):
            for when in times_at(centres, stream.base, times).tolist():
                cycles += self._cycle(when)
            self._place = float(centres[-1])
            self._votes = votes[votes > self._place - 2 * period].tolist()
            if forget:
                stream.drop(int(end - self._place) + 4 * GRAMS[-1])
        return cycles

    def _take(self, stream: Stream, tokens: NDArray[np.uint32]) -> None:
        start = max(self._seen - stream.base, 0)
        lead = max(0, start - GRAMS[-1])
        if start >= len(tokens):
            return
        places, which = places_of(gram_hashes(tokens[lead:]), self.anchors.hashes)
        fresh = places >= start - lead
        self._votes += (places[fresh] + lead + stream.base - self.anchors.phases[which[fresh]]).tolist()
        self._seen = stream.base + len(tokens)

    def _cycle(self, end: int) -> list[Cycle]:
        period = self.plan.period_ns
        if not self.last_ns:
            self.last_ns = end
            return []
        start, self.last_ns = self.last_ns, end
        if end <= start:
            return []
        if end - start > 2.5 * LONG * period:
            cut = start + int(period)
            return [Cycle(start, cut, IterationKind.TRAIN), Cycle(cut, end, IterationKind.OTHER)]
        return [Cycle(start, end, IterationKind.TRAIN)]
