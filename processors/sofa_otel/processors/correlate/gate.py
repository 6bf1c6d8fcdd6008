"""Gate: two tests of the same edge that fail differently.

*Joint*: first differences, whitened by the response's own autoregression (generalised least squares), all swarms' seconds per
iteration in one regression, each at its best lag; the standard error is the larger of the classical and the Newey-West one.
*Shift*: detrended levels, whitened by their own autoregression, swarms as shares of time; the partial correlation is held
against those of all circular shifts, which keep the memory of both series and break the relation (Chwialkowski & Gretton 2014).
Seconds and shares matter: iterations are a closed sum, so a swarm that grows makes all other shares fall. Only a mover is
significant in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.processors.correlate.nuisance import clip, combs, common, remove, slow, whiten, whitener

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LAGS: Final = (0, 1, 2, -1)
SHORT_LAGS: Final = (0, 1)
_TINY: Final = 1e-12


@dataclass(frozen=True)
class Tested:
    """Both tests of one response against every swarm, ``(swarms,)`` each; p-values are corrected for the choice of the lag.

    Attributes:
        lag: Units by which the resource follows.
        joint_p, shift_p: p-values.
        joint_r, shift_r: Partial correlations.
    """

    lag: Ints
    joint_p: Floats
    joint_r: Floats
    shift_p: Floats
    shift_r: Floats


@dataclass(frozen=True)
class Frame:
    """Rows that can be tested: unit numbers whose neighbours, as far as the lags reach, are valid and linked."""

    rows: Ints
    lags: tuple[int, ...]


def frame_of(valid: NDArray[np.bool_], linked: NDArray[np.bool_]) -> Frame:
    """The rows of a gappy sequence of units; shorter ones are asked for fewer lags."""
    step = np.flatnonzero(valid[1:] & valid[:-1] & linked[1:]) + 1
    good = np.zeros(len(valid) + 4, np.bool_)
    good[step] = True
    n = len(valid)
    for lags in (LAGS, SHORT_LAGS):
        rows = np.arange(n)
        keep = np.ones(n, np.bool_)
        for lag in lags:
            at = rows - lag
            keep &= (at >= 0) & (at < n) & good[np.clip(at, 0, n)]
        if keep.sum() >= 60 or lags is SHORT_LAGS:
            return Frame(rows[keep], lags)
    raise AssertionError("unreachable")


class Design:
    """The swarms' side of both tests, prepared once for all responses on the same units.

    Args:
        seconds, share: ``(n, swarms)`` as in ``Units``.
        frame: Rows to use.
    """

    def __init__(self, seconds: Floats, share: Floats, frame: Frame) -> None:
        self.frame = frame
        m = len(frame.rows)
        self._drift = _orthonormal(slow(m, min(6, m // 12)))
        self._detrend = _orthonormal(slow(m, max(4, m // 8)))
        moves = [clip(seconds[frame.rows - lag] - seconds[frame.rows - lag - 1]) for lag in frame.lags]
        self._moves = [_off(self._drift, each) for each in moves]
        rhythms = [rhythm for move in self._moves[0].T for rhythm in combs(move)[1]]
        self._hints = common(rhythms)
        self._levels = [clip(_off(self._detrend, share[frame.rows - lag])) for lag in frame.lags]

    def test(self, y: Floats) -> Tested | None:
        """Both tests of one response ``y`` ``(n,)``; None when it hardly ever changes."""
        from scipy import stats

        rows, lags = self.frame.rows, np.array(self.frame.lags)
        m, swarms = len(rows), self._moves[0].shape[1]
        dy = clip(y[rows] - y[rows - 1])
        if _effective(dy) < 12:
            return None
        dy = _off(self._drift, dy)
        tones, _ = combs(dy, self._hints)
        moved = np.column_stack([dy, *self._moves])
        if tones.shape[1]:
            moved = remove(_off(self._drift, tones), moved)
        taps = whitener(moved[:, 0], max(1, min(6, m // 15)))
        moved = whiten(taps, moved)
        white = moved[:, 0]
        moved = moved[:, 1:] / (np.sqrt((moved[:, 1:] ** 2).sum(axis=0)) + _TINY)
        lost = self._drift.shape[1] + tones.shape[1] + len(taps) - 1
        marginal = np.abs(white @ moved).reshape(len(lags), swarms) / (np.linalg.norm(white) + _TINY)
        marginal[0] += 0.5 / np.sqrt(m)  # a lag needs a reason
        pick = np.argmax(marginal, axis=0)
        chosen = moved[:, pick * swarms + np.arange(swarms)]
        t, r, df = _joint(white, chosen, np.zeros((len(white), 0)), lost)
        # A strong mover may act over several lags; what it leaves behind must not be credited to others.
        strong = [int(k) for k in np.argsort(-np.abs(t))[:4] if 2 * stats.t.sf(abs(t[k]), df) * swarms < 0.05]
        if strong:
            rest = [moved[:, lag * swarms + k] for k in strong for lag in range(len(lags)) if lag != pick[k]]
            t, r, df = _joint(white, chosen, np.column_stack(rest), lost)
        joint_p = np.minimum(2 * stats.t.sf(np.abs(t), df) * len(lags), 1.0)
        shift_r, size = self._shift(y, pick, np.argsort(-np.abs(t)), tones)
        shift_t = shift_r * np.sqrt((size - 2) / np.maximum(1 - shift_r**2, _TINY))
        shift_p = np.minimum(2 * stats.t.sf(np.abs(shift_t), size - 2) * len(lags), 1.0)
        return Tested(lags[pick], joint_p, r, shift_p, shift_r)

    def _shift(self, y: Floats, pick: Ints, order: Ints, tones: Floats) -> tuple[Floats, Floats]:
        """Partial correlations of levels given the strongest few others, and the sample size that their circular shifts imply."""
        m, swarms = len(self.frame.rows), len(pick)
        v = clip(_off(self._detrend, y[self.frame.rows]))
        x = np.take_along_axis(np.stack(self._levels), pick[None, None, :], axis=0)[0]
        if tones.shape[1]:
            both = remove(_off(self._detrend, tones), np.column_stack([v, x]))
            v, x = both[:, 0], both[:, 1:]
        taps = whitener(v, max(1, min(6, m // 15)))
        both = whiten(taps, np.column_stack([v, x]))
        v, x = both[:, 0], both[:, 1:]
        lost = self._detrend.shape[1] + tones.shape[1] + len(taps) - 1
        top = [int(k) for k in order[: min(6, m // 12, swarms - 1)]]
        r, size = np.zeros(swarms), np.full(swarms, 3.0)
        others = [k for k in range(swarms) if k not in top]
        for tested, given in [(others, top), *(([k], [j for j in top if j != k]) for k in top)]:
            if tested:
                part = remove(x[:, given], np.column_stack([v, x[:, tested]]))
                r[tested], size[tested] = _against_shifts(part[:, 0], part[:, 1:], lost + len(given))
        return r, size


def _orthonormal(basis: Floats) -> Floats:
    return np.asarray(np.linalg.qr(basis)[0], np.float64)


def _off(q: Floats, x: Floats) -> Floats:
    """``x`` without its part in the span of orthonormal columns."""
    out: Floats = x - q @ (q.T @ x)
    return out


def _effective(x: Floats) -> float:
    """How many units really carry the variance."""
    x = x - x.mean()
    return float((x**2).sum() ** 2 / max(float((x**4).sum()), _TINY**2))


def _joint(y: Floats, x: Floats, extra: Floats, lost: int) -> tuple[Floats, Floats, float]:
    """t statistics and partial correlations of the columns of ``x`` in one regression with ``extra``, and degrees of freedom."""
    n, k = x.shape
    if extra.shape[1]:
        both = remove(extra, np.column_stack([y, x]))
        y, x = both[:, 0], both[:, 1:]
    df = max(float(n - k - extra.shape[1] - lost), 3.0)
    gram = x.T @ x
    inverse = np.linalg.inv(gram + 1e-9 * np.eye(k) * max(float(np.trace(gram)) / k, _TINY))
    beta = inverse @ (x.T @ y)
    error = y - x @ beta
    own = x @ inverse  # column j: swarm j without all others, over its own variance
    norm = np.diag(inverse)
    classical = float(error @ error) / df * norm
    score = own * error[:, None]
    robust = (score**2).sum(axis=0)
    reach = int(4 * (n / 100) ** (2 / 9))
    for lag in range(1, reach + 1):
        robust = robust + 2 * (1 - lag / (reach + 1)) * (score[lag:] * score[:-lag]).sum(axis=0)
    t = beta / np.sqrt(np.maximum(classical, robust * n / df) + _TINY**2)
    return t, t / np.sqrt(t**2 + df), df


def _against_shifts(v: Floats, x: Floats, lost: int) -> tuple[Floats, Floats]:
    n = len(v)
    v = v / (np.linalg.norm(v) + _TINY)
    x = x / (np.linalg.norm(x, axis=0) + _TINY)
    cross = np.fft.irfft(np.fft.rfft(v)[:, None] * np.conj(np.fft.rfft(x, axis=0)), n=n, axis=0)
    guard = min(8, n // 8)
    null = cross[guard : n - guard]
    # Neither series' memory (shifts) nor a shared rhythm of their variance (the products themselves) may pass for a relation.
    spread = np.maximum((null**2).mean(axis=0), ((v[:, None] * x) ** 2).sum(axis=0))
    size = 1.0 / np.maximum(spread, 1.0 / n)
    return cross[0], np.maximum(np.minimum(size, n - lost), 3.0)
