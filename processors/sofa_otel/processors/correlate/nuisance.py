"""Nuisance: what two series share without one moving the other (trends, slow drift, periodic work, memory of their past).

Everything here is decided on the response alone and then applied to both sides alike, so that a least-squares estimate stays what
it was (Frisch-Waugh-Lovell) while its test becomes valid.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MAX_LINES: Final = 8


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


def lines(y: Floats) -> Floats:
    """Sine and cosine columns of the spectral lines of ``y`` (none: ``(n, 0)``).

    A line stands out of the periodogram around it more than the largest of ``n/2`` exponential ordinates does in 1 of 500 series.
    """
    n = len(y)
    left = y - y.mean()
    taper = np.hanning(n)
    columns: list[Floats] = []
    at = np.arange(n)
    width = max(n // 20, 6)
    size = 1 << (4 * n - 1).bit_length()
    for _ in range(_MAX_LINES):
        power = np.abs(np.fft.rfft(left * taper)) ** 2
        padded = np.pad(power, width, mode="reflect")
        local = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1), axis=1) / np.log(2)
        ratio = power / np.maximum(local, 1e-30)
        ratio[:3] = 0.0
        if ratio.max() < np.log(n / 2 * 500):
            break
        peak = int(np.argmax(ratio))
        dense = np.abs(np.fft.rfft(left * taper, size))
        lo, hi = int((peak - 1) * size / n), int((peak + 1) * size / n) + 1
        omega = 2 * np.pi * (lo + int(np.argmax(dense[lo:hi]))) / size
        columns += [np.cos(omega * at), np.sin(omega * at)]
        basis, _ = np.linalg.qr(np.column_stack([np.ones(n), *columns]))
        left = y - basis @ (basis.T @ y)
    return np.column_stack(columns) if columns else np.zeros((n, 0))


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
