# ruff: noqa
import time
import numpy as np
import truth

rng = np.random.default_rng(0)


class Network:
    def __init__(self, sizes):
        self.weights = [rng.standard_normal((b, a)) * 0.05 for a, b in zip(sizes, sizes[1:])]

    def backprop(self, x, y):
        acts = [x]
        for w in self.weights:
            acts.append(np.tanh(w @ acts[-1]))
        delta, grads = acts[-1] - y, []
        for w, a in zip(reversed(self.weights), reversed(acts[:-1])):
            grads.append(delta @ a.T)
            delta = (w.T @ delta) * (1 - a * a)
        return grads[::-1]

    def update_mini_batch(self, mini_batch, eta):
        nabla = [np.zeros_like(w) for w in self.weights]
        for x, y in mini_batch:
            nabla = [n + d for n, d in zip(nabla, self.backprop(x, y))]
        self.weights = [w - eta / len(mini_batch) * n for w, n in zip(self.weights, nabla)]

    def SGD(self, data, epochs, size):
        for j in range(epochs):
            rng.shuffle(data)
            batches = [data[k : k + size] for k in range(0, len(data), size)]
            for batch in batches:
                t0 = time.time_ns()
                self.update_mini_batch(batch, 3.0)
                truth.done(t0)
            print("epoch", j)


import sys

SCALE = int(sys.argv[1]) if len(sys.argv) > 1 else 1
data = [(rng.standard_normal((300, 1)), rng.standard_normal((10, 1))) for _ in range(400)]
Network([300, 200 * SCALE, 10]).SGD(data, 6, 16)
