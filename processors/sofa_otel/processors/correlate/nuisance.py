"""Nuisance: what two series share without one moving the other (trends, slow drift, periodic work, memory of their past).

Everything here is decided on the response alone and then applied to both sides alike, so that a least-squares estimate stays what
it was (Frisch-Waugh-Lovell) while its test becomes valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MAX_COMBS: Final = 4
_MAX_HARMONICS: Final = 16
_TEETH: Final = [0, 1, 3, 7, 15]
"""Combs are tried with 1, 2, 4, 8 and 16 teeth."""


def clip(x: Floats) -> Floats:
    """Columns with outliers pulled in to 3.5 robust standard deviations, so that no single unit decides."""
    centre = np.median(x, axis=0)
    away = np.abs(x - centre)
    bound = np.maximum(3.5 * 1.4826 * np.median(away, axis=0), np.quantile(away, 0.9, axis=0))
    return np.asarray(np.clip(x, centre - bound, centre + bound), np.float64)


def slow(n: int, count: int) -> Floats:
    """The constant and the ``count`` slowest cosines of a series of length ``n``, as columns."""
    at = (np.arange(n) + 0.5) / n
    return np.cos(np.pi * at[:, None] * np.arange(count + 1)[None, :])


class Rhythm(NamedTuple):
    """Something that repeats: its fundamental as an index of the padded periodogram, and how many teeth its comb has."""

    base: int
    teeth: int


def combs(y: Floats, hints: Sequence[Rhythm] = ()) -> tuple[Floats, list[Rhythm]]:
    """Sine and cosine columns of whatever repeats in ``y`` (none: ``(n, 0)``): a wave, or a burst with its harmonics.

    The sum of a comb's periodogram ordinates, each against the median around it, is held against a Gamma distribution; the best
    comb of all fundamentals must be rarer than 1 in 500 series.

    Args:
        y: ``(n,)``.
        hints: Rhythms that other series of the same length are known to have; these need no search, so 1 in 20 suffices.

    Returns:
        The columns, and the rhythms that were found without a hint.
    """
    from scipy.stats import gamma

    n = len(y)
    at, taper, width = np.arange(n), np.hanning(n), max(n // 20, 6)
    size = 1 << (4 * n - 1).bit_length()
    base = np.arange(max(int(3 * size / n), 1), size // 2)
    harmonics = np.arange(1, _MAX_HARMONICS + 1)[:, None] * base[None, :]
    inside = harmonics < size  # a short burst's harmonics come back from beyond Nyquist's frequency, once
    harmonics = np.where(inside, np.minimum(harmonics, np.abs(size - harmonics)), 0)
    count = np.cumsum(inside, axis=0)
    columns: list[Floats] = []
    found: list[Rhythm] = []
    left, waiting = y - y.mean(), list(hints)
    while len(columns) < n // 8:
        ratio = _ratio(left * taper, size, width)
        total = np.cumsum(np.where(inside, ratio[harmonics], 0.0), axis=0)[_TEETH]
        # Among combs of as many teeth the largest sum is the rarest: few tail probabilities are needed.
        peaks = [
            (row, int(where[np.argmax(total[row, where])]))
            for row, level in enumerate(_TEETH)
            for where in (np.flatnonzero(count[level] == have) for have in range(1, level + 2))
            if len(where)
        ]
        rarity = [-gamma.logsf(total[peak], count[_TEETH[peak[0]], peak[1]]) for peak in peaks]
        teeth, best = peaks[int(np.argmax(rarity))]
        if len(found) < _MAX_COMBS and max(rarity) >= np.log(2 * n * len(_TEETH) * 500):
            found.append(Rhythm(int(base[best]), teeth))
        else:
            spots = [(hint, hint.teeth, int(hint.base - base[0])) for hint in waiting]
            present = [s for s in spots if gamma.sf(total[s[1:]], count[_TEETH[s[1]], s[2]]) <= 0.05]
            if not present:
                break
            hint, teeth, best = present[0]
            waiting.remove(hint)
        for j in range(int(count[_TEETH[teeth], best])):
            if ratio[harmonics[j, best]] > 2 and len(columns) < n // 8:
                omega = 2 * np.pi * harmonics[j, best] / size
                columns += [np.cos(omega * at), np.sin(omega * at)]
        if columns:
            left = remove(np.column_stack([np.ones(n), *columns]), y)
    return np.column_stack(columns) if columns else np.zeros((n, 0)), found


def common(rhythms: Sequence[Rhythm], most: int = 6) -> list[Rhythm]:
    """The rhythms that most series share, neighbours (1 %) counted as one."""
    out: list[tuple[int, Rhythm]] = []
    for one in sorted(rhythms, key=lambda r: (-r.teeth, r.base)):
        if all(abs(one.base - other.base) > max(0.01 * one.base, 2) for _, other in out):
            out.append((sum(abs(one.base - other.base) <= max(0.01 * one.base, 2) for other in rhythms), one))
    return [rhythm for _, rhythm in sorted(out, key=lambda pair: -pair[0])[:most]]


def _ratio(x: Floats, size: int, width: int) -> Floats:
    """Periodogram, zero-padded to ``size``, over the local level of noise."""
    power = np.abs(np.fft.rfft(x)) ** 2
    padded = np.pad(power, width, mode="reflect")
    local = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1), axis=1) / np.log(2)
    dense = np.abs(np.fft.rfft(x, size)) ** 2
    level = np.interp(np.linspace(0, 1, len(dense)), np.linspace(0, 1, len(local)), local)
    out: Floats = dense / np.maximum(level, 1e-30)
    return out


def remove(basis: Floats, x: Floats) -> Floats:
    """``x`` without its projection on the columns of ``basis``."""
    if not basis.shape[1]:
        return x
    q, r = np.linalg.qr(basis)
    q = q[:, np.abs(np.diag(r)) > 1e-8 * np.abs(r).max()]
    out: Floats = x - q @ (q.T @ x)
    return out


def whitener(y: Floats, most: int) -> Floats:
    """Filter ``[1, -a1 … -ap]`` of the autoregression that BIC prefers (Yule-Walker, order at most ``most``)."""
    n = len(y)
    y = y - y.mean()
    cov = np.array([float(y[: n - k] @ y[k:]) / n for k in range(most + 1)])
    if cov[0] <= 0:
        return np.ones(1)
    best, best_bic, taps = np.ones(1), np.log(cov[0]), np.zeros(0)
    error = cov[0]
    for p in range(1, most + 1):  # Levinson-Durbin
        reflection = (cov[p] - float(taps @ cov[p - 1 : 0 : -1]) if p > 1 else cov[1]) / error
        taps = np.concatenate([taps - reflection * taps[::-1], [reflection]])
        error *= max(1 - reflection**2, 1e-12)
        bic = np.log(error) + p * np.log(n) / n
        if bic < best_bic:
            best, best_bic = np.concatenate([[1.0], -taps]), bic
    return best


def whiten(taps: Floats, x: Floats) -> Floats:
    """``x`` (columns) filtered; the first ``len(taps) - 1`` rows are dropped."""
    p, n = len(taps) - 1, len(x)
    out: Floats = x[p:] * taps[0]
    for k in range(1, p + 1):
        out = out + taps[k] * x[p - k : n - k]
    return out
