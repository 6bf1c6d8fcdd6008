"""Anomalies: slow iterations, change points and the warm-up, from robust statistics of the durations."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_KEPT: Final = 128
_FEWEST: Final = 8
SLOW_SCORE: Final = 6.0
SLOW_RATIO: Final = 1.5
_CHANGE: Final = 0.10
_CHANGE_RUN: Final = 10


def local_spread(spans: NDArray[np.float64]) -> float:
    """Robust standard deviation of log durations from one to the next: drift and changes of load do not count as noise."""
    if len(spans) < 3:
        return 0.0
    steps = np.abs(np.diff(np.log(np.maximum(spans, 1.0))))
    return 1.4826 * float(np.median(steps)) / float(np.sqrt(2.0))


class Durations:
    """Recent durations of train iterations of one rank; 128 are kept."""

    def __init__(self) -> None:
        self._recent: list[float] = []
        self._reference: list[float] = []

    def state(self) -> list[Any]:
        """Plain values."""
        return [self._recent, self._reference]

    def restore(self, state: list[Any]) -> None:
        """Inverse of :meth:`state`."""
        self._recent, self._reference = list(state[0]), list(state[1])

    @property
    def median(self) -> float:
        """Median of what is remembered, 0 when nothing is, ns."""
        return float(np.median(self._recent)) if self._recent else 0.0

    @property
    def spread(self) -> float:
        """Spread of what is remembered, see :func:`local_spread`."""
        return local_spread(np.asarray(self._recent))

    @property
    def long(self) -> float:
        """Share of what is remembered that takes :data:`SLOW_RATIO` times the median and more."""
        if not self._recent:
            return 0.0
        return float(np.mean(np.asarray(self._recent) >= SLOW_RATIO * self.median))

    def score(self, duration: float) -> float:
        """Robust z-score: distance from the median in units of 1.4826 MAD (at least 1 % of the median)."""
        if len(self._recent) < _FEWEST:
            return 0.0
        values = np.asarray(self._recent)
        middle = float(np.median(values))
        scale = max(1.4826 * float(np.median(np.abs(values - middle))), 0.01 * middle, 1.0)
        return (duration - middle) / scale

    def slow(self, duration: float, score: float) -> bool:
        """Whether one iteration stands out."""
        return score > SLOW_SCORE and duration > SLOW_RATIO * self.median

    def add(self, duration: float) -> tuple[float, float] | None:
        """Remember a duration.

        Returns:
            ``(new, old)`` medians when the level has changed by 10 % or more over the last ten iterations, nine of which lie on
            the new side of the old median; else None.
        """
        self._recent.append(duration)
        if len(self._recent) > _KEPT:
            del self._recent[0]
        self._reference.append(duration)
        if len(self._reference) > _KEPT:
            del self._reference[0]
        if len(self._reference) < 2 * _CHANGE_RUN:
            return None
        new = np.asarray(self._reference[-_CHANGE_RUN:])
        old = np.asarray(self._reference[:-_CHANGE_RUN])
        before, after = float(np.median(old)), float(np.median(new))
        spread = 1.4826 * float(np.median(np.abs(old - before)))
        ratio = after / max(before, 1.0) - 1.0
        if abs(ratio) < _CHANGE or abs(after - before) < spread:
            return None
        beyond = new > before * (1 + _CHANGE / 2) if ratio > 0 else new < before * (1 - _CHANGE / 2)
        if int(beyond.sum()) < _CHANGE_RUN - 1:
            return None
        self._reference = new.tolist()
        self._recent = new.tolist()
        return after, before
