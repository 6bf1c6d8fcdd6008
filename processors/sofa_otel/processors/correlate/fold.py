"""Fold: swarms and a resource brought to common units of time.

A resource finer than the iterations is averaged over them, and over five sections of each after realignment (Woody's averaging):
what a swarm does to a resource shows in one part of the iteration. A coarser resource keeps its own intervals, and the swarms'
time is collected into them: nothing is interpolated, which would invent autocorrelation.
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

BINS: Final = 25
SECTIONS: Final = 5
MAX_UNITS: Final = 1500
"""Longer runs are folded further: the power is there, and the report must not wait."""
_COVER: Final = 0.8
_SHIFT: Final = 5


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


def edges_for(time: SwarmTime, lane: Lane) -> tuple[Times, Times, str]:
    """Units that suit a lane, and how it relates to them: ``fine``, ``even`` or ``coarse``."""
    block = float(np.median(time.end_ns - time.start_ns))
    if lane.spacing_ns < 0.9 * block:
        start, end = time.start_ns, time.end_ns
        inside = (start >= lane.time_ns[0]) & (end <= lane.time_ns[-1])
        start, end = start[inside], end[inside]
        kind = "fine" if lane.spacing_ns <= block / SECTIONS else "even"
    else:
        start, end, kind = lane.time_ns[:-1], lane.time_ns[1:], "coarse"
    step = -(-len(start) // MAX_UNITS) if len(start) else 1
    if step > 1:
        whole = len(start) // step * step
        start, end = start[:whole:step], end[step - 1 : whole : step]
    return start, end, kind


def responses(lane: Lane, units: Units, kind: str) -> list[Floats]:
    """What is to be explained, one value a unit: the mean rate or value, then for fine lanes that of each section."""
    length = (units.end_ns - units.start_ns) / 1e9
    out = [(lane.total(units.end_ns) - lane.total(units.start_ns)) / length]
    if kind == "fine":
        profile = woody(_profile(lane, units.start_ns, units.end_ns))
        out += list(profile.reshape(len(length), SECTIONS, -1).mean(axis=2).T)
    return out


def _profile(lane: Lane, start_ns: Times, end_ns: Times) -> Floats:
    """Mean rate or value in each of ``BINS`` equal parts of a unit, ``(n, BINS)``."""
    part = np.arange(BINS + 1) / BINS
    span = end_ns - start_ns
    edges = start_ns[:, None] + (part[None, :] * span[:, None]).astype(np.int64)
    total = lane.total(edges.ravel()).reshape(edges.shape)
    rate: Floats = np.diff(total, axis=1) / (span[:, None] / 1e9 / BINS)
    return rate


def woody(profile: Floats, rounds: int = 3) -> Floats:
    """Rows realigned to their common shape by circular shifts of at most a fifth (Woody 1967); as they are without such a shape.

    Args:
        profile: ``(n, BINS)``.
    """
    rows, bins = np.arange(len(profile))[:, None], np.arange(profile.shape[1])[None, :]
    centred = profile - profile.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, axis=1)
    allowed = np.r_[0 : _SHIFT + 1, profile.shape[1] - _SHIFT : profile.shape[1]]
    aligned, shift = centred, np.zeros(len(profile), np.int64)
    for _ in range(rounds):
        template = np.conj(np.fft.rfft(aligned.mean(axis=0)))
        match = np.fft.irfft(spectrum * template, n=profile.shape[1], axis=1)[:, allowed]
        shift = allowed[np.argmax(match, axis=1)]
        aligned = centred[rows, (bins + shift[:, None]) % profile.shape[1]]
    power = float((centred**2).sum()) or 1.0
    before = len(profile) * float((centred.mean(axis=0) ** 2).sum()) / power
    after = len(profile) * float((aligned.mean(axis=0) ** 2).sum()) / power
    # Even pure noise gains a little by alignment; only a shape that is really there gains much.
    return profile[rows, (bins + shift[:, None]) % profile.shape[1]] if after > before + 0.2 else profile
