"""Fits the confidence of voted levels on development seeds: python benchmarks/iterations/calibrate.py [--count 400]

Every stream is run with the threshold at 0, so that weak candidates are seen, too. Prints the weights for ``confidence.py``.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from harsh import Score, harsh, silent


def fitted(rows: np.ndarray, right: np.ndarray, ridge: float = 0.05) -> np.ndarray:
    """Weights of a logistic model, by Newton's method."""
    scale = np.where(rows.std(0) > 0, rows.std(0), 1.0)
    penalty = ridge * len(rows) / 100 * scale**2
    penalty[0] = 1e-6
    weights = np.zeros(rows.shape[1])
    for _ in range(60):
        p = 1 / (1 + np.exp(-rows @ weights))
        gradient = rows.T @ (p - right) + penalty * weights
        weights -= np.linalg.solve((rows * (p * (1 - p))[:, None]).T @ rows + np.diag(penalty), gradient)
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--aperiodic", type=int, default=600)
    parser.add_argument("--save", help="keep the rows, as .npz")
    args = parser.parse_args()
    with ProcessPoolExecutor(2) as pool:
        scores: list[Score] = list(pool.map(harsh, range(args.first, args.first + args.count), [0.0] * args.count, chunksize=4))
        scores += pool.map(silent, range(args.first, args.first + args.aperiodic), [0.0] * args.aperiodic, chunksize=8)
    used = [s for s in scores if s.evidence]
    rows, right = np.array([s.evidence for s in used]), np.array([s.right for s in used], float)
    if args.save:
        np.savez(args.save, rows=rows, right=right)
    weights = fitted(rows, right)
    p = 1 / (1 + np.exp(-rows @ weights))
    bins = np.minimum((p * 10).astype(int), 9)
    print("weights", tuple(round(float(w), 3) for w in weights))
    for b in np.unique(bins):
        mine = bins == b
        print(f"{b / 10:.1f}: {mine.sum()} streams, said {p[mine].mean():.2f}, right {right[mine].mean():.2f}")


if __name__ == "__main__":
    main()
