"""VotedLevel: one loop level of a token stream, measured; and the question which level is the step.

A model with 24 equal layers has a strong inner rhythm, gradient accumulation an inner loop that fills the step almost wholly,
and epochs or validation an outer one. Names decide where they can: an optimiser runs once a step. Where names say nothing, an
inner loop that leaves a good part of the time around it unexplained is a part of a step; one that fills it is a micro-batch
when its turns are constant and few and what lies between two groups is short (an optimiser, not a validation).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.processors.iterate.anchors import Anchors, Floats, anchored, boundaries, cycle_fractions, moved, times_at
from sofa_otel.processors.iterate.anomaly import local_spread
from sofa_otel.processors.iterate.groups import around
from sofa_otel.processors.iterate.learn import Hashes, candidates, gram_hashes, places_of, rare_repeats, recurring

_LONG: Final = 2.5
_FILLS: Final = 0.7
_FULL: Final = 0.85
_LEAST: Final = 0.5
_LEAST_NAMED: Final = 0.3
_BASE_VOTERS: Final = 0.15
_ERRATIC: Final = 0.8
_CONSTANT: Final = 0.6
_CONSTANT_FEW: Final = 0.75
_SOME: Final = 10
_MOST_INNER: Final = 16
_NEAR_LEVEL: Final = 20
_MOST_NAMED: Final = 128
_LAYER_NS: Final = 12e6
_INSIDE_NS: Final = 3e6
_BINS: Final = 64


class VotedLevel(NamedTuple):
    """A level with its cycles.

    Attributes:
        anchors: What finds it again.
        places: Boundaries, token positions.
        ends: The same in event time, ns.
        period_ns: Median cycle.
        covered: Share of the stream's time, from the first boundary of any level on, that its cycles fill.
        spread: Variation of the durations from one to the next.
        optimiser: Share of the cycles in which an optimiser ran; -1 when the stream names none.
        loads: Share of the cycles with input from the host or the loader; -1 when the stream names none.
    """

    anchors: Anchors
    places: Floats
    ends: NDArray[np.int64]
    period_ns: float
    covered: float
    spread: float
    optimiser: float
    loads: float


class Nest(NamedTuple):
    """Levels of a stream, inner ones first, the number of the step's, and what speaks for the choice.

    Attributes:
        inner: Cycles of the level inside that make up one of the step's, 0 without one.
        rivals: Levels up to twenty times as fast or slow that fill the time as well and were not taken.
        distinct: Different tokens in the stream.
    """

    levels: list[VotedLevel]
    step: int
    inner: float
    rivals: int
    distinct: int
    reason: str = ""


def nest(
    tokens: NDArray[np.uint32],
    times: NDArray[np.int64],
    optimiser: NDArray[np.bool_],
    loads: NDArray[np.bool_],
    fewest: int,
    *,
    repeats: bool = True,
) -> Nest:
    """Levels of a stream and the choice.

    Args:
        tokens, times: The stream.
        optimiser, loads: Tokens with that role.
        fewest: Occurrences a witness needs.
        repeats: Whether long passages that come back two or three times speak for a loop around (not so for system calls: a
            few names, and much that is done a few times).
    """
    columns = gram_hashes(tokens)
    found: list[VotedLevel] = []
    tried = candidates(recurring(columns, fewest))
    if not tried:
        return Nest([], -1, 0, 0, 0)
    strongest = max(tried, key=lambda candidate: len(candidate.hashes))
    for candidate in tried:
        if candidate.period < strongest.period and len(candidate.hashes) < 0.08 * len(strongest.hashes):
            continue  # a chance rhythm inside
        fit = anchored(columns, candidate)
        if fit is None or len(fit[1]) < fewest:
            continue
        found.append(_measured(columns, times, *fit, optimiser, loads))
    found.sort(key=lambda level: level.period_ns)
    found = _distinct(found)
    if not found:
        return Nest([], -1, 0, 0, 0)
    distinct = len(np.unique(tokens))
    chosen = choose(_weighed(found, times), distinct)
    for _ in range(2):
        if chosen.step < 0 or chosen.levels[chosen.step].optimiser >= 0.7:
            break
        inner = chosen.levels[chosen.step]
        outer = around(columns, inner.places)
        if outer is None or any(abs(level.anchors.period / outer.period - 1) < 0.06 for level in chosen.levels):
            break
        fit = anchored(columns, outer)
        if fit is None or len(fit[1]) < fewest:
            break
        more = [*chosen.levels, _measured(columns, times, *fit, optimiser, loads)]
        chosen = choose(_weighed(_distinct(sorted(more, key=lambda level: level.period_ns)), times), distinct)
    if chosen.step >= 0:
        step = chosen.levels[chosen.step]
        loose = step.covered < _FULL and step.optimiser < 0.7 and not chosen.inner and repeats
        if loose and rare_repeats(columns, 3 * step.anchors.period) >= max(20.0, 0.3 * step.anchors.voters):
            return chosen._replace(step=-1, reason="too few turns of the loop around the one that recurs")
    return chosen


def _weighed(levels: list[VotedLevel], times: NDArray[np.int64]) -> list[VotedLevel]:
    begin = min(int(level.ends[0]) for level in levels)
    whole = max(float(times[-1] - begin), 1.0)
    return [level._replace(covered=min(_covered(level, begin, int(times[-1])) / whole, 1.0)) for level in levels]


def choose(levels: list[VotedLevel], distinct: int) -> Nest:
    """Which of the levels (inner ones first) is the step."""
    best = max(level.covered for level in levels)
    enough = _BASE_VOTERS * max(level.anchors.voters for level in levels)
    step, inner = -1, 0.0
    for number, level in enumerate(levels):
        if step < 0:
            named = level.optimiser >= 0.7
            open_ = level.covered < (_LEAST_NAMED if named else _LEAST) or level.spread > _ERRATIC
            if open_ or level.anchors.voters < enough or (not named and _is_part(level, levels[number + 1 :])):
                continue
            step = number
            continue
        turns = _outwards(levels[step], level)
        if turns:
            step, inner = number, turns
    if step < 0:
        return Nest(levels, -1, 0, 0, distinct, f"what recurs fills {best:.0%} of the time")
    mine = levels[step]
    rivals = sum(
        level.anchors.voters >= enough and level.covered > 0.7 * mine.covered and not _is_part(level, [mine])
        for level in levels
        if level is not mine and 1 / _NEAR_LEVEL < level.period_ns / mine.period_ns < _NEAR_LEVEL
    )
    return Nest(levels, step, inner, rivals, distinct)


def _is_part(level: VotedLevel, outer: list[VotedLevel]) -> bool:
    """Whether cycles of ``level`` leave much of an outer level's time open: then it is a loop inside of a phase of a step."""
    for frame in outer:
        if frame.covered < 0.5 or frame.period_ns < 1.5 * level.period_ns:
            continue
        low, high = int(frame.ends[0]), int(frame.ends[-1])
        within = level.ends[(level.ends >= low) & (level.ends <= high)]
        if _filled(within, level.period_ns) < _FILLS * (high - low):
            return True
    return False


