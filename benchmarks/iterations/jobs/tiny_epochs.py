# ruff: noqa
import time
import numpy as np
import truth

rng = np.random.default_rng(0)
import sys

SCALE = int(sys.argv[1]) if len(sys.argv) > 1 else 1
x = rng.standard_normal((1600 * SCALE, 500))
y = rng.standard_normal((1600 * SCALE, 1))
w1, w2 = rng.standard_normal((500, 400)) * 0.05, rng.standard_normal((400, 1)) * 0.05


def train_epoch(bs):
    global w1, w2
    total = 0
    for i in range(0, len(x), bs):
        t0 = time.time_ns()
        xb, yb = x[i : i + bs], y[i : i + bs]
        h = np.maximum(xb @ w1, 0)
        p = h @ w2
        d = 2 * (p - yb) / bs
        g2 = h.T @ d
        g1 = xb.T @ (d @ w2.T * (h > 0))
        w1 -= 0.01 * g1
        w2 -= 0.01 * g2
        total += float((d**2).sum())
        truth.done(t0)
    return total


def validate():
    return float(((np.maximum(x @ w1, 0) @ w2 - y) ** 2).mean())


for epoch in range(25):
    train_epoch(200 * SCALE)
    print(epoch, validate())
