# ruff: noqa
import queue, threading, time
import numpy as np
import truth

import sys

SCALE = int(sys.argv[1]) if len(sys.argv) > 1 else 1
q = queue.Queue(4)
STEPS = 150


def load():
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        x = rng.standard_normal((256 * SCALE, 300))
        y = x[:, 0] > 0
        for _ in range(5):
            x = np.roll(x, 1, 1)
        q.put((x, y))


threading.Thread(target=load, daemon=True).start()
w1 = np.random.randn(300, 600) * 0.05
w2 = np.random.randn(600) * 0.05
for step in range(STEPS):
    t0 = time.time_ns()
    x, y = q.get()
    h = np.tanh(x @ w1)
    p = 1 / (1 + np.exp(-h @ w2))
    d = (p - y) / len(y)
    g2 = h.T @ d
    g1 = x.T @ (np.outer(d, w2) * (1 - h * h))
    w1 -= 0.1 * g1
    w2 -= 0.1 * g2
    truth.done(t0)