def _outwards(inner: VotedLevel, outer: VotedLevel) -> float:
    """Cycles of ``inner`` in one of ``outer`` when ``outer`` rather than ``inner`` is the step, else 0."""
    if outer.covered < _FILLS * inner.covered or outer.period_ns < 1.5 * inner.period_ns:
        return 0.0
    # Counted in fractions of turns: the two boundaries nearly coincide, and whole turns would come out one too few or too many.
    counts = np.diff(np.interp(outer.ends, inner.ends, np.arange(len(inner.ends))))
    usual = float(np.rint(np.median(counts)))
    slips = np.abs(counts - usual * np.maximum(np.rint(counts / max(usual, 1.0)), 1.0))
    constant = float(np.mean(slips <= max(0.5, 0.03 * usual)))
    if inner.optimiser >= 0.7:
        return 0.0
    if outer.optimiser >= 0.7 and inner.optimiser < 0.7:
        return usual if usual <= _MOST_NAMED else 0.0
    typical = np.abs(counts - usual) <= 0.5
    extra = float(np.median(np.diff(outer.ends)[typical])) / inner.period_ns - usual if typical.any() else 1.0
    if constant < (_CONSTANT if len(counts) >= _SOME else _CONSTANT_FEW) or extra < -0.6:
        return 0.0
    if inner.period_ns < _INSIDE_NS and inner.loads < 0.5 and constant >= 0.8 and usual >= 3:
        return usual  # so short that it is a layer
    if extra > 0.7:
        return 0.0
    layers = inner.period_ns < _LAYER_NS and inner.loads < 0.5 and constant >= 0.8
    return usual if usual <= _MOST_INNER or layers else 0.0


