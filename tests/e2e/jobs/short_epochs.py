"""Epochs of only eight steps, each followed by validation and a saved model: the step is the iteration, not the epoch."""

import argparse
import json
import os
import pickle
import tempfile
import time

import numpy as np
from sklearn.datasets import load_digits


def softmax(z):
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


def train_step(params, x, y, lr):
    hidden = np.tanh(x @ params["w1"])
    p = softmax(hidden @ params["w2"])
    loss = float(-np.log(p[np.arange(len(y)), y] + 1e-12).mean())
    p[np.arange(len(y)), y] -= 1.0
    p /= len(y)
    grad2 = hidden.T @ p
    grad1 = x.T @ ((p @ params["w2"].T) * (1 - hidden**2))
    params["w1"] -= lr * grad1
    params["w2"] -= lr * grad2
    return loss


def validate(params, x, y):
    return float((np.tanh(x @ params["w1"]) @ params["w2"]).argmax(axis=1).__eq__(y).mean())


def save(params, path):
    with open(path + ".tmp", "wb") as f:
        pickle.dump(params, f)
    os.replace(path + ".tmp", path)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=320)
    ap.add_argument("--seed", type=int, default=3)
    ap.add_argument("--truth")
    a = ap.parse_args()
    digits = load_digits()
    x, y = np.repeat(digits.data / 16.0, 2, axis=1), digits.target
    train, test = slice(0, 1600), slice(1600, None)
    rng = np.random.default_rng(a.seed)
    params = {"w1": rng.normal(size=(128, 2400)) * 0.1, "w2": rng.normal(size=(2400, 10)) * 0.05}
    times = []
    with tempfile.TemporaryDirectory() as folder:
        last = time.time_ns()
        for epoch in range((a.steps + 7) // 8):
            order = rng.permutation(1600)
            for i in range(min(8, a.steps - 8 * epoch)):
                chosen = order[i * 200 : (i + 1) * 200]
                loss = train_step(params, x[train][chosen], y[train][chosen], 0.05)
                now = time.time_ns()
                times.append(("train", last, now))
                last = now
            accuracy = validate(params, x[test], y[test])
            now = time.time_ns()
            times.append(("validation", last, now))
            last = now
            save(params, os.path.join(folder, "model.pickle"))
            now = time.time_ns()
            times.append(("checkpoint", last, now))
            last = now
            print("epoch %d loss %.4f accuracy %.3f" % (epoch, loss, accuracy), flush=True)
    print("final loss", repr(loss))
    if a.truth:
        with open(a.truth, "w") as f:
            json.dump({"steps": [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in times], "final_loss": loss}, f)


if __name__ == "__main__":
    main()
