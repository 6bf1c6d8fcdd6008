"""Recurrence voting: what repeats in a token stream, and at which distances.

A short sequence of tokens that occurs once an iteration is a witness, and there are plenty. Distance is counted in tokens of
that thread, not in seconds, so wall-clock jitter does not matter. For every k-gram: how often, at which median distance, and
which share of its distances is near the median. Distances that many k-grams share are the levels of the loop nest.

Grouping sorts ``hash << 20 | place`` as plain integers, which numpy does with vector instructions; an argsort of the hashes
would take six times as long. Measured here: 4 M tokens/s.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

GRAMS: Final = (1, 2, 3, 6, 12, 32)
_PRIME: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = 0xBF58476D1CE4E5B9
_PLACE_BITS: Final = 20
MOST_TOKENS: Final = 1 << _PLACE_BITS
_NEAR: Final = 0.2
# Probability that exponential distances pass as steady, by their number (simulated),.
_CHANCE: Final = np.array([0, 0, 0.02, 0.018, 0.003, 0.0097, 0.002, 0.0003, 0.001, 0.0007, 0.0005, 0.0003, 0.0003, 0.0001, 0.0])
_OCTAVE: Final = 16
_LEVELS: Final = 10
_SMOOTH: Final = np.array([1.0, 2.0, 2.0, 2.0, 1.0]) / 2.0

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


class Keys(NamedTuple):
    """k-grams that recur steadily: ``hash u64``, ``times i64`` occurrences, ``gap f64`` median distance in tokens, ``steady f64``
    share of the distances near it, ``chance`` how many would seem to if occurrences were random, by
    the number of their distances, ``length`` tokens looked at."""

    hash: Hashes
    times: NDArray[np.int64]
    gap: NDArray[np.float64]
    steady: NDArray[np.float64]
    chance: NDArray[np.float64] = np.zeros(1)
    length: int = 0


class Candidate(NamedTuple):
    """A distance that many keys share.

    Attributes:
        period: Tokens.
        hashes: The keys, the best references first.
        cycles: Usual number of occurrences.
        alone: Share of the keys with a distance within an octave that agree on this one; by chance an eighth would.
        least: Share of the cycles that an anchor must occur in.
    """

    period: float
    hashes: Hashes
    cycles: float
    alone: float
    least: float = 0.4


def gram_hashes(tokens: NDArray[np.uint32]) -> list[Hashes]:
    """Hash of the k-gram that ends at each token, a column for each k; the first k - 1 places hold partial grams."""
    base = (tokens.astype(np.uint64) + np.uint64(1)) * _PRIME
    base ^= base >> np.uint64(29)
    out: list[Hashes] = []
    total, weight, width = np.zeros(len(tokens), np.uint64), 1, 0
    for k in GRAMS:
        for back in range(width, k):
            if back < len(tokens):
                total[back:] += base[: len(tokens) - back] * np.uint64(weight)
            weight = weight * _MIX & 0xFFFFFFFFFFFFFFFF
        width = k
        mixed = total + np.uint64(k)
        mixed ^= mixed >> np.uint64(31)
        mixed *= _PRIME
        mixed ^= mixed >> np.uint64(28)
        out.append(mixed)
    return out


def recurring(columns: list[Hashes], fewest: int = 4) -> Keys:
    """k-grams that recur steadily.

    Args:
        columns: From :func:`gram_hashes`, at most ``MOST_TOKENS`` long.
        fewest: Occurrences that a key needs.
    """
    n = len(columns[0])
    found: list[Keys] = []
    for k, column in zip(GRAMS, columns, strict=True):
        if n > 3 * k:
            found.append(_steady(column, fewest))
    if not found:
        return _NONE
    chance = np.zeros(len(_CHANCE))
    for keys in found:
        chance[: len(keys.chance)] += keys.chance
    return Keys(
        np.concatenate([keys.hash for keys in found]),
        np.concatenate([keys.times for keys in found]),
        np.concatenate([keys.gap for keys in found]),
        np.concatenate([keys.steady for keys in found]),
        chance,
        n,
    )


def grouped(column: Hashes, fewest: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Places]:
    """Places by hash: (first row of each group, its size, places), groups of ``fewest`` to ``most`` occurrences only."""
    n = len(column)
    low = np.uint64(MOST_TOKENS - 1)
    packed = (column & ~low) | np.arange(n, dtype=np.uint64)
    packed.sort()
    place = (packed & low).astype(np.int64)
    head = packed >> np.uint64(_PLACE_BITS)
    edge = np.flatnonzero(np.concatenate([[True], head[1:] != head[:-1]]))
    counts = np.diff(np.append(edge, n))
    often = (counts >= fewest) & (counts <= most)
    return edge[often], counts[often], place


def _steady(column: Hashes, fewest: int) -> Keys:
    n = len(column)
    edge, counts, place = grouped(column, fewest, max(n // 4, 4))
    if not len(edge):
        return _NONE
    sizes = counts - 1
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    group = np.repeat(np.arange(len(edge)), sizes)
    at = np.arange(int(sizes.sum())) - starts[group] + edge[group]
    gaps = place[at + 1] - place[at]
    ordered = (group << 21) | gaps
    ordered.sort()
    ordered &= (1 << 21) - 1
    middle = (ordered[starts + (sizes - 1) // 2] + ordered[starts + sizes // 2]) / 2.0
    near = np.abs(gaps - middle[group]) <= _NEAR * middle[group]
    hits = np.add.reduceat(near.astype(np.int64), starts)
    span = place[edge + counts - 1] - place[edge]
    steady = np.add.reduceat(np.where(near, gaps, 0), starts)
    needed = np.minimum(np.ceil(0.4 * sizes + 0.85 * np.sqrt(sizes)), sizes)
    keep = (middle >= 4) & (hits >= needed) & (span > 0.2 * n) & (steady >= 0.3 * span)
    hashes = column[place[edge]]
    chance = np.bincount(np.minimum(sizes, len(_CHANCE) - 1), minlength=len(_CHANCE)) * _CHANCE
    return Keys(hashes[keep], counts[keep], middle[keep], (hits / sizes)[keep], chance, n)


_NONE: Final = Keys(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0), np.empty(0))


def candidates(keys: Keys, most: int = _LEVELS) -> list[Candidate]:
    """Distances that keys share, the ones with most voters first; overlapping ones are left out."""
    if not len(keys.hash):
        return []
    bins = np.rint(np.log2(keys.gap) * _OCTAVE).astype(np.int64)
    height = np.convolve(np.bincount(bins, minlength=int(bins.max()) + 3).astype(np.float64), _SMOOTH, "same")
    expected = _expected(keys, len(height))
    least = np.maximum(2.0, 3.0 * np.sqrt(expected) + 1.5 * expected)
    found: list[Candidate] = []
    free = np.ones(len(height), bool)
    for peak in np.argsort(-height, kind="stable").tolist():
        if height[peak] < 2 or len(found) >= most:
            break
        if not free[peak] or height[peak] < least[peak]:
            continue
        free[max(0, peak - 3) : peak + 4] = False
        mine = np.flatnonzero(np.abs(bins - peak) <= 2)
        if len(mine) < 2:
            continue
        period, times = float(np.median(keys.gap[mine])), float(np.median(keys.times[mine]))
        unusual = np.rint(4 * np.abs(np.log2(keys.times[mine] / times)))
        order = np.lexsort((keys.hash[mine], -keys.steady[mine], unusual))
        around = int(np.count_nonzero(np.abs(bins - peak) <= _OCTAVE))
        found.append(Candidate(period, keys.hash[mine][order], times, len(mine) / around))
    return found


def rare_repeats(columns: list[Hashes], over: float) -> int:
    """How many long k-grams occur two or three times at one common distance above ``over`` tokens: an outer loop of which the
    stream holds too few turns to follow it."""
    gaps: list[NDArray[np.int64]] = []
    for column in columns[-2:]:
        edge, counts, place = grouped(column, 2, 3)
        gaps += [place[edge + 1] - place[edge], place[edge[counts == 3] + 2] - place[edge[counts == 3] + 1]] if len(edge) else []
    found = np.concatenate(gaps) if gaps else np.empty(0, np.int64)
    found = found[found > over]
    if not len(found):
        return 0
    height = np.bincount(np.rint(np.log2(found) * _OCTAVE).astype(np.int64))
    most = int(np.convolve(height, [1, 1, 1], "same").max())
    return most if most >= 0.5 * len(found) else 0


def _expected(keys: Keys, bins: int) -> NDArray[np.float64]:
    """Voters that chance alone would bring to each distance."""
    out = np.zeros(bins)
    for distances, many in enumerate(keys.chance.tolist()):
        if many:
            middle = int(np.log2(max(0.69 * keys.length / distances, 1.0)) * _OCTAVE)
            out[max(0, middle - _OCTAVE) : middle + _OCTAVE] += many / (2 * _OCTAVE)
    return out * float(_SMOOTH.sum())


def places_of(columns: list[Hashes], hashes: Hashes) -> tuple[Places, NDArray[np.intp]]:
    """Where anchors occur: token index and anchor number, by index.

    Args:
        columns: From :func:`gram_hashes`.
        hashes: Sorted.
    """
    where: list[Places] = []
    which: list[NDArray[np.intp]] = []
    table = np.zeros(1 << 16, bool)
    table[(hashes >> np.uint64(48)).astype(np.int64)] = True
    for column in columns:
        maybe = np.flatnonzero(table[(column >> np.uint64(48)).astype(np.int64)])
        some = column[maybe]
        at = np.searchsorted(hashes, some)
        at[at == len(hashes)] = 0
        hit = hashes[at] == some
        where.append(maybe[hit])
        which.append(at[hit])
    places, anchors = np.concatenate(where), np.concatenate(which)
    order = np.argsort(places, kind="stable")
    return places[order], anchors[order]