def _filled(ends: NDArray[np.int64], period: float) -> float:
    gaps = np.diff(ends)
    return float(gaps[gaps <= _LONG * period].sum())


def _covered(level: VotedLevel, begin: int, end: int) -> float:
    """Time in cycles that are usual in length or, however slow, in what happens in them; and in the cut ones at both edges."""
    gaps = np.diff(level.ends)
    usual = np.abs(np.diff(level.places) / level.anchors.period - 1) < 0.15
    edges = min(float(level.ends[0] - begin), level.period_ns) + min(float(end - level.ends[-1]), level.period_ns)
    return float(gaps[usual | (gaps <= _LONG * level.period_ns)].sum()) + edges


def _distinct(levels: list[VotedLevel]) -> list[VotedLevel]:
    """Without levels that turned out to be the same; the one with more voters stays."""
    out: list[VotedLevel] = []
    for level in levels:
        if out and level.period_ns < 1.15 * out[-1].period_ns:
            if level.anchors.voters > out[-1].anchors.voters:
                out[-1] = level
            continue
        out.append(level)
    return out


def _measured(
    columns: list[Hashes],
    times: NDArray[np.int64],
    anchors: Anchors,
    centres: Floats,
    optimiser: NDArray[np.bool_],
    loads: NDArray[np.bool_],
) -> VotedLevel:
    share = _share(optimiser, centres)
    cut = _after_optimiser(optimiser, centres) if share >= 0.7 else _widest(times, centres)
    if cut:
        anchors = moved(anchors, cut)
        places, which = places_of(columns, anchors.hashes)
        again, _ = boundaries(places - anchors.phases[which], anchors.period, anchors.heard)
        if len(again) >= len(centres) - 1:
            centres = again
    ends = times_at(centres, 0, times)
    gaps = np.diff(ends).astype(np.float64)
    period = max(float(np.median(gaps)), 1.0)
    return VotedLevel(
        anchors, centres, ends, period, 0.0, local_spread(gaps[gaps < _LONG * period]), share, _share(loads, centres)
    )


def _share(role: NDArray[np.bool_], centres: Floats) -> float:
    """Share of the cycles that hold a token of a role."""
    at = np.flatnonzero(role)
    if not len(at):
        return -1.0
    cycle, _ = cycle_fractions(at, centres)
    return len(np.unique(cycle[cycle >= 0])) / max(len(centres) - 1, 1)


def _after_optimiser(role: NDArray[np.bool_], centres: Floats) -> float:
    """Fraction of the cycle at which the optimiser has ended."""
    cycle, fraction = cycle_fractions(np.flatnonzero(role), centres)
    bins = (fraction[cycle >= 0] * _BINS).astype(np.int64) % _BINS
    busy = np.flatnonzero(np.bincount(bins, minlength=_BINS) >= 0.25 * (len(centres) - 1))
    if not len(busy):
        return 0.0
    gaps = np.diff(np.append(busy, busy[0] + _BINS))
    last = int(busy[np.argmax(gaps)])
    inside = fraction[cycle >= 0]
    return float(np.median(inside[bins == last])) + 0.5 / max(float(np.median(np.diff(centres))), 1.0)


def _widest(times: NDArray[np.int64], centres: Floats) -> float:
    """Fraction of the cycle at which most time passes, above all in slow cycles: waiting for input, validation, checkpoints."""
    gaps = np.diff(centres)
    usual = float(np.median(gaps))
    begin = centres[:-1][(gaps > 0.5 * usual) & (gaps < 1.6 * usual)]
    if len(begin) < 2:
        return 0.0
    grid = begin[:, None] + usual * np.arange(_BINS + 1) / _BINS
    at = np.clip(np.ceil(grid), 0, len(times) - 1).astype(np.int64)
    spent = np.diff(times[at], axis=1).astype(np.float64)
    slow = np.sort(spent, axis=0)[-max(1, len(begin) // 20) :].mean(0) + spent.mean(0)
    return float(np.argmax(slow)) / _BINS
