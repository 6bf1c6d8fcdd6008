"""An endless generator and ``while``: train until a number of samples was seen, with the odd slow batch of another length."""

import argparse
import json
import time

import numpy as np


def sequences(rng):
    while True:
        length = int(rng.choice([24, 32, 40], p=[0.25, 0.5, 0.25]))
        x = rng.normal(size=(96, length, 24))
        yield x, np.cumsum(x[:, :, :1], axis=1)[:, -1]


class Rnn:
    def __init__(self, rng, hidden=128):
        self.wx = rng.normal(size=(24, hidden)) * 0.2
        self.wh = np.linalg.qr(rng.normal(size=(hidden, hidden)))[0] * 0.9
        self.wo = rng.normal(size=(hidden, 1)) * 0.1

    def loss_and_grads(self, x, y):
        steps = x.shape[1]
        hs = [np.zeros((len(x), self.wh.shape[0]))]
        for t in range(steps):
            hs.append(np.tanh(x[:, t] @ self.wx + hs[-1] @ self.wh))
        error = hs[-1] @ self.wo - y
        go = hs[-1].T @ error / len(x)
        gx, gh = np.zeros_like(self.wx), np.zeros_like(self.wh)
        d = error @ self.wo.T / len(x)
        for t in range(steps - 1, -1, -1):
            d = d * (1 - hs[t + 1] ** 2)
            gx += x[:, t].T @ d
            gh += hs[t].T @ d
            d = d @ self.wh.T
        return float((error**2).mean()), gx, gh, go


ap = argparse.ArgumentParser()
ap.add_argument("--steps", type=int, default=700)
ap.add_argument("--seed", type=int, default=3)
ap.add_argument("--truth")
a = ap.parse_args()
rng = np.random.default_rng(a.seed)
model, stream = Rnn(rng), sequences(rng)
times, smooth, done = [], None, 0
last = time.time_ns()
while True:
    x, y = next(stream)
    loss, gx, gh, go = model.loss_and_grads(x, y)
    norm = np.sqrt(sum((g**2).sum() for g in (gx, gh, go)))
    scale = 0.01 * min(1.0, 5.0 / norm)
    model.wx -= scale * gx
    model.wh -= scale * gh
    model.wo -= scale * go
    smooth = loss if smooth is None else 0.95 * smooth + 0.05 * loss
    done += 1
    now = time.time_ns()
    times.append(("train", last, now))
    last = now
    if done % 100 == 0:
        print("seen", done * 96, "loss %.4f" % smooth, flush=True)
    if done >= a.steps:
        break
print("final loss", repr(smooth))
if a.truth:
    with open(a.truth, "w") as f:
        json.dump({"steps": [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in times], "final_loss": smooth}, f)
