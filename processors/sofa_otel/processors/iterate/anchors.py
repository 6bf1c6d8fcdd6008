"""Anchors: the steadiest witnesses of one loop level, their place in the cycle, and the cycles that they tell.

Every occurrence of an anchor says "a cycle began this many tokens ago". Votes are summed in bins of a 48th of a period; peaks
that are at least .55 periods apart and a third of the usual height are boundaries. The places of the anchors are then measured
again inside the cycles found, as fractions, so that cycles of varying length do not blur them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.processors.iterate.learn import Candidate, Hashes, Places, places_of

MOST_ANCHORS: Final = 64
APART: Final = 0.55
_BINS: Final = 48
_HIGH: Final = 0.6
_LOW: Final = 0.33
_LOWER: Final = 0.4
_DUE: Final = 5
_FEW: Final = 8
_TRIED: Final = 192
_LEAST_TRIED: Final = 24
_KERNEL: Final = np.array([1.0, 2.0, 3.0, 2.0, 1.0])

Floats = NDArray[np.float64]


class Anchors(NamedTuple):
    """One level of a stream.

    Attributes:
        hashes: k-gram hashes that occur once a cycle, sorted, ``u64``.
        phases: Their place relative to the boundary, tokens, in (-period / 2, period / 2].
        period: Tokens a cycle.
        voters: Keys that agreed on the period.
        cycles: Boundaries seen.
        support: Share of the anchors that a usual cycle holds at their place.
        alone: Share of the keys with a distance within an octave that agree on this one.
    """

    hashes: Hashes
    phases: Floats
    period: float
    voters: int
    cycles: float
    support: float
    alone: float

    @property
    def heard(self) -> float:
        """Anchors that a usual cycle holds."""
        return max(len(self.hashes) * self.support, 1.0)


def boundaries(places: Floats, period: float, voters: float = 1.0) -> tuple[Floats, Floats]:
    """Peaks of the votes: (position in tokens, height).

    Where many anchors vote, a boundary with half of the usual votes is not one (a validation pass has only the forward part);
    where few do, chance alone takes half of them away. A lower peak counts where a boundary is due.

    Args:
        places: Votes.
        period: Tokens.
        voters: Anchors that a cycle holds.
    """
    if not len(places):
        return np.empty(0), np.empty(0)
    width = period / _BINS
    first = float(places.min())
    bins = ((places - first) / width).astype(np.int64)
    smooth = np.convolve(np.bincount(bins).astype(np.float64), _KERNEL, "same")
    if len(smooth) < len(_KERNEL):
        return np.array([float(np.median(places))]), np.array([float(len(places))])
    usual = float(np.quantile(smooth[smooth > 0], 0.9))
    least = usual * float(np.clip(_HIGH - 0.9 / np.sqrt(voters), _LOW, _HIGH))
    rising = np.concatenate([[True], smooth[1:] >= smooth[:-1]]) & np.concatenate([smooth[:-1] >= smooth[1:], [True]])
    peaks = np.flatnonzero(rising & (smooth >= least))
    order = peaks[np.lexsort((peaks, -smooth[peaks]))]
    used = np.zeros(len(smooth), bool)
    reach = int(APART * _BINS)
    taken: list[int] = []
    for at in order.tolist():
        if not used[at]:
            taken.append(at)
            used[max(0, at - reach) : at + reach + 1] = True
    chosen = _with_due(np.array(sorted(taken), np.int64), smooth, least if voters >= _FEW else 0.0)
    ordered = np.sort(places)
    low = np.searchsorted(ordered, first + (chosen - 2) * width)
    high = np.maximum(np.searchsorted(ordered, first + (chosen + 3) * width), low + 1)
    low, high = np.minimum(low, len(ordered) - 1), np.minimum(high, len(ordered))
    centres = (ordered[(low + high - 1) // 2] + ordered[np.minimum((low + high) // 2, len(ordered) - 1)]) / 2
    silent = smooth[chosen] <= 0
    centres[silent] = first + (chosen[silent] + 0.5) * width
    return centres, smooth[chosen]


def _with_due(chosen: NDArray[np.int64], smooth: Floats, least: float) -> NDArray[np.int64]:
    """Peaks, and lower ones where two to four periods lie between two peaks and a boundary is due.

    With ``least`` 0 a boundary without any vote is put there: few anchors are close together, and lost together.
    """
    ratio = np.diff(chosen) / _BINS
    slack = 0.12 if least else 0.06
    more: list[int] = []
    for number in np.flatnonzero((ratio > 1.7) & (ratio < 4.3)).tolist():
        turns = round(ratio[number])
        if abs(ratio[number] - turns) > slack * turns:
            continue
        for turn in range(1, turns):
            due = int(chosen[number] + (chosen[number + 1] - chosen[number]) * turn / turns)
            near = smooth[due - _DUE : due + _DUE + 1]
            if near.max() >= _LOWER * least:
                more.append(due - _DUE + int(np.argmax(near)) if near.max() > 0 else due)
    return np.sort(np.concatenate([chosen, np.array(more, np.int64)])) if more else chosen


def times_at(places: Floats, base: int, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Event times of (fractional) token positions; the next token's end, so a boundary is never inside an event."""
    index = np.clip(np.ceil(places - base - 1e-6), 0, len(times) - 1).astype(np.int64)
    return times[index]


