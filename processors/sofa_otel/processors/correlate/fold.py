"""Fold: swarms and a resource brought to common units of time.

A resource finer than the iterations is averaged over them. A coarser one keeps its own intervals, and the time of the swarms is
collected into them: nothing is interpolated, which would invent autocorrelation. Sections of an iteration are not used: a swarm
that takes longer moves all that comes after it and gets the credit (measured on planted graphs: precision .71 instead of 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.processors.correlate.lanes import Lane
from sofa_otel.processors.correlate.swarm_time import SwarmTime

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

MAX_UNITS: Final = 1500
"""Longer runs are folded further: the power is there, and the report must not wait."""
_COVER: Final = 0.8


@dataclass(frozen=True)
class Units:
    """Consecutive stretches of time and what the swarms did in them.

    Attributes:
        start_ns, end_ns: ``(n,)``; ``end[i] == start[i + 1]`` unless something lies between.
        valid: ``(n,)`` Whether the unit holds training iterations.
        linked: ``(n,)`` Whether the unit follows the one before without a gap.
        seconds: ``(n, swarms)`` Mean time per iteration.
        share: ``(n, swarms)`` Fraction of the covered time.
        iterations: In all valid units.
    """

    start_ns: Times
    end_ns: Times
    valid: NDArray[np.bool_]
    linked: NDArray[np.bool_]
    seconds: Floats
    share: Floats
    iterations: float

    @property
    def length_s(self) -> float:
        """Typical length of a unit."""
        return float(np.median(self.end_ns - self.start_ns)) / 1e9


def units_of(time: SwarmTime, start_ns: Times, end_ns: Times) -> Units:
    """Swarm time collected into given units."""
    used, count, covered = (b - a for a, b in zip(time.until(start_ns), time.until(end_ns), strict=True))
    length = (end_ns - start_ns) / 1e9
    valid = (covered >= _COVER * length) & (count > 0) & (length <= 3 * np.median(length))
    share = used / np.where(covered > 0, covered, 1.0)[:, None]
    seconds = used / np.where(count > 0, count, 1.0)[:, None]
    linked = np.concatenate([[False], (start_ns[1:] - end_ns[:-1]) / 1e9 <= 0.5 * np.median(length)])
    return Units(start_ns, end_ns, valid, linked, seconds, share, float(count[valid].sum()))


def edges_for(time: SwarmTime, lane: Lane) -> tuple[Times, Times]:
    """Starts and ends of the units that suit a lane: the blocks of iterations, or its own intervals when those are longer."""
    block = float(np.median(time.end_ns - time.start_ns))
    if lane.spacing_ns < 0.9 * block:
        inside = (time.start_ns >= lane.time_ns[0]) & (time.end_ns <= lane.time_ns[-1])
        start, end = time.start_ns[inside], time.end_ns[inside]
    else:
        start, end = lane.time_ns[:-1], lane.time_ns[1:]
    step = max(-(-len(start) // MAX_UNITS), 1)
    whole = len(start) // step * step
    return start[:whole:step], end[step - 1 : whole : step]


def response(lane: Lane, units: Units) -> Floats:
    """What is to be explained, one value a unit: a counter's rate, or the mean of a value."""
    rate: Floats = (lane.total(units.end_ns) - lane.total(units.start_ns)) / ((units.end_ns - units.start_ns) / 1e9)
    return rate
