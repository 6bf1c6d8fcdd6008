"""Probability that a voted level is right, from what the vote looks like.

A logistic model fitted on generated streams, aperiodic input and recordings (``benchmarks/iterations/calibrate.py``); four
weights that too few of them speak to (share of the time covered, variation, many inner turns, different names) are set by hand.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np


class Evidence(NamedTuple):
    """What speaks for a level: see :class:`~sofa_otel.processors.iterate.level.VotedLevel` and ``Nest``."""

    cycles: int
    voters: int
    support: float
    alone: float
    covered: float
    spread: float
    optimiser: float
    rivals: int
    inner: float
    distinct: int
    tokens: float
    family: int
    final: bool

    def features(self) -> list[float]:
        """Inputs of the model."""
        return [
            1.0,
            min(np.log2(max(self.cycles, 1)), 6.0),
            min(np.log2(1 + self.voters), 8.0),
            self.support,
            self.alone,
            min(self.covered, 1.0),
            self.spread,
            float(self.optimiser >= 0.7),
            float(self.optimiser < 0),
            float(min(self.rivals, 3)),
            float(1.5 < self.inner <= 16.5),
            float(self.inner > 16.5),
            min(np.log2(max(self.distinct, 1)), 6.0),
            min(np.log2(max(self.tokens, 1)), 10.0),
            float(self.family == 0),
        ]


_WEIGHTS: Final = (
    -7.426, 0.171, 0.2, 3.128, -1.149, 1.5, -1.5, 1.581, 0.853, 1.22, 0.039, 3.0, 0.5, 0.116, -0.566,
)  # fmt: skip
_CEILING: Final = 0.97


def probability(evidence: Evidence) -> float:
    """0..1."""
    return float(min(1.0 / (1.0 + np.exp(-np.dot(_WEIGHTS, evidence.features()))), _CEILING))
