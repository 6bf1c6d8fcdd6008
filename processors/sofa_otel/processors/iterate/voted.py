"""VotedChooser: stream and level where only anonymous tokens speak (system calls, ops, kernels)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.records import LoopLevel
from sofa_otel.processors.iterate.anchors import Anchors
from sofa_otel.processors.iterate.confidence import Evidence, probability
from sofa_otel.processors.iterate.learn import MOST_TOKENS
from sofa_otel.processors.iterate.level import Nest, VotedLevel, nest
from sofa_otel.processors.iterate.plan import Plan, Refusal
from sofa_otel.processors.iterate.sampled import UNSURE
from sofa_otel.processors.iterate.settings import DetectorSettings
from sofa_otel.processors.iterate.tokens import DEVICE, LOAD, OP, OPTIMISER, SOURCES, SYSCALL, Stream, StreamId, TokenWindow

_FEWEST_TOKENS: Final = 64
_POOR: Final = 7
_SURE_CYCLES: Final = 16
_LOADING: Final = 0.25
_ERRATIC: Final = 0.75
_REMEMBERED: Final = 64
_FEWEST_VOTERS: Final = 6
_ENOUGH_VOTERS: Final = 40
_PER_TOKEN: Final = 0.04
_GROWTH: Final = 1.4
_GROWTH_FOLLOWED: Final = 1.8
_EVERY_NS: Final = 1_000_000_000
_LATER: Final = 0.25
_RECENT_NS: Final = 8_000_000_000
FASTEST_NS: Final = 2e6


class VotedChooser:
    """Chooses stream and level.

    Args:
        settings: Thresholds.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        self._settings = settings
        self._learned: dict[StreamId, int] = {}
        self._looked_ns = 0
        self._first_ns = 0
        self.seen: dict[float, Evidence] = {}

    def state(self) -> list[Any]:
        """Plain values."""
        return [self._looked_ns, self._first_ns, [[list(i), n] for i, n in sorted(self._learned.items())]]

    def restore(self, state: list[Any]) -> None:
        """Inverse of :meth:`state`."""
        self._looked_ns, self._first_ns = state[0], state[1]
        self._learned = {StreamId(*i): n for i, n in state[2]}

    def due(self, window: TokenWindow, now: int, *, followed: bool = False) -> bool:
        """Whether any stream has grown by a good part since it was looked at, or the time that system calls were watched for."""
        growth = _GROWTH_FOLLOWED if followed else _GROWTH
        passed = now - self._looked_ns >= max(_EVERY_NS, int(_LATER * (now - self._first_ns)))
        return any(
            s.base + s.size >= max(_FEWEST_TOKENS, growth * self._learned.get(i, 0)) or (i.family == SYSCALL and passed)
            for i, s in window.streams.items()
        )

    def choose(self, window: TokenWindow, now: int, *, final: bool = False) -> tuple[Plan, Anchors] | Refusal:
        """Best stream and level.

        Args:
            window: What is held.
            now: Event time, ns.
            final: Nothing more will come: fewer cycles are needed, and say so by the confidence.
        """
        self._looked_ns = now
        self._first_ns = self._first_ns or now
        found: list[tuple[Plan, Anchors]] = []
        refused = Refusal("")
        for stream_id, stream in sorted(window.streams.items()):
            self._learned[stream_id] = stream.base + stream.size
            if stream.size < _FEWEST_TOKENS:
                continue
            one = self._stream(window, stream_id, stream, now, final)
            if isinstance(one, Refusal):
                refused = max(refused, one, key=lambda refusal: refusal.cycles)
            else:
                found.append(one)
        if not found:
            return refused
        return max(found, key=lambda pair: pair[0].score)

    def _stream(
        self, window: TokenWindow, stream_id: StreamId, stream: Stream, now: int, final: bool
    ) -> tuple[Plan, Anchors] | Refusal:
        tokens, times = stream.arrays()
        tokens, times = tokens[-MOST_TOKENS:], times[-MOST_TOKENS:]
        starts = [0]
        if stream_id.family == SYSCALL:
            # A program's start makes more calls than minutes of its training: where all of it says nothing, the last part may.
            # Not so for ops and kernels: a part of few steps is one phase of one step, and full of layers.
            span = int(times[-1] - times[0])
            starts += np.searchsorted(times, [times[-1] - span // 2, times[-1] - span // 4, now - _RECENT_NS]).tolist()
        best = Refusal("")
        for start in dict.fromkeys(starts):
            if len(tokens) - start < _FEWEST_TOKENS:
                continue
            one = self._part(window, stream_id, tokens[start:], times[start:], final)
            if not isinstance(one, Refusal):
                return one
            if not best.reason:
                best = one
        return best

    def _part(
        self, window: TokenWindow, stream_id: StreamId, tokens: NDArray[np.uint32], times: NDArray[np.int64], final: bool
    ) -> tuple[Plan, Anchors] | Refusal:
        family = stream_id.family & 3
        kind = SOURCES[family]
        roles = window.roles
        optimiser = np.isin(tokens, np.array([t for t, r in roles.items() if r == OPTIMISER], np.uint32))
        loads = np.isin(tokens, np.array([t for t, r in roles.items() if r == LOAD], np.uint32))
        found = nest(tokens, times, optimiser, loads, 4, repeats=family != SYSCALL)
        if not found.levels:
            return Refusal(f"nothing recurs steadily in {len(tokens)} {kind} events")
        if found.step < 0:
            return Refusal(f"{found.reason} ({len(tokens)} {kind} events)")
        level = found.levels[found.step]
        cycles, period = len(level.ends) - 1, level.period_ns
        anchors = level.anchors
        exact = final and anchors.voters >= 30 and anchors.support > 0.9 and level.covered > 0.85
        need = 3 if exact else 4 if final or level.optimiser >= 0.7 else self._settings.min_cycles_blind - 1
        if family == SYSCALL and window.lookups(tokens[int(level.places[0]) : int(level.places[-1])]) > _LOADING:
            return Refusal(f"{cycles} turns of a loop that looks paths up: modules or files are loaded", cycles)
        if anchors.period < _POOR or found.distinct < _POOR:
            return Refusal(f"only a loop of {anchors.period:.0f} {kind} events recurs: too little to be a step", cycles)
        base = anchors if not found.inner else _inside(found).anchors
        least = 3 if found.inner else _FEWEST_VOTERS  # an exact number of turns speaks as well
        if base.voters < max(least, min(_PER_TOKEN * base.period, _ENOUGH_VOTERS)):
            reason = f"{base.voters} of some {base.period:.0f} {kind} events recur together: that may be chance"
            return Refusal(reason, cycles)
        if cycles < need:
            return Refusal(f"{cycles} steps seen, {need} needed: run {need * period / 1e9:.1f} s or longer", cycles)
        if period < FASTEST_NS * (1 + (family == SYSCALL)):
            return Refusal(f"only a rhythm of {period / 1e6:.2f} ms recurs: inside of a step", cycles)
        if level.spread > _ERRATIC:
            return Refusal(
                f"what recurs varies too much to be steps (spread {level.spread:.0%} of {period / 1e6:.1f} ms)", cycles
            )
        evidence = self._evidence(found, family, final)
        confidence = probability(evidence)
        # Watched live, with stacks that could not tell, two steps were taken for one (with .72 and .60); and a step of few calls
        # hides in the epoch around it.
        if family == SYSCALL and (stream_id.pid in window.sampled or (not found.inner and cycles < _SURE_CYCLES)):
            confidence = min(confidence, UNSURE)
        if len(self.seen) > _REMEMBERED:
            self.seen.clear()
        self.seen[confidence] = evidence
        rank = {DEVICE: 0.3, OP: 0.2}.get(family, 0.0) + (0.6 if family == SYSCALL else 0.25) * (stream_id.pid == stream_id.tid)
        plan = Plan(
            mode="vote", source=kind, pid=stream_id.pid, tid=stream_id.tid, beat=stream_id.family, period_ns=period,
            confidence=confidence, blind=True, named=level.optimiser >= 0.7, tokens=anchors.period, levels=_named(found),
            score=confidence + rank + 0.3 * (level.optimiser >= 0.7) + 0.1 * _richness(found),
        )  # fmt: skip
        return plan, level.anchors

    @staticmethod
    def _evidence(found: Nest, family: int, final: bool) -> Evidence:
        level = found.levels[found.step]
        anchors = level.anchors
        return Evidence(
            cycles=len(level.ends) - 1,
            voters=anchors.voters,
            support=anchors.support,
            alone=anchors.alone,
            covered=level.covered,
            spread=level.spread,
            optimiser=level.optimiser,
            rivals=found.rivals,
            inner=found.inner,
            distinct=found.distinct,
            tokens=anchors.period,
            family=family,
            final=final,
        )


def _inside(found: Nest) -> VotedLevel:
    """The inner level that the step was built on."""
    step = found.levels[found.step]
    inner = found.levels[: found.step]
    return min(inner, key=lambda level: abs(step.period_ns / level.period_ns - found.inner), default=step)


def _richness(found: Nest) -> float:
    """How much happens in a cycle, bits: a helper's loop of four calls is steadier than any training, and says nothing."""
    return min(float(np.log2(max(min(found.distinct, found.levels[found.step].anchors.period), 1.0))), 6.0)


def _named(found: Nest) -> list[LoopLevel]:
    """The nest for people, outermost first."""
    out = []
    for number, level in reversed(list(enumerate(found.levels))):
        name = "step" if number == found.step else "epoch" if number > found.step else "micro-batch"
        out.append(LoopLevel(name, len(level.ends), level.period_ns / 1e9))
    return out[:6]
