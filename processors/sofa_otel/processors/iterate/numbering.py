"""Numbering: gives cycles their index, kind, score and confidence, and keeps back what a blind lock is not sure of yet.

An index is never reused and keeps counting across relearning. The first iterations of a run are the warm-up while they take
clearly longer than the ones after them; the very first always is (its start is an estimate).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from sofa_otel.core.names import IterationKind
from sofa_otel.core.records import Anomaly, Iteration
from sofa_otel.processors.iterate.anomaly import Durations
from sofa_otel.processors.iterate.phases import Cycle
from sofa_otel.processors.iterate.plan import Plan

_WARM_RATIO: Final = 1.5
_WARM_MOST: Final = 10


class Numbering:
    """Turns cycles into records for one rank."""

    def __init__(self, job: str, rank: int) -> None:
        self._job = job
        self._rank = rank
        self.next_index = 0
        self.trained = 0
        self.durations = Durations()
        self._warm = True
        self._held: list[Cycle] = []

    def state(self) -> list[Any]:
        """Plain values."""
        held = [[c.start_ns, c.end_ns, str(c.kind)] for c in self._held]
        return [self.next_index, self.trained, self._warm, held, self.durations.state()]

    def restore(self, state: list[Any]) -> None:
        """Inverse of :meth:`state`."""
        self.next_index, self.trained, self._warm, held, durations = state
        self._held = [Cycle(start, end, IterationKind(kind)) for start, end, kind in held]
        self.durations.restore(durations)

    @property
    def held(self) -> list[Cycle]:
        """Cycles kept back."""
        return self._held

    def drop_held(self) -> None:
        """The lock was a mistake: forget what was kept back."""
        self._held = []

    def hold(self, cycles: list[Cycle]) -> None:
        """Keep cycles back."""
        self._held += cycles

    def release(self, plan: Plan, cycles: list[Cycle]) -> tuple[list[Iteration], list[Anomaly]]:
        """Number what was kept back and ``cycles``."""
        todo, self._held = self._held + cycles, []
        iterations: list[Iteration] = []
        anomalies: list[Anomaly] = []
        if self._warm and todo:
            spans = [c.end_ns - c.start_ns for c in todo if c.kind == IterationKind.TRAIN]
            reference = float(np.median(spans[len(spans) // 2 :])) if spans else 0.0
        for cycle in todo:
            kind, span = cycle.kind, float(cycle.end_ns - cycle.start_ns)
            score, slow = 0.0, False
            if kind == IterationKind.TRAIN:
                if self._warm and (self.trained == 0 or (span > _WARM_RATIO * reference and self.trained < _WARM_MOST)):
                    kind = IterationKind.WARMUP
                else:
                    self._warm = False
                    score = self.durations.score(span)
                    slow = self.durations.slow(span, score)
                    usual = self.durations.median
                    changed = self.durations.add(span)
                    if slow:
                        anomalies.append(self._anomaly("slow", cycle.end_ns, span, usual))
                    if changed is not None:
                        anomalies.append(self._anomaly("change", cycle.end_ns, *changed))
                self.trained += 1
            iterations.append(
                Iteration(
                    job=self._job, rank=self._rank, level="step", index=self.next_index, start_ns=cycle.start_ns,
                    end_ns=cycle.end_ns, kind=kind, confidence=round(plan.confidence, 3), source=plan.source, anomalous=slow,
                    score=round(score, 2),
                )
            )  # fmt: skip
            self.next_index += 1
        return iterations, anomalies

    def _anomaly(self, kind: Any, when: int, value: float, reference: float) -> Anomaly:
        return Anomaly(
            job=self._job, rank=self._rank, kind=kind, time_ns=when, iteration=self.next_index, value_s=value / 1e9,
            reference_s=reference / 1e9,
        )  # fmt: skip

    def stall(self, when: int, waited: float, usual: float) -> Anomaly:
        """No iteration has ended for ``waited`` ns."""
        return self._anomaly("stall", when, waited, usual)
