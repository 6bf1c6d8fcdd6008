# ruff: noqa
import time
import numpy as np
import truth

rng = np.random.default_rng(0)
H, V, T = 400, 60, 25
Wxh, Whh, Why = rng.standard_normal((H, V)) * 0.01, rng.standard_normal((H, H)) * 0.01, rng.standard_normal((V, H)) * 0.01


def loss_fun(inputs, targets, h):
    xs, hs, ps, loss = {}, {-1: h}, {}, 0
    for t in range(len(inputs)):
        xs[t] = np.zeros((V, 1))
        xs[t][inputs[t]] = 1
        hs[t] = np.tanh(Wxh @ xs[t] + Whh @ hs[t - 1])
        y = Why @ hs[t]
        ps[t] = np.exp(y) / np.exp(y).sum()
        loss -= np.log(ps[t][targets[t], 0])
    gx, gh, gy = np.zeros_like(Wxh), np.zeros_like(Whh), np.zeros_like(Why)
    dn = np.zeros_like(h)
    for t in reversed(range(len(inputs))):
        dy = ps[t].copy()
        dy[targets[t]] -= 1
        gy += dy @ hs[t].T
        dh = (1 - hs[t] ** 2) * (Why.T @ dy + dn)
        gx += dh @ xs[t].T
        gh += dh @ hs[t - 1].T
        dn = Whh.T @ dh
    for d in (gx, gh, gy):
        np.clip(d, -5, 5, out=d)
    return loss, gx, gh, gy, hs[len(inputs) - 1]


data = rng.integers(0, V, 100000)
n = p = 0
h = np.zeros((H, 1))
mems = [np.zeros_like(w) for w in (Wxh, Whh, Why)]
while n < 200:
    t0 = time.time_ns()
    loss, gx, gh, gy, h = loss_fun(data[p : p + T], data[p + 1 : p + T + 1], h)
    for w, g, m in zip((Wxh, Whh, Why), (gx, gh, gy), mems):
        m += g * g
        w -= 0.1 * g / np.sqrt(m + 1e-8)
    if n % 100 == 0:
        print(n, loss)
    p += T
    n += 1
    truth.done(t0)
