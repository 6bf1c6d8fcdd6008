"""A framework in small: Trainer, callbacks, a model with layers, all in numpy."""

import argparse
import json
import time

import numpy as np


class Callback:
    def on_epoch_begin(self, trainer):
        pass

    def on_step_end(self, trainer, loss):
        pass

    def on_epoch_end(self, trainer):
        pass


class Progress(Callback):
    def on_epoch_end(self, trainer):
        print(f"epoch {trainer.epoch} loss {trainer.average:.4f}", flush=True)


class Average(Callback):
    def on_epoch_begin(self, trainer):
        self.sum = self.count = 0

    def on_step_end(self, trainer, loss):
        self.sum += loss
        self.count += 1
        trainer.average = self.sum / self.count


class Decay(Callback):
    def on_epoch_end(self, trainer):
        trainer.lr *= 0.95


class Dense:
    def __init__(self, rng, n_in, n_out):
        self.w = rng.normal(size=(n_in, n_out)) / np.sqrt(n_in)
        self.b = np.zeros(n_out)

    def forward(self, x):
        self.x = x
        return x @ self.w + self.b

    def backward(self, g):
        self.dw, self.db = self.x.T @ g, g.sum(0)
        return g @ self.w.T

    def update(self, lr):
        self.w -= lr * self.dw
        self.b -= lr * self.db


class Relu:
    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, g):
        return g * self.mask

    def update(self, lr):
        pass


class Trainer:
    def __init__(self, layers, callbacks, lr):
        self.layers, self.callbacks, self.lr = layers, callbacks, lr
        self.epoch, self.average, self.times = 0, 0.0, []

    def each(self, event, *args):
        for callback in self.callbacks:
            getattr(callback, event)(self, *args)

    def step(self, x, y):
        for layer in self.layers:
            x = layer.forward(x)
        p = np.exp(x - x.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        loss = -np.log(p[np.arange(len(y)), y] + 1e-12).mean()
        p[np.arange(len(y)), y] -= 1
        g = p / len(y)
        for layer in reversed(self.layers):
            g = layer.backward(g)
        for layer in self.layers:
            layer.update(self.lr)
        return float(loss)

    def evaluate(self, x, y):
        for layer in self.layers:
            x = layer.forward(x)
        return float((x.argmax(1) == y).mean())

    def fit(self, x, y, steps, batch, rng, held_out):
        done = 0
        last = time.time_ns()
        while done < steps:
            self.each("on_epoch_begin")
            order = rng.permutation(len(x))
            for lo in range(0, len(x) - batch + 1, batch):
                chosen = order[lo : lo + batch]
                loss = self.step(x[chosen], y[chosen])
                self.each("on_step_end", loss)
                done += 1
                now = time.time_ns()
                self.times.append(("train", last, now))
                last = now
                if done == steps:
                    break
            self.epoch += 1
            self.accuracy = self.evaluate(*held_out)
            self.each("on_epoch_end")
            now = time.time_ns()
            self.times.append(("validation", last, now))
            last = now


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=360)
    ap.add_argument("--seed", type=int, default=3)
    ap.add_argument("--truth")
    a = ap.parse_args()
    rng = np.random.default_rng(a.seed)
    x = rng.normal(size=(18000, 200))
    y = np.argmax(x @ rng.normal(size=(200, 10)) + rng.normal(size=(18000, 10)), axis=1)
    layers = [Dense(rng, 200, 512), Relu(), Dense(rng, 512, 512), Relu(), Dense(rng, 512, 10)]
    trainer = Trainer(layers, [Average(), Progress(), Decay()], lr=0.1)
    trainer.fit(x[:16000], y[:16000], a.steps, 400, rng, (x[16000:], y[16000:]))
    print("final loss", repr(trainer.average))
    if a.truth:
        with open(a.truth, "w") as f:
            steps = [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in trainer.times]
            json.dump({"steps": steps, "final_loss": trainer.average}, f)


if __name__ == "__main__":
    main()
