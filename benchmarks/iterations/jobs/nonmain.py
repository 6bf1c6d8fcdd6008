# ruff: noqa
import threading, time
import numpy as np
import truth

rng = np.random.default_rng(0)


class Trainer:
    def __init__(self):
        self.w = rng.standard_normal((400, 400)) * 0.05

    def train_step(self, x):
        y = x
        for _ in range(4):
            y = np.tanh(y @ self.w)
        g = x.T @ (y - x) / len(x)
        self.w -= 0.01 * g
        return float((y - x).mean())

    def run(self):
        for epoch in range(5):
            for i in range(30):
                t0 = time.time_ns()
                x = rng.standard_normal((300, 400))
                loss = self.train_step(x)
                truth.done(t0)


t = threading.Thread(target=Trainer().run)
t.start()
while t.is_alive():
    time.sleep(0.2)
t.join()
