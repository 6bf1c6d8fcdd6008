"""A two-layer network in numpy, everything at module level: no function, no class, one loop."""

import argparse
import json
import time

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--batch", type=int, default=640)
parser.add_argument("--seed", type=int, default=3)
parser.add_argument("--truth")
args = parser.parse_args()

rng = np.random.default_rng(args.seed)
X = rng.normal(size=(8192, 128))
Y = np.sin(X @ rng.normal(size=(128, 8)))
W1, b1 = rng.normal(size=(128, 384)) * 0.1, np.zeros(384)
W2, b2 = rng.normal(size=(384, 8)) * 0.1, np.zeros(8)
lr = 0.01
times = []
last = time.time_ns()
for i in range(args.steps):
    pick = rng.integers(0, len(X), args.batch)
    x, y = X[pick], Y[pick]
    h = np.tanh(x @ W1 + b1)
    p = h @ W2 + b2
    err = p - y
    loss = float((err**2).mean())
    dp = 2 * err / err.size
    dW2, db2 = h.T @ dp, dp.sum(0)
    dh = (dp @ W2.T) * (1 - h**2)
    dW1, db1 = x.T @ dh, dh.sum(0)
    W1 -= lr * dW1
    b1 -= lr * db1
    W2 -= lr * dW2
    b2 -= lr * db2
    order = np.argsort(h, axis=1, kind="stable")
    sparsity = float((np.abs(h[:, order[0]]) < 0.01).mean())
    now = time.time_ns()
    times.append(("train", last, now))
    last = now
    if i % 50 == 0:
        print(f"{i:5d} {loss:.5f} {sparsity:.3f}", flush=True)
print("final loss", repr(loss))
if args.truth:
    with open(args.truth, "w") as f:
        json.dump({"steps": [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in times], "final_loss": loss}, f)
