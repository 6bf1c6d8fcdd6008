"""VoteTracker: follows a voted level; what the anchors say is read by :mod:`anchors`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.names import IterationKind
from sofa_otel.processors.iterate.anchors import APART, Anchors, boundaries, times_at
from sofa_otel.processors.iterate.learn import GRAMS, gram_hashes, places_of
from sofa_otel.processors.iterate.phases import LONG, Cycle
from sofa_otel.processors.iterate.plan import Plan
from sofa_otel.processors.iterate.tokens import Stream, StreamId, TokenWindow

_EDGE: Final = 0.7
_EXTRA: Final = 1.35
_MANY: Final = 20.0
_HALF: Final = 0.5


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
        self._looked = 0  # tokens that there were at the last look
        self._seen = 0  # tokens whose votes are in
        self._votes: list[float] = []
        self._at: list[int] = []  # where the votes were given

    def state(self) -> list[Any]:
        """Plain values."""
        return [
            self.anchors.hashes.tobytes(),
            self.anchors.phases.tobytes(),
            list(self.anchors[2:]),
            self.last_ns,
            float(self._place),
            self._seen,
            self._votes,
            self._looked,
            self._at,
        ]

    @classmethod
    def restored(cls, plan: Plan, state: list[Any]) -> VoteTracker:
        """Inverse of :meth:`state`."""
        anchors = Anchors(np.frombuffer(state[0], np.uint64), np.frombuffer(state[1], np.float64), *state[2])
        tracker = cls(plan, anchors, state[3])
        tracker._place, tracker._seen, tracker._votes, tracker._looked = state[4], state[5], list(state[6]), state[7]
        tracker._at = list(state[8])
        return tracker

    def advance(self, window: TokenWindow, *, final: bool = False, forget: bool = True) -> list[Cycle]:
        """Cycles that are settled: more than .6 periods of tokens lie behind their end. ``forget`` drops tokens behind them."""
        stream = window.streams.get(StreamId(self.plan.pid, self.plan.tid, self.plan.beat))
        if stream is None:
            return []
        period = self.anchors.period
        end = stream.base + stream.size
        if not final and end - self._looked < 0.2 * period:
            return []
        self._looked = end
        tokens, times = stream.arrays()
        self._take(stream, tokens)
        votes = np.array(self._votes)
        centres, _ = boundaries(votes, period, self.anchors.heard)
        settled = end - (0.0 if final else 0.6 * period)
        centres = centres[(centres > self._place + APART * period) & (centres <= settled)]
        cycles: list[Cycle] = []
        if len(centres):
            if not self.last_ns and centres[0] - stream.base >= _EDGE * period:
                self.last_ns = int(times_at(centres[:1] - period, stream.base, times)[0])
            whens = times_at(centres, stream.base, times).tolist()
            cuts = times_at(centres - period, stream.base, times).tolist()
            at = np.array(self._at)
            given = np.diff(np.searchsorted(at, [self._place, *centres.tolist()], side="right")).tolist()
            for place, when, cut, heard in zip(centres.tolist(), whens, cuts, given, strict=True):
                few = self.anchors.heard >= _MANY and heard < _HALF * self.anchors.heard
                told = self._cycle(when, cut if place - self._place > _EXTRA * period else 0)
                cycles += [cycle._replace(kind=IterationKind.OTHER) for cycle in told] if few else told
                self._place = place
            kept = votes > self._place - 2 * period
            self._votes, self._at = votes[kept].tolist(), at[kept].tolist()
        rest = (end - self._place) / period
        if final and self.last_ns and rest >= _EDGE:  # the last one, cut by the end of the capture
            usual = self.last_ns + int(self.plan.period_ns)
            cycles += self._cycle(int(times[-1]) if rest < 2 - _EDGE else min(int(times[-1]), usual), 0)
        if len(centres) and forget:
            stream.drop(int(end - self._place) + 4 * GRAMS[-1])
        return cycles

    def _take(self, stream: Stream, tokens: NDArray[np.uint32]) -> None:
        start = max(self._seen - stream.base, 0)
        lead = max(0, start - GRAMS[-1])
        if start >= len(tokens):
            return
        places, which = places_of(gram_hashes(tokens[lead:]), self.anchors.hashes)
        fresh = places >= start - lead
        at = places[fresh] + lead + stream.base
        self._at += at.tolist()
        self._votes += (at - self.anchors.phases[which[fresh]]).tolist()
        self._seen = stream.base + len(tokens)

    def _cycle(self, end: int, cut: int) -> list[Cycle]:
        """The cycle that ends at ``end``; with ``cut`` there is more in it than a step, which begins there."""
        if not self.last_ns:
            self.last_ns = end
            return []
        if end <= self.last_ns:  # told already
            return []
        start, self.last_ns = self.last_ns, end
        if end - start > 2.5 * LONG * self.plan.period_ns:
            cut = end - int(self.plan.period_ns)
        if start < cut < end:  # what else there is follows a step's end
            return [Cycle(start, cut, IterationKind.OTHER), Cycle(cut, end, IterationKind.TRAIN)]
        return [Cycle(start, end, IterationKind.TRAIN)]
