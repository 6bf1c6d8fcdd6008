"""Probability that a voted level is right, from what the vote looks like.

A logistic model fitted on generated streams and aperiodic input (``benchmarks/iterations/calibrate.py``); three weights that too
few streams speak to (share of the time covered, variation, many inner turns) are set by hand.
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
    -6.678, -0.319, 0.168, 1.179, 0.472, 1.5, -1.5, 3.781, 2.583, -2.395, 4.693, 3.0, 0.526, -0.097, 0.473,
)  # fmt: skip
_CEILING: Final = 0.97


def probability(evidence: Evidence) -> float:
    """0..1."""
    return float(min(1.0 / (1.0 + np.exp(-np.dot(_WEIGHTS, evidence.features()))), _CEILING))