def anchored(columns: list[Hashes], candidate: Candidate) -> tuple[Anchors, Floats] | None:
    """Anchors of a candidate and its boundaries (token positions); None when the keys do not agree on an order."""
    per_cycle = len(columns[0]) / max(candidate.cycles, 1.0)
    tried = candidate.hashes[: int(np.clip(per_cycle, _LEAST_TRIED, _TRIED))]  # no more votes than there are tokens
    hashes = np.sort(tried)
    places, which = places_of(columns, hashes)
    if len(places) < 6:
        return None
    reference = int(np.searchsorted(hashes, tried[0]))
    marks = places[which == reference]
    nearest = np.clip(np.searchsorted(marks, places, side="right") - 1, 0, None)
    fraction = ((places - marks[nearest]) / candidate.period) % 1.0
    good, where, _ = _order(fraction, which, len(hashes), 0.75)
    if len(good) < 2:
        return None
    phase = np.where(where > 0.5, where - 1, where) * candidate.period
    chosen, renumbered = _only(which, good, len(hashes))
    centres, _ = boundaries(places[chosen] - phase[renumbered], candidate.period, len(good))
    if len(centres) < 3:
        return None
    for _ in range(2):
        fit = _refit(places, which, hashes, centres, candidate.least)
        if fit is None:
            return None
        good, phase, period, support = fit
        chosen, renumbered = _only(which, good, len(hashes))
        centres, _ = boundaries(places[chosen] - phase[renumbered], period, len(good) * support)
        if len(centres) < 3:
            return None
    anchors = Anchors(hashes[good], phase, period, len(candidate.hashes), float(len(centres)), support, candidate.alone)
    return anchors, centres


def moved(anchors: Anchors, fraction: float) -> Anchors:
    """The same anchors with the boundary ``fraction`` of a cycle later."""
    phases = (anchors.phases / anchors.period - fraction) % 1.0
    return anchors._replace(phases=np.where(phases > 0.5, phases - 1, phases) * anchors.period)


def cycle_fractions(places: NDArray[np.int64] | Floats, centres: Floats) -> tuple[NDArray[np.int64], Floats]:
    """(cycle, fraction of it) of token positions; the cycle is -1 outside of ordinary cycles."""
    gaps = np.diff(centres)
    usual = float(np.median(gaps))
    cycle = np.searchsorted(centres, places, side="right") - 1
    inside = (cycle >= 0) & (cycle < len(gaps))
    at = np.clip(cycle, 0, len(gaps) - 1)
    inside &= (gaps[at] > 0.5 * usual) & (gaps[at] < 1.6 * usual)
    return np.where(inside, cycle, -1), (places - centres[at]) / gaps[at]


def _refit(
    places: Places, which: NDArray[np.intp], hashes: Hashes, centres: Floats, least: float
) -> tuple[NDArray[np.intp], Floats, float, float] | None:
    """Anchors measured in the cycles found: (their numbers, phases in tokens, period, support)."""
    period = float(np.median(np.diff(centres)))
    cycle, fraction = cycle_fractions(places, centres)
    inside = cycle >= 0
    if not inside.any():
        return None
    cycles = len(np.unique(cycle[inside]))
    good, where, share = _order(fraction[inside], which[inside], len(hashes), 0.8, cycles, least)
    if len(good) < 2:
        return None
    best = np.sort(np.lexsort((good, -np.rint(10 * share)))[:MOST_ANCHORS])
    where = where[best]
    phase = np.where(where > 0.5, where - 1, where) * period
    return good[best], phase, period, float(np.mean(np.minimum(share[best], 1.0)))


def _order(
    fraction: Floats, which: NDArray[np.intp], count: int, tight: float, cycles: int = 0, least: float = 0.0
) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Anchors with a steady place in the cycle: (numbers, place as a fraction, occurrences a cycle)."""
    angle = fraction * (2 * np.pi)
    times = np.bincount(which, minlength=count)
    sine, cosine = np.bincount(which, np.sin(angle), count), np.bincount(which, np.cos(angle), count)
    length = np.hypot(sine, cosine) / np.maximum(times, 1)
    share = times / max(cycles, 1)
    keep = length > tight
    if cycles:
        keep &= (share >= least) & (share <= 1.7)
    good = np.flatnonzero(keep)
    where = (np.arctan2(sine, cosine)[good] / (2 * np.pi)) % 1.0
    return good, where, share[good]


def _only(which: NDArray[np.intp], good: NDArray[np.intp], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the anchors ``good`` and those anchors' new numbers."""
    number = np.full(count, -1, np.int64)
    number[good] = np.arange(len(good))
    chosen = np.flatnonzero(number[which] >= 0)
    return chosen, number[which[chosen]]
