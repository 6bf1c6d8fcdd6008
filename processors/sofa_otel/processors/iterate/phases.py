"""Phases of the loop: what lies between two ends of a step besides the step.

Validation, checkpoints and the end of an epoch happen between optimiser steps, so a cycle that is much longer than usual is
looked at: if loops beat in it that do not belong to a usual cycle, it is split into the step and the rest.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from sofa_otel.core.names import IterationKind
from sofa_otel.processors.iterate.keys import KeyTable
from sofa_otel.processors.iterate.plan import Plan
from sofa_otel.processors.iterate.trains import TrainStore

LONG: Final = 1.6
_WORTH: Final = 0.3


class Cycle(NamedTuple):
    """A piece of the leader's time line."""

    start_ns: int
    end_ns: int
    kind: IterationKind


class Foreign(NamedTuple):
    """Beats in a cycle that do not belong to a usual one: first, last, and what their names say."""

    first_ns: int
    last_ns: int
    kind: IterationKind


def foreign_beats(store: TrainStore, plan: Plan, keys: KeyTable, start: int, end: int) -> Foreign | None:
    """Loops and hooks of the leader that beat in ``(start, end)`` and are not usual."""
    usual = {plan.beat, *plan.markers, *plan.usual}
    first, last = end, start
    said: dict[IterationKind, int] = {}
    for train_id, train in store.of_thread(plan.pid, plan.tid):
        if train_id.key in usual:
            continue
        times = train.times
        low, high = np.searchsorted(times, start, side="right"), np.searchsorted(times, end)
        if high <= low or np.searchsorted(times, start - 3 * plan.period_ns) < low:
            continue  # it beats in ordinary cycles, too
        role = keys.role(train_id.key)
        first, last = min(first, int(times[low])), max(last, int(times[high - 1]))
        name = role.other or ("checkpoint" if keys.rows[train_id.key].function == "checkpoint.save" else "")
        if name:
            kind = IterationKind(name)
            said[kind] = said.get(kind, 0) + int(high - low)
    if last <= start:
        return None
    kind = max(sorted(said), key=lambda item: said[item]) if said else IterationKind.OTHER
    return Foreign(first, last, kind)


def split(start: int, end: int, period: float, foreign: Foreign | None) -> list[Cycle]:
    """Cut a long cycle into the step and what lies beside it; a long cycle without foreign beats is just slow."""
    if foreign is None:
        return [Cycle(start, end, IterationKind.TRAIN)]
    before, after = foreign.first_ns - start, end - foreign.last_ns
    if abs(after - period) <= abs(before - period):  # the rest, then the step
        cut = foreign.last_ns if after >= 0.5 * period else end - int(period)
        if cut - start < _WORTH * period:
            return [Cycle(start, end, IterationKind.TRAIN)]
        return [Cycle(start, cut, foreign.kind), Cycle(cut, end, IterationKind.TRAIN)]
    cut = foreign.first_ns if 0.5 * period <= before <= 1.5 * period else start + int(period)
    if end - cut < _WORTH * period:
        return [Cycle(start, end, IterationKind.TRAIN)]
    return [Cycle(start, cut, IterationKind.TRAIN), Cycle(cut, end, foreign.kind)]
