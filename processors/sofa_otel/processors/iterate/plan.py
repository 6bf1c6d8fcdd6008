"""Plan: what the tracker follows once a level was chosen. A value object, part of the state."""

from __future__ import annotations

from typing import Literal

import msgspec

from sofa_otel.core.records import LoopLevel


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen stream and level.

    Attributes:
        mode: ``marker`` cycles end with the optimiser's own calls; ``loop`` with a loop's beats; ``wrap`` with the backward
            moves of sampled stacks; ``vote`` with a vote of recurring tokens.
        source: Name of the stream for people (``probe:hook`` …).
        pid, tid: The thread that runs the loop.
        beat: Local number of the loop or hook (for ``wrap`` of the frame).
        markers: Local numbers of exact optimiser calls, empty when none was seen.
        group: Beats an iteration is made of (micro-batches, or two optimisers).
        cut: Bytecode offset that a wrap must cross (``wrap``).
        missed: Share of boundaries the source is expected to miss (``wrap``).
        period_ns: Median period.
        confidence: Probability that period and level are right.
        guided: Sampled optimiser calls tell which of the ``group`` beats is the last.
        blind: Nothing but regularity and coverage speaks for it.
        named: An optimiser's name recurs with it (``vote``).
        tokens: Period in tokens (``vote``).
        usual: Local numbers of loops and hooks seen in most cycles.
        counted: Constant turns in the loop around it speak for it, however its durations vary.
        uneven: Its durations vary and nothing but coverage speaks for it: an even or counted plan is better.
        levels: The loop nest as far as it is known, outermost first.
    """

    mode: Literal["marker", "loop", "wrap", "vote"]
    source: str
    pid: int
    tid: int
    beat: int
    markers: list[int] = []
    group: int = 1
    cut: int = -1
    missed: float = 0.0
    period_ns: float
    confidence: float
    blind: bool = False
    named: bool = False
    tokens: float = 0.0
    guided: bool = False
    counted: bool = False
    uneven: bool = False
    usual: list[int] = []
    levels: list[LoopLevel] = []
    score: float = 0.0

    def other_level(self, plan: Plan) -> float:
        """Ratio of the periods of two votes: in tokens on the same stream (a warm-up changes times, not what happens)."""
        if (self.pid, self.tid, self.beat) == (plan.pid, plan.tid, plan.beat) and self.tokens and plan.tokens:
            return self.tokens / plan.tokens
        return self.period_ns / plan.period_ns


class Refusal(msgspec.Struct, frozen=True):
    """Why nothing was chosen, with figures.

    Attributes:
        cycles: Cycles of the best candidate.
        period_ns: Period of a level that could not be resolved and stands in the way of slower ones, 0 if none does.
    """

    reason: str
    cycles: int = 0
    period_ns: float = 0.0
