# ruff: noqa
import time
import numpy as np
import truth

rng = np.random.default_rng(0)
rows = []
for i in range(60):  # preparation: a loop that is no training
    part = rng.standard_normal((800, 300))
    part = np.sort(part, axis=1)
    rows.append(part)
x = np.concatenate(rows)
y = x @ rng.standard_normal(300)
w = np.zeros(300)
for epoch in range(120):
    t0 = time.time_ns()
    pred = x @ w
    err = pred - y
    grad = x.T @ err / len(y)
    for _ in range(2):
        loss = float((err**2).mean())
    w = w - 1e-3 * grad
    if epoch % 20 == 0:
        print(epoch, loss)
    truth.done(t0)
