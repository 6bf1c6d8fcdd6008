"""Nothing is wrong here: one process, one thread, all time in matrix products."""

import argparse
import json
import time

import numpy as np

ap = argparse.ArgumentParser()
ap.add_argument("--steps", type=int, default=300)
ap.add_argument("--width", type=int, default=512)
ap.add_argument("--seed", type=int, default=5)
ap.add_argument("--truth")
a = ap.parse_args()
rng = np.random.default_rng(a.seed)
data = rng.normal(size=(4096, a.width))
goal = np.tanh(data @ rng.normal(size=(a.width, 16)))
w1, w2 = rng.normal(size=(a.width, a.width)) / a.width**0.5, rng.normal(size=(a.width, 16)) / a.width**0.5


def forward(x):
    h = np.tanh(x @ w1)
    return h, h @ w2


def backward(x, h, error):
    return x.T @ ((error @ w2.T) * (1 - h * h)), h.T @ error


times = []
last = time.time_ns()
for step in range(a.steps):
    chosen = rng.integers(0, len(data), 512)
    x = data[chosen]
    h, p = forward(x)
    error = (p - goal[chosen]) / len(x)
    g1, g2 = backward(x, h, error)
    w1 -= 0.5 * g1
    w2 -= 0.5 * g2
    now = time.time_ns()
    times.append(("train", last, now))
    last = now
    if step % 50 == 0:
        print("step %d loss %.5f" % (step, float((error**2).sum()) * len(x)), flush=True)
loss = float((error**2).sum()) * len(x)
print("final loss", repr(loss))
if a.truth:
    with open(a.truth, "w") as f:
        steps = [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in times]
        json.dump({"steps": steps, "final_loss": loss, "cause": None}, f)
