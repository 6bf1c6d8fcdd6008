# ruff: noqa
import sys, time
import numpy as np
import truth

rng = np.random.default_rng(0)
N, BS = int(sys.argv[1]) if len(sys.argv) > 1 else 4000, int(sys.argv[2]) if len(sys.argv) > 2 else 200
EPOCHS = int(sys.argv[3]) if len(sys.argv) > 3 else 8
X, Y = rng.standard_normal((N, 256)), rng.integers(0, 10, N)


class Layer:
    def __init__(self, i, o):
        self.w = rng.standard_normal((i, o)) / i**0.5

    def forward(self, x):
        self.x = x
        self.y = np.maximum(x @ self.w, 0)
        return self.y

    def backward(self, g, lr):
        g = g * (self.y > 0)
        gx = g @ self.w.T
        self.w -= lr * (self.x.T @ g)
        return gx


layers = [Layer(256, 512), Layer(512, 512), Layer(512, 10)]


def forward(x):
    for layer in layers:
        x = layer.forward(x)
    return x


def backward(g):
    for layer in reversed(layers):
        g = layer.backward(g, 1e-3)


for epoch in range(EPOCHS):
    order = rng.permutation(N)
    for i in range(0, N, BS):
        t0 = time.time_ns()
        idx = order[i : i + BS]
        out = forward(X[idx])
        p = np.exp(out - out.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(idx)), Y[idx]] -= 1
        backward(p / BS)
        truth.done(t0)
    acc = (forward(X[:1000]).argmax(1) == Y[:1000]).mean()
    print(epoch, acc)
