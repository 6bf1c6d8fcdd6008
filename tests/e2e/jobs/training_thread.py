"""Training runs in a thread of its own; the main thread shows progress, as a program with a window would."""

import argparse
import json
import threading
import time

import numpy as np


class Model:
    """Logistic regression on random Fourier features."""

    def __init__(self, seed, inputs=32, features=600, outputs=5):
        self.rng = np.random.default_rng(seed)
        self.project = self.rng.normal(size=(inputs, features))
        self.phase = self.rng.uniform(0, 6.28, features)
        self.w = np.zeros((features, outputs))
        self.target = self.rng.normal(size=(inputs, outputs))

    def batch(self, size):
        x = self.rng.normal(size=(size, 32))
        return x, np.argmax(np.sin(x @ self.target), axis=1)

    def learn(self, x, y):
        f = np.cos(x @ self.project + self.phase) / 17.0
        z = f @ self.w
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        loss = -np.log(p[np.arange(len(y)), y]).mean()
        p[np.arange(len(y)), y] -= 1
        self.w -= 20.0 * f.T @ p / len(y)
        return float(loss)


def train(model, steps, times, state):
    last = time.time_ns()
    for n in range(steps):
        x, y = model.batch(1800)
        state["loss"] = model.learn(x, y)
        state["step"] = n + 1
        now = time.time_ns()
        times.append(("train", last, now))
        last = now


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=350)
    ap.add_argument("--seed", type=int, default=3)
    ap.add_argument("--truth")
    a = ap.parse_args()
    times, state = [], {"step": 0, "loss": float("nan")}
    thread = threading.Thread(target=train, args=(Model(a.seed), a.steps, times, state), name="training")
    thread.start()
    while thread.is_alive():
        thread.join(0.7)
        print("progress", file=__import__("sys").stderr, flush=True)
    print("final loss", repr(state["loss"]))
    if a.truth:
        with open(a.truth, "w") as f:
            json.dump({"steps": [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in times], "final_loss": state["loss"]}, f)


main()
