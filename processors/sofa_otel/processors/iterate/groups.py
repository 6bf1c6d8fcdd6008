"""Groups: does a known inner loop turn a fixed number of times in a loop around it?

Gradient accumulation leaves few traces: a handful of optimiser calls every n micro-batches, whose distance in tokens noise
blurs, and half of which noise takes away. Counted in turns of the inner loop their distances are whole multiples of n all the
same, and by chance only one in n would be.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.processors.iterate.anchors import Floats
from sofa_otel.processors.iterate.learn import Candidate, Hashes, grouped

_GRAMS: Final = 4
_MOST_TURNS: Final = 16
_MOST_EXACT: Final = 128
_SHARE: Final = 0.72
_SURE: Final = 4.0


def around(columns: list[Hashes], centres: Floats) -> Candidate | None:
    """The loop around an inner one, as a candidate; None when no number of turns stands out.

    Args:
        columns: k-gram hashes.
        centres: Boundaries of the inner loop, token positions.
    """
    cycles = len(centres)
    hashes: list[Hashes] = []
    turns: list[NDArray[np.int64]] = []
    weight: list[Floats] = []
    for column in columns[:_GRAMS]:
        edge, counts, place = grouped(column, 4, max(4, int(0.7 * cycles)))
        if not len(edge):
            continue
        sizes = counts - 1
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        group = np.repeat(np.arange(len(edge)), sizes)
        at = np.arange(int(sizes.sum())) - starts[group] + edge[group]
        turn = np.searchsorted(centres, place, side="right")
        gap = turn[at + 1] - turn[at]
        group, gap = group[gap > 0], gap[gap > 0]
        best, consistent = _turns(group, gap, len(edge), cycles)
        keep = best > 0
        hashes.append(column[place[edge[keep]]])
        turns.append(best[keep])
        weight.append(consistent[keep])
    if not hashes:
        return None
    all_hashes, all_turns, all_weight = np.concatenate(hashes), np.concatenate(turns), np.concatenate(weight)
    if len(all_hashes) < 2:
        return None
    votes = np.bincount(all_turns, all_weight)
    best_turns = int(np.argmax(votes))
    mine = np.flatnonzero(all_turns == best_turns)
    if len(mine) < 2 or votes[best_turns] < 0.4 * votes.sum():
        return None
    order = mine[np.lexsort((all_hashes[mine], -all_weight[mine]))]
    alone = float(votes[best_turns] / votes.sum())
    return Candidate(_span(centres, best_turns), all_hashes[order], cycles / best_turns, alone, 0.25)


def _turns(
    group: NDArray[np.int64], gap: NDArray[np.int64], count: int, cycles: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(turns of each group or 0, distances that agree with it); ``group`` is sorted."""
    steps = np.bincount(group, minlength=count)
    best, consistent = np.zeros(count, np.int64), np.zeros(count)
    many = _exact(group, gap, steps)
    hits = np.bincount(group[gap == many[group]], minlength=count)
    good = (many > _MOST_TURNS) & (many <= _MOST_EXACT) & (3 * many <= cycles)
    good &= (hits >= 3) & (hits >= _SHARE * steps) & (steps * many >= 0.25 * cycles)
    best[good], consistent[good] = many[good], hits[good]
    divides = _DIVIDES[np.minimum(gap, len(_DIVIDES) - 1)]
    for turns in range(min(_MOST_TURNS, cycles // 3), 1, -1):
        hits = np.bincount(group[(divides >> np.uint32(turns)) & np.uint32(1) == 1], minlength=count)
        chance = 1.0 / turns
        sure = hits - steps * chance >= _SURE * np.sqrt(steps * chance * (1 - chance))
        good = (best == 0) & (hits >= 3) & (hits >= _SHARE * steps) & sure & (steps * turns >= 0.25 * cycles)
        best[good], consistent[good] = turns, hits[good]
    return best, consistent


def _exact(group: NDArray[np.int64], gap: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Median distance of each group, 0 where there is none."""
    ordered = (group << 21) | np.minimum(gap, (1 << 21) - 1)
    ordered.sort()
    first = np.concatenate([[0], np.cumsum(steps)[:-1]])
    out = np.zeros(len(steps), np.int64)
    some = steps > 0
    out[some] = ordered[first[some] + (steps[some] - 1) // 2] & ((1 << 21) - 1)
    return out


# For each distance up to 4,096 the bits of the numbers that divide it; 0 for anything longer.
_DIVIDES: Final = np.zeros(4097, np.uint32)
for _turn in range(2, _MOST_TURNS + 1):
    _DIVIDES[_turn:4096:_turn] |= np.uint32(1 << _turn)


def _span(centres: Floats, turns: int) -> float:
    """Usual tokens of so many turns."""
    if len(centres) <= turns:
        return float(np.median(np.diff(centres))) * turns
    return float(np.median(centres[turns:] - centres[:-turns]))
